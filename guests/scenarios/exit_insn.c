/* Instructions of L2 that exit, always or when a control says so. */
#include "guests/lib/cpu.h"
#include "guests/lib/desc.h"
#include "guests/lib/page.h"
#include "guests/scenarios/scenario.h"

#define CPUID1_ECX_MONITOR BIT(3)
#define CPUID1_ECX_RDRAND BIT(30)
#define CPUID7_EBX_RDSEED BIT(18)
#define INSN_ADDRESS_64 2
#define SEGMENT_DS 3

/* One function of L2 per instruction. */
#define L2_CODE(name, ...)                                                                                             \
    static void l2_##name(void)                                                                                        \
    {                                                                                                                  \
        asm volatile(__VA_ARGS__);                                                                                     \
    }

static uint8_t scratch[64];

L2_CODE(cpuid, "xor %%eax, %%eax; cpuid" : : : "rax", "rbx", "rcx", "rdx")
L2_CODE(invd, "invd" : : : "memory")
L2_CODE(xsetbv, "xsetbv" : : "c"(0), "a"(1), "d"(0))
L2_CODE(hlt, "hlt")
L2_CODE(invlpg, "invlpg (%0)" : : "r"(0x12345678ull) : "memory")
L2_CODE(rdpmc, "rdpmc" : : "c"(0) : "rax", "rdx")
L2_CODE(rdtsc, "rdtsc" : : : "rax", "rdx")
L2_CODE(rdtscp, "rdtscp" : : : "rax", "rcx", "rdx")
L2_CODE(pause, "pause")
L2_CODE(wbinvd, "wbinvd" : : : "memory")
L2_CODE(monitor, "monitor" : : "a"(scratch), "c"(0), "d"(0))
L2_CODE(mwait, "mwait" : : "a"(0), "c"(0))
L2_CODE(rdrand, "rdrand %%eax" : : : "rax", "cc")
L2_CODE(rdseed, "rdseed %%eax" : : : "rax", "cc")
L2_CODE(invpcid, "invpcid (%0), %1" : : "r"(scratch), "r"(2ull) : "memory")
L2_CODE(sgdt, "sgdt (%0)" : : "r"(scratch) : "memory")
L2_CODE(sidt, "sidt (%0)" : : "r"(scratch) : "memory")
L2_CODE(lgdt, "sgdt (%0); lgdt (%0)" : : "r"(scratch) : "memory")
L2_CODE(sldt, "sldt %%eax" : : : "rax")
L2_CODE(str, "str %%eax" : : : "rax")
L2_CODE(lldt, "lldt %%ax" : : "a"(0))
L2_CODE(vmcall, "vmcall" : : "a"(1))
L2_CODE(vmclear, "vmclear (%0)" : : "r"(scratch) : "cc", "memory")
L2_CODE(vmlaunch, "vmlaunch" : : : "cc", "memory")
L2_CODE(vmresume, "vmresume" : : : "cc", "memory")
L2_CODE(vmptrld, "vmptrld (%0)" : : "r"(scratch) : "cc", "memory")
L2_CODE(vmptrst, "vmptrst (%0)" : : "r"(scratch) : "cc", "memory")
L2_CODE(vmread, "vmread %0, %%rax" : : "r"(0x681eull) : "rax", "cc")
L2_CODE(vmwrite, "vmwrite %%rax, %0" : : "r"(0x681eull) : "cc")
L2_CODE(vmxoff, "vmxoff" : : : "cc")
L2_CODE(vmxon, "vmxon (%0)" : : "r"(scratch) : "cc", "memory")
L2_CODE(invept, "invept (%0), %1" : : "r"(scratch), "r"(2ull) : "cc", "memory")
L2_CODE(invvpid, "invvpid (%0), %1" : : "r"(scratch), "r"(2ull) : "cc", "memory")
L2_CODE(vmfunc, "vmfunc" : : "a"(5), "c"(0) : "cc", "memory")

struct row {
    void (*code)(void);
    uint16_t reason;
    uint8_t length; /* of the instruction; 0: depends on registers chosen by the compiler */
    uint64_t proc;  /* controls that make it exit */
    uint64_t proc2;
    uint64_t enable; /* secondary controls without which it is #UD */
};

static bool offered(const struct row *row)
{
    uint64_t proc2 = row->proc2 | row->enable;

    return vm_control_offered(PROC_CONTROLS, (uint32_t)row->proc) &&
           (!proc2 || vm_control_offered(PROC2_CONTROLS, (uint32_t)proc2));
}

