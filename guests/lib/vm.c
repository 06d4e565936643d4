#include "guests/lib/vm.h"

#include "guests/lib/cpu.h"
#include "guests/lib/desc.h"
#include "guests/lib/page.h"
#include "guests/lib/paging.h"

#define L2_STACK_PAGES 2
#define L2_FAULT 0xfa17 /* in RAX of the VMCALL that reports an unexpected fault of L2 */

#define AR_CODE64 0xa09b
#define AR_DATA 0xc093
#define AR_TSS_BUSY 0x8b
#define TSS_LIMIT 0x67
#define TABLE_LIMIT 0xffff
#define DR7_RESET 0x400

extern uint8_t l2_return[];

bool vm_default_ept;
void (*vm_also)(struct vm *);

static bool in_l2;

static void set_controls(enum vmcs_field field, uint32_t wanted)
{
    struct vmx_control_caps caps = vmx_control_caps(field);

    vmx_set(field, (wanted & caps.may) | caps.must);
}

static void set_host_state(void)
{
    static const enum vmcs_field selectors[] = {HOST_ES_SELECTOR, HOST_SS_SELECTOR, HOST_DS_SELECTOR, HOST_FS_SELECTOR,
                                                HOST_GS_SELECTOR};

    for (unsigned i = 0; i < ARRAY_SIZE(selectors); i++)
        vmx_set(selectors[i], SEL_DATA);
    vmx_set(HOST_CS_SELECTOR, SEL_CODE64);
    vmx_set(HOST_TR_SELECTOR, SEL_TSS);
    vmx_set(HOST_TR_BASE, desc_tss_base());
    vmx_set(HOST_GDTR_BASE, desc_gdt_base());
    vmx_set(HOST_IDTR_BASE, desc_idt_base());
    vmx_set(HOST_FS_BASE, cpu_rdmsr(IA32_FS_BASE));
    vmx_set(HOST_GS_BASE, cpu_rdmsr(IA32_GS_BASE));
    vmx_set(HOST_CR0, cpu_read_cr0());
    vmx_set(HOST_CR3, cpu_read_cr3());
    vmx_set(HOST_CR4, cpu_read_cr4());
    vmx_set(HOST_RIP, (uint64_t)vm_exit_point);
}

static void set_guest_segments(void)
{
    /* The fields of one segment are as far from those of ES as its place in this list. */
    enum { ES, CS, SS, DS, FS, GS, LDTR, TR, COUNT };

    for (unsigned i = ES; i < COUNT; i++) {
        bool data = i != CS && i != LDTR && i != TR;
        vmx_set(GUEST_ES_SELECTOR + 2 * i, data ? SEL_DATA : 0);
        vmx_set(GUEST_ES_LIMIT + 2 * i, UINT32_MAX);
        vmx_set(GUEST_ES_AR_BYTES + 2 * i, data ? AR_DATA : AR_UNUSABLE);
        vmx_set(GUEST_ES_BASE + 2 * i, 0);
    }
    vmx_set(GUEST_CS_SELECTOR, SEL_CODE64);
    vmx_set(GUEST_CS_AR_BYTES, AR_CODE64);
    vmx_set(GUEST_TR_SELECTOR, SEL_TSS);
    vmx_set(GUEST_TR_AR_BYTES, AR_TSS_BUSY);
    vmx_set(GUEST_TR_LIMIT, TSS_LIMIT);
    vmx_set(GUEST_TR_BASE, desc_tss_base());
    vmx_set(GUEST_GDTR_BASE, desc_gdt_base());
    vmx_set(GUEST_GDTR_LIMIT, TABLE_LIMIT);
    vmx_set(GUEST_IDTR_BASE, desc_idt_base());
    vmx_set(GUEST_IDTR_LIMIT, TABLE_LIMIT);
}

static void set_guest_state(void)
{
    set_guest_segments();
    vmx_set(GUEST_CR0, cpu_read_cr0());
    vmx_set(GUEST_CR3, cpu_read_cr3());
    vmx_set(GUEST_CR4, cpu_read_cr4());
    vmx_set(GUEST_DR7, DR7_RESET);
    vmx_set(VMCS_LINK_POINTER, UINT64_MAX);
}

static void set_default_controls(struct vm *vm)
{
    vm->msr_bitmap = page_alloc();
    set_controls(PIN_CONTROLS, 0);
    set_controls(PROC_CONTROLS, (uint32_t)PROC_USE_MSR_BITMAPS);
    set_controls(EXIT_CONTROLS, (uint32_t)EXITC_HOST_64);
    set_controls(ENTRY_CONTROLS, (uint32_t)ENTRY_GUEST_64);
    vmx_set(MSR_BITMAP, (uint64_t)vm->msr_bitmap);
    if (!vm->ept)
        return;
    vmx_set(EPT_POINTER, ept_pointer(vm->ept, false));
    vm_secondary_set((uint32_t)PROC2_EPT);
}

void vm_create(struct vm *vm, void (*code)(void), unsigned options)
{
    bool ept = (options & VM_EPT) || (vm_default_ept && !(options & VM_NO_EPT));

    *vm = (struct vm){.vmcs = vmx_region_alloc(), .ept = ept ? ept_alloc_identity(LARGE_2M) : NULL};
    vm_clear(vm);
    vm_load(vm);
    set_default_controls(vm);
    set_host_state();
    set_guest_state();
    if (vm_also)
        vm_also(vm);
    vm_set_code(vm, code);
}

