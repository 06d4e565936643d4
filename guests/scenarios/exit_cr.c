/* Control and debug registers of L2: masks and shadows, CR3 targets, CR8, MOV DR. */
#include "guests/lib/cpu.h"
#include "guests/lib/page.h"
#include "guests/scenarios/scenario.h"

static volatile uint64_t l2_value;

static void check_access(const struct vm *vm, unsigned cr, unsigned type)
{
    CHECK_EQ(GET(vm->exit.qualification, CR_QUAL_NUMBER), cr);
    CHECK_EQ(GET(vm->exit.qualification, CR_QUAL_TYPE), type);
}

static void l2_read_cr0(void)
{
    l2_value = cpu_read_cr0();
}

static void l2_toggle_ts(void)
{
    cpu_write_cr0(cpu_read_cr0() ^ CR0_TS);
}

static void l2_set_am_in_rdx(void)
{
    asm volatile("mov %%cr0, %%rdx; or $0x40000, %%rdx; mov %%rdx, %%cr0" : : : "rdx");
}

/* Masked bits are read from the shadow, the others from the register. */
static void cr0_shadow(void)
{
    struct vm vm;

    vm_start(&vm, l2_read_cr0, 0);
    vmx_set(CR0_GUEST_HOST_MASK, CR0_TS | CR0_AM);
    vmx_set(CR0_READ_SHADOW, CR0_TS | CR0_EM);
    EXPECT_DONE(&vm);
    CHECK_EQ(l2_value & (CR0_TS | CR0_AM | CR0_EM), CR0_TS);
    CHECK_EQ(vmx_get(GUEST_CR0) & CR0_TS, 0);
}

/* A write exits only if it would change a masked bit as L2 sees it. */
static void cr0_mask(void)
{
    struct vm vm;

    vm_start(&vm, l2_toggle_ts, 0);
    vmx_set(CR0_READ_SHADOW, vmx_get(GUEST_CR0));
    vmx_set(CR0_GUEST_HOST_MASK, CR0_AM);
    EXPECT_DONE(&vm);
    CHECK_EQ(vmx_get(GUEST_CR0) & CR0_TS, CR0_TS);
    vm_set_code(&vm, l2_set_am_in_rdx);
    EXPECT_EXIT_SKIP(&vm, EXIT_CR_ACCESS);
    check_access(&vm, 0, CR_QUAL_TYPE_MOV_TO);
    CHECK_EQ(GET(vm.exit.qualification, CR_QUAL_REGISTER), RDX);
    CHECK_EQ(vm.exit.length, 3);
    CHECK_EQ(vm.regs[RDX] & CR0_AM, CR0_AM);
    CHECK_EQ(vmx_get(GUEST_CR0) & CR0_AM, 0);
    EXPECT_DONE(&vm);
    vmx_set(CR0_READ_SHADOW, vmx_get(CR0_READ_SHADOW) | CR0_AM);
    vm_set_code(&vm, l2_set_am_in_rdx);
    EXPECT_DONE(&vm);
    CHECK_EQ(vmx_get(GUEST_CR0) & CR0_AM, 0);
}

static void l2_clts(void)
{
    asm volatile("clts");
}

static void l2_lmsw(void)
{
    asm volatile("lmsw %w0" : : "a"(0x1b)); /* PE, MP, TS, ET */
}

static void l2_smsw(void)
{
    uint64_t value;
    asm volatile("smsw %0" : "=r"(value));
    l2_value = value;
}

static void clts_and_lmsw(void)
{
    struct vm vm;

    vm_start(&vm, l2_clts, 0);
    vmx_set(CR0_GUEST_HOST_MASK, CR0_TS);
    vmx_set(CR0_READ_SHADOW, vmx_get(GUEST_CR0) | CR0_TS);
    EXPECT_EXIT_SKIP(&vm, EXIT_CR_ACCESS);
    check_access(&vm, 0, CR_QUAL_TYPE_CLTS);
    EXPECT_DONE(&vm);
    vmx_set(CR0_READ_SHADOW, vmx_get(GUEST_CR0) & ~CR0_TS);
    vm_set_code(&vm, l2_lmsw);
    EXPECT_EXIT_SKIP(&vm, EXIT_CR_ACCESS);
    check_access(&vm, 0, CR_QUAL_TYPE_LMSW);
    CHECK_EQ(GET(vm.exit.qualification, CR_QUAL_LMSW_SOURCE), 0x1b);
    CHECK_EQ(vm.exit.qualification & CR_QUAL_LMSW_MEMORY, 0);
    EXPECT_DONE(&vm);
    vmx_set(CR0_READ_SHADOW, vmx_get(GUEST_CR0) | CR0_TS);
    vm_set_code(&vm, l2_smsw);
    EXPECT_DONE(&vm);
    CHECK_EQ(l2_value & CR0_TS, CR0_TS);
}