static void run_row(struct vm *vm, const struct row *row)
{
    uint64_t proc = vmx_get(PROC_CONTROLS);
    uint64_t proc2 = proc & PROC_SECONDARY ? vmx_get(PROC2_CONTROLS) : 0;

    vm_set_code(vm, row->code);
    vm_control_set(PROC_CONTROLS, (uint32_t)row->proc);
    if (row->proc2 | row->enable)
        vm_secondary_set((uint32_t)(row->proc2 | row->enable));
    EXPECT_EXIT_SKIP(vm, row->reason);
    if (row->length)
        CHECK_EQ(vm->exit.length, row->length);
    EXPECT_DONE(vm);
    vmx_set(PROC_CONTROLS, proc);
    if (row->proc2 | row->enable)
        vmx_set(PROC2_CONTROLS, proc2);
}

/* Without the control that makes it exit, the instruction runs in L2. */
static void run_row_without_exit(struct vm *vm, const struct row *row)
{
    vm_set_code(vm, row->code);
    if (row->enable)
        vm_secondary_set((uint32_t)row->enable);
    EXPECT_DONE(vm);
    if (row->enable)
        vm_control_clear(PROC2_CONTROLS, (uint32_t)row->enable);
}

static void always_exit(void)
{
    static const struct row rows[] = {
        {l2_cpuid, EXIT_CPUID, 2, 0, 0, 0},       {l2_invd, EXIT_INVD, 2, 0, 0, 0},
        {l2_vmcall, EXIT_VMCALL, 3, 0, 0, 0},     {l2_vmclear, EXIT_VMCLEAR, 0, 0, 0, 0},
        {l2_vmlaunch, EXIT_VMLAUNCH, 3, 0, 0, 0}, {l2_vmresume, EXIT_VMRESUME, 3, 0, 0, 0},
        {l2_vmptrld, EXIT_VMPTRLD, 0, 0, 0, 0},   {l2_vmptrst, EXIT_VMPTRST, 0, 0, 0, 0},
        {l2_vmread, EXIT_VMREAD, 0, 0, 0, 0},     {l2_vmwrite, EXIT_VMWRITE, 0, 0, 0, 0},
        {l2_vmxoff, EXIT_VMXOFF, 3, 0, 0, 0},     {l2_vmxon, EXIT_VMXON, 0, 0, 0, 0},
    };
    struct vm vm;

    vm_start(&vm, l2_cpuid, 0);
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
        run_row(&vm, &rows[i]);
}

static void inv_instructions(void)
{
    static const struct row invept = {l2_invept, EXIT_INVEPT, 0, 0, 0, 0};
    static const struct row invvpid = {l2_invvpid, EXIT_INVVPID, 0, 0, 0, 0};
    struct vm vm;

    vm_start(&vm, l2_cpuid, 0);
    run_row(&vm, &invept);
    if (vm_control_offered(PROC2_CONTROLS, (uint32_t)PROC2_VPID))
        run_row(&vm, &invvpid);
}

static const struct row controlled[] = {
    {l2_hlt, EXIT_HLT, 1, PROC_HLT, 0, 0},
    {l2_rdpmc, EXIT_RDPMC, 2, PROC_RDPMC, 0, 0},
#define ROWS_THAT_RUN 2 /* from here on: without the control they run, and neither stop L2 nor fault */
    {l2_invlpg, EXIT_INVLPG, 0, PROC_INVLPG, 0, 0},
    {l2_rdtsc, EXIT_RDTSC, 2, PROC_RDTSC, 0, 0},
    {l2_rdtscp, EXIT_RDTSCP, 3, PROC_RDTSC, 0, PROC2_RDTSCP},
    {l2_pause, EXIT_PAUSE, 2, PROC_PAUSE, 0, 0},
    {l2_wbinvd, EXIT_WBINVD, 2, 0, PROC2_WBINVD, 0},
    {l2_invpcid, EXIT_INVPCID, 0, PROC_INVLPG, 0, PROC2_INVPCID},
    {l2_sgdt, EXIT_GDTR_IDTR, 0, 0, PROC2_DESC_TABLE, 0},
    {l2_sidt, EXIT_GDTR_IDTR, 0, 0, PROC2_DESC_TABLE, 0},
    {l2_sldt, EXIT_LDTR_TR, 0, 0, PROC2_DESC_TABLE, 0},
    {l2_str, EXIT_LDTR_TR, 0, 0, PROC2_DESC_TABLE, 0},
    {l2_lldt, EXIT_LDTR_TR, 0, 0, PROC2_DESC_TABLE, 0},
};

static void by_control(void)
{
    struct vm vm;

    vm_start(&vm, l2_cpuid, 0);
    for (unsigned i = 0; i < ARRAY_SIZE(controlled); i++)
        if (offered(&controlled[i]))
            run_row(&vm, &controlled[i]);
}