void vm_set_code(struct vm *vm, void (*code)(void))
{
    uint64_t *stack = page_alloc_run(L2_STACK_PAGES, PAGE_SIZE);
    uint64_t *top = stack + L2_STACK_PAGES * PAGE_SIZE / sizeof(*stack) - 1;

    vm_load(vm);
    *top = (uint64_t)l2_return;
    vmx_set(GUEST_RIP, (uint64_t)code);
    vmx_set(GUEST_RSP, (uint64_t)top);
    vmx_set(GUEST_RFLAGS, RFLAGS_FIXED1);
}

void vm_load(struct vm *vm)
{
    vmx_load(vm->vmcs);
}

void vm_clear(struct vm *vm)
{
    REQUIRE_EQ(vmx_vmclear(&vm->vmcs), 0);
    vm->launched = false;
}

static void read_exit(struct vm_exit *exit)
{
    *exit = (struct vm_exit){
        .reason = (uint32_t)vmx_get(EXIT_REASON),
        .length = (uint32_t)vmx_get(EXIT_INSTRUCTION_LENGTH),
        .info = (uint32_t)vmx_get(EXIT_INSTRUCTION_INFO),
        .intr_info = (uint32_t)vmx_get(EXIT_INTERRUPTION_INFO),
        .intr_error = (uint32_t)vmx_get(EXIT_INTERRUPTION_ERROR_CODE),
        .idt_info = (uint32_t)vmx_get(IDT_VECTORING_INFO),
        .idt_error = (uint32_t)vmx_get(IDT_VECTORING_ERROR_CODE),
        .qualification = vmx_get(EXIT_QUALIFICATION),
        .gla = vmx_get(GUEST_LINEAR_ADDRESS),
        .gpa = vmx_get(GUEST_PHYSICAL_ADDRESS),
    };
}

static void give_up_on_l2_fault(const struct vm *vm)
{
    check_report("L2 took fault %lu, error 0x%lx, RIP 0x%lx, CR2 0x%lx", vm->regs[RBX], vm->regs[RCX], vm->regs[RDX],
                 vm->regs[RSI]);
    check_abort();
}

static int enter(struct vm *vm, unsigned how)
{
    int failed;

    vm_load(vm);
    in_l2 = true;
    failed = vm_enter_raw(vm->regs, how);
    in_l2 = false;
    if (failed)
        return failed == 1 ? VMFAIL_INVALID : (int)vmx_get(VM_INSTRUCTION_ERROR);
    read_exit(&vm->exit);
    if (!(vm->exit.reason & EXIT_REASON_ENTRY_FAILURE))
        vm->launched = true;
    if (vm->exit.reason == EXIT_VMCALL && vm->regs[RAX] == L2_FAULT)
        give_up_on_l2_fault(vm);
    return 0;
}

int vm_enter(struct vm *vm)
{
    return enter(vm, vm->launched);
}

int vm_enter_after_sti(struct vm *vm)
{
    return enter(vm, 2);
}

uint16_t vm_run(struct vm *vm)
{
    REQUIRE_EQ(vm_enter(vm), 0);
    return (uint16_t)vm->exit.reason;
}

void vm_skip(struct vm *vm)
{
    vmx_set(GUEST_RIP, vmx_get(GUEST_RIP) + vm->exit.length);
}

void vm_control_set(enum vmcs_field controls, uint32_t bits)
{
    vmx_set(controls, vmx_get(controls) | bits);
}

void vm_control_clear(enum vmcs_field controls, uint32_t bits)
{
    vmx_set(controls, vmx_get(controls) & ~(uint64_t)bits);
}

bool vm_control_offered(enum vmcs_field controls, uint32_t bits)
{
    if (controls == PROC2_CONTROLS && !(vmx_control_caps(PROC_CONTROLS).may & PROC_SECONDARY))
        return false;
    return (vmx_control_caps(controls).may & bits) == bits;
}

void vm_secondary_set(uint32_t bits)
{
    vm_control_set(PROC_CONTROLS, (uint32_t)PROC_SECONDARY);
    vm_control_set(PROC2_CONTROLS, bits);
}

bool vm_in_l2(void)
{
    return in_l2;
}

void vm_report_l2_fault(const struct trap_frame *frame)
{
    uint64_t cr2;

    asm volatile("mov %%cr2, %0" : "=r"(cr2));
    for (;;)
        asm volatile("vmcall" : : "a"(L2_FAULT), "b"(frame->vector), "c"(frame->error), "d"(frame->rip), "S"(cr2));
}

void vm_expect(struct vm *vm, uint16_t reason, const char *file, int line)
{
    uint16_t got = vm_run(vm);

    if (got == reason && !(vm->exit.reason & EXIT_REASON_ENTRY_FAILURE))
        return;
    check_report("%s:%d: exit reason 0x%x (qualification 0x%lx, interruption 0x%x, GPA 0x%lx, RIP 0x%lx), expected %u",
                 file, line, vm->exit.reason, vm->exit.qualification, vm->exit.intr_info, vm->exit.gpa,
                 vmx_get(GUEST_RIP), reason);
    check_abort();
}

void vm_expect_done(struct vm *vm, const char *file, int line)
{
    vm_expect(vm, EXIT_VMCALL, file, line);
    if (!check_equal(vm->regs[RAX], L2_DONE, "RAX of L2's last VMCALL", file, line))
        check_abort();
}