/* With the shadow's TS clear, CLTS changes nothing that L2 could see: no exit. */
static void clts_without_exit(void)
{
    struct vm vm;

    vm_start(&vm, l2_clts, 0);
    vmx_set(GUEST_CR0, vmx_get(GUEST_CR0) | CR0_TS);
    vmx_set(CR0_GUEST_HOST_MASK, CR0_TS);
    vmx_set(CR0_READ_SHADOW, vmx_get(GUEST_CR0) & ~CR0_TS);
    EXPECT_DONE(&vm);
    CHECK_EQ(vmx_get(GUEST_CR0) & CR0_TS, CR0_TS);
    vmx_set(CR0_GUEST_HOST_MASK, 0);
    vm_set_code(&vm, l2_clts);
    EXPECT_DONE(&vm);
    CHECK_EQ(vmx_get(GUEST_CR0) & CR0_TS, 0);
}

static void l2_read_cr4(void)
{
    l2_value = cpu_read_cr4();
}

static void l2_set_tsd(void)
{
    cpu_write_cr4(cpu_read_cr4() | CR4_TSD);
}

static void l2_clear_vmxe(void)
{
    l2_value = FAULT_OF(cpu_write_cr4(cpu_read_cr4() & ~CR4_VMXE));
}

static void cr4_mask_and_shadow(void)
{
    struct vm vm;

    vm_start(&vm, l2_read_cr4, 0);
    vmx_set(CR4_GUEST_HOST_MASK, CR4_VMXE | CR4_TSD);
    vmx_set(CR4_READ_SHADOW, vmx_get(GUEST_CR4) & ~CR4_VMXE);
    EXPECT_DONE(&vm);
    CHECK_EQ(l2_value & CR4_VMXE, 0);
    vm_set_code(&vm, l2_set_tsd);
    EXPECT_EXIT_SKIP(&vm, EXIT_CR_ACCESS);
    check_access(&vm, 4, CR_QUAL_TYPE_MOV_TO);
    EXPECT_DONE(&vm);
    vmx_set(CR4_GUEST_HOST_MASK, CR4_VMXE);
    vm_set_code(&vm, l2_set_tsd);
    EXPECT_DONE(&vm);
    CHECK_EQ(vmx_get(GUEST_CR4) & (CR4_TSD | CR4_VMXE), CR4_TSD | CR4_VMXE);
}

/* Bits that VMX operation fixes and that L1 does not mask: L2 gets #GP when it tries to change them. */
static void fixed_bits_of_l2(void)
{
    struct vm vm;

    vm_start(&vm, l2_clear_vmxe, 0);
    vmx_set(CR4_GUEST_HOST_MASK, 0);
    l2_value = 0;
    EXPECT_DONE(&vm);
    CHECK_EQ(l2_value, VECTOR_GP);
    CHECK_EQ(vmx_get(GUEST_CR4) & CR4_VMXE, CR4_VMXE);
}

static void l2_load_cr3(void)
{
    asm volatile("mov %%cr3, %%rdx; mov %%rdx, %%cr3" : : : "rdx", "memory");
}

static void l2_read_cr3(void)
{
    l2_value = cpu_read_cr3();
}

static void cr3_exits(void)
{
    struct vm vm;

    vm_start(&vm, l2_load_cr3, 0);
    EXPECT_DONE(&vm);
    vm_control_set(PROC_CONTROLS, (uint32_t)PROC_CR3_LOAD);
    vm_set_code(&vm, l2_load_cr3);
    EXPECT_EXIT_SKIP(&vm, EXIT_CR_ACCESS);
    check_access(&vm, 3, CR_QUAL_TYPE_MOV_TO);
    CHECK_EQ(GET(vm.exit.qualification, CR_QUAL_REGISTER), RDX);
    CHECK_EQ(vm.regs[RDX], vmx_get(GUEST_CR3));
    EXPECT_DONE(&vm);
    vm_control_clear(PROC_CONTROLS, (uint32_t)PROC_CR3_LOAD);
    vm_control_set(PROC_CONTROLS, (uint32_t)PROC_CR3_STORE);
    vm_set_code(&vm, l2_read_cr3);
    EXPECT_EXIT_SKIP(&vm, EXIT_CR_ACCESS);
    check_access(&vm, 3, CR_QUAL_TYPE_MOV_FROM);
    EXPECT_DONE(&vm);
}

/* A value that L1 listed may be loaded without an exit; the list is as long as the count says. */
static void cr3_targets(void)
{
    struct vm vm;

    vm_start(&vm, l2_load_cr3, 0);
    vm_control_set(PROC_CONTROLS, (uint32_t)PROC_CR3_LOAD);
    vmx_set(CR3_TARGET_VALUE0, 0x1000);
    vmx_set(CR3_TARGET_VALUE3, vmx_get(GUEST_CR3));
    vmx_set(CR3_TARGET_COUNT, 3);
    EXPECT_EXIT_SKIP(&vm, EXIT_CR_ACCESS);
    EXPECT_DONE(&vm);
    vmx_set(CR3_TARGET_COUNT, 4);
    vm_set_code(&vm, l2_load_cr3);
    EXPECT_DONE(&vm);
    vmx_set(CR3_TARGET_VALUE3, vmx_get(GUEST_CR3) ^ 0x2000);
    vm_set_code(&vm, l2_load_cr3);
    EXPECT_EXIT(&vm, EXIT_CR_ACCESS);
}