static void without_control(void)
{
    static const struct row lgdt = {l2_lgdt, EXIT_GDTR_IDTR, 0, 0, PROC2_DESC_TABLE, 0}; /* SGDT, too: two exits */
    struct vm vm;

    vm_start(&vm, l2_cpuid, 0);
    for (unsigned i = ROWS_THAT_RUN; i < ARRAY_SIZE(controlled); i++)
        if (offered(&controlled[i]))
            run_row_without_exit(&vm, &controlled[i]);
    if (offered(&lgdt))
        run_row_without_exit(&vm, &lgdt);
}

/* Instructions that a CPU may lack. */
static void monitor_and_random(void)
{
    static const struct row monitor = {l2_monitor, EXIT_MONITOR, 3, PROC_MONITOR, 0, 0};
    static const struct row mwait = {l2_mwait, EXIT_MWAIT, 3, PROC_MWAIT, 0, 0};
    static const struct row rdrand = {l2_rdrand, EXIT_RDRAND, 3, 0, PROC2_RDRAND, 0};
    static const struct row rdseed = {l2_rdseed, EXIT_RDSEED, 3, 0, PROC2_RDSEED, 0};
    struct vm vm;

    vm_start(&vm, l2_cpuid, 0);
    if (cpu_cpuid(1, 0).ecx & CPUID1_ECX_MONITOR) {
        run_row(&vm, &monitor);
        run_row(&vm, &mwait);
    }
    if ((cpu_cpuid(1, 0).ecx & CPUID1_ECX_RDRAND) && offered(&rdrand))
        run_row(&vm, &rdrand);
    if ((cpu_cpuid(7, 0).ebx & CPUID7_EBX_RDSEED) && offered(&rdseed))
        run_row(&vm, &rdseed);
}

static volatile uint8_t l2_fault_seen;

static void l2_rdtscp_caught(void)
{
    l2_fault_seen = FAULT_OF(l2_rdtscp());
}

static void l2_invpcid_caught(void)
{
    l2_fault_seen = FAULT_OF(l2_invpcid());
}

static void l2_vmfunc_caught(void)
{
    l2_fault_seen = FAULT_OF(l2_vmfunc());
}

/* The secondary control decides whether the instruction exists at all. */
static void not_enabled(void)
{
    static void (*const codes[])(void) = {l2_rdtscp_caught, l2_invpcid_caught, l2_vmfunc_caught};
    struct vm vm;

    vm_start(&vm, l2_cpuid, 0);
    for (unsigned i = 0; i < ARRAY_SIZE(codes); i++) {
        l2_fault_seen = 0;
        vm_set_code(&vm, codes[i]);
        EXPECT_DONE(&vm);
        CHECK_EQ(l2_fault_seen, VECTOR_UD);
    }
}

static void vmfunc_exits(void)
{
    struct vm vm;

    vm_start(&vm, l2_vmfunc, VM_EPT);
    vm_secondary_set((uint32_t)PROC2_VMFUNC);
    EXPECT_EXIT_SKIP(&vm, EXIT_VMFUNC);
    CHECK_EQ(vm.exit.length, 3);
    EXPECT_DONE(&vm);
}

static const char *without_vmfunc(void)
{
    return vm_control_offered(PROC2_CONTROLS, (uint32_t)PROC2_VMFUNC) ? NULL : "no VMFUNC";
}

static void xsetbv_exits(void)
{
    static const struct row row = {l2_xsetbv, EXIT_XSETBV, 3, 0, 0, 0};
    struct vm vm;

    vm_start(&vm, l2_xsetbv, 0);
    vmx_set(GUEST_CR4, vmx_get(GUEST_CR4) | CR4_OSXSAVE);
    run_row(&vm, &row);
    CHECK_EQ(vm.regs[RAX], L2_DONE);
}

static const char *without_xsave(void)
{
    return cpu_cpuid(1, 0).ecx & CPUID1_ECX_XSAVE ? NULL : "no XSAVE";
}

static void invlpg_qualification(void)
{
    struct vm vm;

    vm_start(&vm, l2_invlpg, 0);
    vm_control_set(PROC_CONTROLS, (uint32_t)PROC_INVLPG);
    EXPECT_EXIT_SKIP(&vm, EXIT_INVLPG);
    CHECK_EQ(vm.exit.qualification, 0x12345678);
    EXPECT_DONE(&vm);
}

