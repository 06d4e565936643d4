#include "guests/scenarios/bitmap.h"

#include "guests/lib/cpu.h"

static uint32_t l2_msr;

void bitmap_l2_rdmsr_caught(void)
{
    (void)FAULT_OF((void)cpu_rdmsr(l2_msr));
}

void bitmap_start(struct vm *vm)
{
    vm_start(vm, l2_rdmsr, 0);
}

void bitmap_expect_read(struct vm *vm, void (*code)(void), uint32_t msr, bool exits, const char *file, int line)
{
    vm_set_code(vm, code);
    vm->regs[RCX] = l2_msr = msr;
    if (exits) {
        vm_expect(vm, EXIT_RDMSR, file, line);
        vm_skip(vm);
    }
    vm_expect_done(vm, file, line);
}