static const char *without_cr3_targets(void)
{
    return GET(cpu_rdmsr(IA32_VMX_MISC), VMX_MISC_CR3_TARGETS) >= 4 ? NULL : "fewer than 4 CR3 targets";
}

static void l2_write_cr8(void)
{
    cpu_write_cr8(5);
}

static void l2_read_cr8(void)
{
    l2_value = cpu_read_cr8();
}

static void cr8_exits(void)
{
    struct vm vm;

    vm_start(&vm, l2_write_cr8, 0);
    vm_control_set(PROC_CONTROLS, (uint32_t)(PROC_CR8_LOAD | PROC_CR8_STORE));
    EXPECT_EXIT_SKIP(&vm, EXIT_CR_ACCESS);
    check_access(&vm, 8, CR_QUAL_TYPE_MOV_TO);
    EXPECT_DONE(&vm);
    vm_set_code(&vm, l2_read_cr8);
    EXPECT_EXIT_SKIP(&vm, EXIT_CR_ACCESS);
    check_access(&vm, 8, CR_QUAL_TYPE_MOV_FROM);
    EXPECT_DONE(&vm);
    CHECK_EQ(cpu_read_cr8(), 0);
}

/* Without the exits and without a TPR shadow, CR8 is the machine's own. */
static void cr8_passes(void)
{
    struct vm vm;

    vm_start(&vm, l2_write_cr8, 0);
    EXPECT_DONE(&vm);
    CHECK_EQ(cpu_read_cr8(), 5);
    vm_set_code(&vm, l2_read_cr8);
    l2_value = 0;
    EXPECT_DONE(&vm);
    CHECK_EQ(l2_value, 5);
    cpu_write_cr8(0);
}

static void l2_write_dr7(void)
{
    asm volatile("mov %0, %%dr7" : : "b"(0x400ull));
}

static void l2_read_dr6(void)
{
    uint64_t value;
    asm volatile("mov %%dr6, %%rcx; mov %%rcx, %0" : "=r"(value) : : "rcx");
    l2_value = value;
}

static void mov_dr(void)
{
    struct vm vm;

    vm_start(&vm, l2_write_dr7, 0);
    EXPECT_DONE(&vm);
    vm_control_set(PROC_CONTROLS, (uint32_t)PROC_MOV_DR);
    vm_set_code(&vm, l2_write_dr7);
    EXPECT_EXIT_SKIP(&vm, EXIT_MOV_DR);
    CHECK_EQ(GET(vm.exit.qualification, DR_QUAL_NUMBER), 7);
    CHECK_EQ(GET(vm.exit.qualification, DR_QUAL_REGISTER), RBX);
    CHECK_EQ(vm.exit.qualification & DR_QUAL_FROM, 0);
    EXPECT_DONE(&vm);
    vm_set_code(&vm, l2_read_dr6);
    EXPECT_EXIT_SKIP(&vm, EXIT_MOV_DR);
    CHECK_EQ(GET(vm.exit.qualification, DR_QUAL_NUMBER), 6);
    CHECK_EQ(GET(vm.exit.qualification, DR_QUAL_REGISTER), RCX);
    CHECK_EQ(vm.exit.qualification & DR_QUAL_FROM, DR_QUAL_FROM);
    EXPECT_DONE(&vm);
}

static void l2_set_dr7_and_leave(void)
{
    asm volatile("mov %0, %%dr7" : : "r"(0x700ull));
}

/* DR7 of L2 goes to its VMCS if "save debug controls" says so; an exit leaves 0x400 in the register. */
static void dr7_saved(void)
{
    struct vm vm;

    vm_start(&vm, l2_set_dr7_and_leave, 0);
    vm_control_set(ENTRY_CONTROLS, (uint32_t)ENTRY_LOAD_DEBUG);
    vm_control_set(EXIT_CONTROLS, (uint32_t)EXITC_SAVE_DEBUG);
    EXPECT_DONE(&vm);
    CHECK_EQ(vmx_get(GUEST_DR7), 0x700);
    CHECK_EQ(cpu_read_dr7(), 0x400);
}

const struct scenario exit_cr_scenarios[] = {
    {"cr-0-shadow", cr0_shadow, NULL},
    {"cr-0-mask", cr0_mask, NULL},
    {"cr-clts-and-lmsw", clts_and_lmsw, NULL},
    {"cr-clts-without-exit", clts_without_exit, NULL},
    {"cr-4-mask-and-shadow", cr4_mask_and_shadow, NULL},
    {"cr-fixed-bits-of-l2", fixed_bits_of_l2, NULL},
    {"cr-3-exits", cr3_exits, NULL},
    {"cr-3-targets", cr3_targets, without_cr3_targets},
    {"cr-8-exits", cr8_exits, NULL},
    {"cr-8-passes", cr8_passes, NULL},
    {"cr-mov-dr", mov_dr, NULL},
    {"cr-dr7-saved", dr7_saved, NULL},
    {0},
};