L2_CODE(vmptrld_sib, "vmptrld 0x10(%%rbx,%%rcx,4)" : : "b"(scratch), "c"(1) : "cc", "memory")
L2_CODE(vmread_registers, "vmread %%r9, %%rdx" : : : "rdx", "cc")
L2_CODE(vmclear_no_base, "vmclear 0x1234" : : : "cc", "memory")
L2_CODE(vmptrst_rip, "vmptrst scratch_place(%%rip)" : : : "cc", "memory")

asm(".bss; .balign 8; scratch_place: .skip 8; .text");
extern uint8_t scratch_place[];

/* SDM 3C 28.2.5 "Information for VM Exits Due to Instruction Execution" */
static void operand_information(void)
{
    struct vm vm;

    vm_start(&vm, l2_vmptrld_sib, 0);
    EXPECT_EXIT(&vm, EXIT_VMPTRLD);
    CHECK_EQ(vm.exit.qualification, 0x10);
    CHECK_EQ(GET(vm.exit.info, INSN_INFO_SCALING), 2);
    CHECK_EQ(GET(vm.exit.info, INSN_INFO_ADDRESS_SIZE), INSN_ADDRESS_64);
    CHECK_EQ(GET(vm.exit.info, INSN_INFO_SEGMENT), SEGMENT_DS);
    CHECK_EQ(GET(vm.exit.info, INSN_INFO_INDEX), RCX);
    CHECK_EQ(GET(vm.exit.info, INSN_INFO_BASE), RBX);
    CHECK_EQ(vm.exit.info & (INSN_INFO_INDEX_INVALID | INSN_INFO_BASE_INVALID), 0);

    vm_set_code(&vm, l2_vmread_registers);
    EXPECT_EXIT(&vm, EXIT_VMREAD);
    CHECK(vm.exit.info & INSN_INFO_IS_REGISTER);
    CHECK_EQ(GET(vm.exit.info, INSN_INFO_REG1), RDX);
    CHECK_EQ(GET(vm.exit.info, INSN_INFO_REG2), R9);

    vm_set_code(&vm, l2_vmclear_no_base);
    EXPECT_EXIT(&vm, EXIT_VMCLEAR);
    CHECK_EQ(vm.exit.qualification, 0x1234);
    CHECK_EQ(GET(vm.exit.info, INSN_INFO_SEGMENT), SEGMENT_DS);
    CHECK(vm.exit.info & INSN_INFO_BASE_INVALID);
    CHECK(vm.exit.info & INSN_INFO_INDEX_INVALID);

    vm_set_code(&vm, l2_vmptrst_rip);
    EXPECT_EXIT(&vm, EXIT_VMPTRST);
    CHECK_EQ(vm.exit.qualification, (uint64_t)scratch_place);
}

static void user_cpuid(void)
{
    (void)fault_of_user(l2_cpuid);
}

/* CPUID and VMCALL exit from CPL 3 as well; HLT there is #GP first. */
static void user_mode_of_l2(void)
{
    struct vm vm;

    vm_start(&vm, user_cpuid, 0);
    vm_control_set(PROC_CONTROLS, (uint32_t)PROC_HLT);
    EXPECT_EXIT_SKIP(&vm, EXIT_CPUID);
    CHECK_EQ(vmx_get(GUEST_CS_SELECTOR), SEL_USER_CODE);
    CHECK_EQ(GET(vmx_get(GUEST_SS_AR_BYTES), AR_DPL), 3);
    EXPECT_DONE(&vm);
    CHECK_EQ(fault.vector, NO_FAULT);
}

static void user_hlt(void)
{
    l2_fault_seen = fault_of_user(l2_hlt);
}

static void fault_before_exit(void)
{
    struct vm vm;

    vm_start(&vm, user_hlt, 0);
    vm_control_set(PROC_CONTROLS, (uint32_t)PROC_HLT);
    l2_fault_seen = 0;
    EXPECT_DONE(&vm);
    CHECK_EQ(l2_fault_seen, VECTOR_GP);
}

const struct scenario exit_insn_scenarios[] = {
    {"exit-always", always_exit, NULL},
    {"exit-invept-invvpid", inv_instructions, without_ept},
    {"exit-by-control", by_control, NULL},
    {"exit-not-without-control", without_control, NULL},
    {"exit-monitor-and-random", monitor_and_random, NULL},
    {"exit-not-enabled", not_enabled, NULL},
    {"exit-vmfunc", vmfunc_exits, without_vmfunc},
    {"exit-xsetbv", xsetbv_exits, without_xsave},
    {"exit-invlpg-qualification", invlpg_qualification, NULL},
    {"exit-operand-information", operand_information, NULL},
    {"exit-user-mode", user_mode_of_l2, NULL},
    {"exit-fault-first", fault_before_exit, NULL},
    {0},
};
