/* The VMX instructions in root operation: who may execute them, their pointers, their outcomes. */
#include "guests/lib/cpu.h"
#include "guests/lib/page.h"
#include "guests/scenarios/scenario.h"

/* A physical address that this CPU cannot have, aligned to a page. */
static uint64_t beyond_width(void)
{
    return 1ull << cpu_physical_bits();
}

static void run_vmlaunch(void)
{
    asm volatile("vmlaunch" : : : "cc", "memory");
}

static void run_vmresume(void)
{
    asm volatile("vmresume" : : : "cc", "memory");
}

static void run_vmcall(void)
{
    asm volatile("vmcall" : : : "cc", "memory");
}

static void run_vmfunc(void)
{
    asm volatile("vmfunc" : : "a"(0), "c"(0) : "cc", "memory");
}

static void run_vmxoff(void)
{
    asm volatile("vmxoff" : : : "cc", "memory");
}

static void run_vmclear(void)
{
    static uint64_t pointer;
    asm volatile("vmclear %0" : : "m"(pointer) : "cc");
}

static void run_vmptrld(void)
{
    static uint64_t pointer;
    asm volatile("vmptrld %0" : : "m"(pointer) : "cc");
}

static void run_vmptrst(void)
{
    static uint64_t pointer;
    asm volatile("vmptrst %0" : "=m"(pointer) : : "cc");
}

static void run_vmread(void)
{
    uint64_t value;
    asm volatile("vmread %1, %0" : "=r"(value) : "r"((uint64_t)GUEST_RIP) : "cc");
}

static void run_vmwrite(void)
{
    asm volatile("vmwrite %1, %0" : : "r"((uint64_t)GUEST_RIP), "r"(0ull) : "cc");
}

static void run_vmxon(void)
{
    static uint64_t pointer;
    asm volatile("vmxon %0" : : "m"(pointer) : "cc");
}

static void run_invept(void)
{
    static struct inv_descriptor descriptor;
    asm volatile("invept %0, %1" : : "m"(descriptor), "r"(2ull) : "cc");
}

static void run_invvpid(void)
{
    static struct inv_descriptor descriptor;
    asm volatile("invvpid %0, %1" : : "m"(descriptor), "r"(2ull) : "cc");
}

/* All but VMXON, VMCALL and VMFUNC, whose rules differ. */
static void (*const instructions[])(void) = {run_vmlaunch, run_vmresume, run_vmxoff,  run_vmclear, run_vmptrld,
                                             run_vmptrst,  run_vmread,   run_vmwrite, run_invept,  run_invvpid};

static void vmxon_without_vmxe(void)
{
    uint64_t region = vmx_region_alloc();

    cpu_write_cr4(cpu_read_cr4() & ~CR4_VMXE);
    CHECK_FAULT((void)vmx_vmxon(&region), VECTOR_UD);
    vmx_prepare_control_registers();
    CHECK_EQ(vmx_vmxon(&region), 0);
}

static void vmxon_without_ne(void)
{
    uint64_t region = vmx_region_alloc();

    vmx_prepare_control_registers();
    cpu_write_cr0(cpu_read_cr0() & ~CR0_NE);
    CHECK_FAULT((void)vmx_vmxon(&region), VECTOR_GP);
    vmx_prepare_control_registers();
    CHECK_EQ(vmx_vmxon(&region), 0);
}

static void outside_vmx_operation(void)
{
    vmx_prepare_control_registers();
    for (unsigned i = 0; i < ARRAY_SIZE(instructions); i++) {
        if (!check_equal(FAULT_OF(instructions[i]()), VECTOR_UD, "fault of an instruction", __FILE__, __LINE__))
            check_report("that was instruction %u of the list", i);
    }
    CHECK_FAULT(run_vmcall(), VECTOR_UD);
    CHECK_EQ(fault_of_user(run_vmclear), VECTOR_UD);
}

static void vmxon_pointer(void)
{
    uint64_t region = vmx_region_alloc();
    uint64_t misaligned = region + 8;
    uint64_t beyond = beyond_width();
    uint64_t wrong = (uint64_t)page_alloc();

    vmx_prepare_control_registers();
    CHECK_EQ(vmx_vmxon(&misaligned), VMFAIL_INVALID);
    CHECK_EQ(vmx_vmxon(&beyond), VMFAIL_INVALID);
    *(uint32_t *)wrong = vmx_revision() + 1;
    CHECK_EQ(vmx_vmxon(&wrong), VMFAIL_INVALID);
    *(uint32_t *)wrong = vmx_revision() | 1u << 31;
    CHECK_EQ(vmx_vmxon(&wrong), VMFAIL_INVALID);
    CHECK_FAULT(run_vmptrst(), VECTOR_UD);
    CHECK_EQ(vmx_vmxon(&region), 0);
}

static void vmxon_twice(void)
{
    uint64_t vmcs = vmx_region_alloc();
    uint64_t region;

    vmx_start();
    region = vmx_on_region();
    CHECK_EQ(vmx_vmxon(&region), VMFAIL_INVALID);
    CHECK_EQ(vmx_vmclear(&vmcs), 0);
    CHECK_EQ(vmx_vmptrld(&vmcs), 0);
    CHECK_EQ(vmx_vmxon(&region), VMXERR_VMXON_IN_ROOT);
    CHECK_EQ(fault_of_user(run_vmxon), VECTOR_GP);
}

/* SDM 3C 24.8 "Restrictions on VMX Operation": the fixed bits cannot be cleared in it. */
static void restrictions(void)
{
    vmx_start();
    CHECK_FAULT(cpu_write_cr4(cpu_read_cr4() & ~CR4_VMXE), VECTOR_GP);
    CHECK_FAULT(cpu_write_cr0(cpu_read_cr0() & ~CR0_NE), VECTOR_GP);
    CHECK_FAULT(cpu_write_cr0(cpu_read_cr0() & ~CR0_PG), VECTOR_GP);
    CHECK(cpu_read_cr4() & CR4_VMXE);
    CHECK(cpu_read_cr0() & CR0_NE);
    CHECK_EQ(vmx_vmxoff(), 0);
    CHECK(cpu_read_cr4() & CR4_VMXE);
    CHECK_FAULT(cpu_write_cr0(cpu_read_cr0() & ~CR0_NE), NO_FAULT);
    CHECK_FAULT(cpu_write_cr4(cpu_read_cr4() & ~CR4_VMXE), NO_FAULT);
    CHECK_EQ(cpu_read_cr4() & CR4_VMXE, 0);
}

static void vmxoff_and_on_again(void)
{
    uint64_t vmcs = vmx_region_alloc();
    uint64_t region;

    vmx_start();
    region = vmx_on_region();
    CHECK_EQ(vmx_vmclear(&vmcs), 0);
    CHECK_EQ(vmx_vmptrld(&vmcs), 0);
    CHECK_EQ(vmx_vmwrite(GUEST_RIP, 0x1234), 0);
    CHECK_EQ(vmx_vmclear(&vmcs), 0);
    CHECK_EQ(vmx_vmxoff(), 0);
    CHECK_FAULT(run_vmptrst(), VECTOR_UD);
    CHECK_EQ(vmx_vmxon(&region), 0);
    CHECK_EQ(vmx_current(), UINT64_MAX);
    CHECK_EQ(vmx_vmptrld(&vmcs), 0);
    CHECK_EQ(vmx_get(GUEST_RIP), 0x1234);
}

static void vmclear_pointer(void)
{
    uint64_t vmcs = vmx_region_alloc();
    uint64_t misaligned = vmcs + 0x10;
    uint64_t beyond = beyond_width();
    uint64_t region;

    vmx_start();
    region = vmx_on_region();
    CHECK_EQ(vmx_vmclear(&misaligned), VMFAIL_INVALID);
    CHECK_EQ(vmx_vmclear(&vmcs), 0);
    CHECK_EQ(vmx_vmptrld(&vmcs), 0);
    CHECK_EQ(vmx_vmclear(&misaligned), VMXERR_VMCLEAR_ADDRESS);
    CHECK_EQ(vmx_vmclear(&beyond), VMXERR_VMCLEAR_ADDRESS);
    CHECK_EQ(vmx_vmclear(&region), VMXERR_VMCLEAR_VMXON_POINTER);
    CHECK_EQ(vmx_current(), vmcs);
    CHECK_EQ(vmx_vmclear(&vmcs), 0);
    CHECK_EQ(vmx_current(), UINT64_MAX);
}

static void vmptrld_pointer(void)
{
    uint64_t vmcs = vmx_region_alloc();
    uint64_t other = vmx_region_alloc();
    uint64_t misaligned = vmcs + 0x800;
    uint64_t beyond = beyond_width();
    uint64_t region;

    vmx_start();
    region = vmx_on_region();
    CHECK_EQ(vmx_vmptrld(&misaligned), VMFAIL_INVALID);
    CHECK_EQ(vmx_vmclear(&vmcs), 0);
    CHECK_EQ(vmx_vmptrld(&vmcs), 0);
    CHECK_EQ(vmx_vmptrld(&misaligned), VMXERR_VMPTRLD_ADDRESS);
    CHECK_EQ(vmx_vmptrld(&beyond), VMXERR_VMPTRLD_ADDRESS);
    CHECK_EQ(vmx_vmptrld(&region), VMXERR_VMPTRLD_VMXON_POINTER);
    CHECK_EQ(vmx_current(), vmcs);
    *(uint32_t *)other += 1;
    CHECK_EQ(vmx_vmptrld(&other), VMXERR_VMPTRLD_REVISION);
    *(uint32_t *)other -= 1;
    CHECK_EQ(vmx_vmclear(&other), 0);
    CHECK_EQ(vmx_vmptrld(&other), 0);
    CHECK_EQ(vmx_current(), other);
}

/* Runs an instruction with all arithmetic flags set before and gives them as they are after it. */
#define FLAGS_AFTER(instruction, ...)                                                                                  \
    ({                                                                                                                 \
        uint64_t flags_;                                                                                               \
        asm volatile("pushfq; orq %1, (%%rsp); popfq; " instruction "; pushfq; pop %0"                                 \
                     : "=&r"(flags_)                                                                                   \
                     : "i"(RFLAGS_ARITHMETIC), ##__VA_ARGS__                                                           \
                     : "cc", "memory");                                                                                \
        flags_ &RFLAGS_ARITHMETIC;                                                                                     \
    })

static void outcome_flags(void)
{
    uint64_t vmcs = vmx_region_alloc();
    uint64_t bad = vmcs + 1;

    vmx_start();
    CHECK_EQ(FLAGS_AFTER("vmclear (%2)", "r"(&bad)), RFLAGS_CF);
    CHECK_EQ(FLAGS_AFTER("vmclear (%2)", "r"(&vmcs)), 0);
    CHECK_EQ(FLAGS_AFTER("vmread %2, %%rax", "r"((uint64_t)GUEST_RIP), "a"(0)), RFLAGS_CF);
    CHECK_EQ(FLAGS_AFTER("vmptrld (%2)", "r"(&vmcs)), 0);
    CHECK_EQ(FLAGS_AFTER("vmptrld (%2)", "r"(&bad)), RFLAGS_ZF);
    CHECK_EQ(FLAGS_AFTER("vmread %2, %%rax", "r"((uint64_t)GUEST_RIP), "a"(0)), 0);
    CHECK_EQ(FLAGS_AFTER("vmresume"), RFLAGS_ZF);
    CHECK_EQ(vmx_get(VM_INSTRUCTION_ERROR), VMXERR_VMRESUME_NOT_LAUNCHED);
}

static void no_current_vmcs(void)
{
    uint64_t value = 0x55;

    vmx_start();
    CHECK_EQ(vmx_current(), UINT64_MAX);
    CHECK_EQ(vmx_vmread(GUEST_RIP, &value), VMFAIL_INVALID);
    CHECK_EQ(value, 0x55);
    CHECK_EQ(vmx_vmwrite(GUEST_RIP, 1), VMFAIL_INVALID);
    CHECK_EQ(FLAGS_AFTER("vmlaunch"), RFLAGS_CF);
    CHECK_EQ(FLAGS_AFTER("vmresume"), RFLAGS_CF);
    CHECK_EQ(FLAGS_AFTER("vmcall"), RFLAGS_CF);
}

static void l2_cpuid_forever(void)
{
    for (;;)
        (void)cpu_cpuid(0, 0);
}

static void launch_state(void)
{
    struct vm vm;

    vm_start(&vm, l2_cpuid_forever, 0);
    vm.launched = true;
    CHECK_EQ(vm_enter(&vm), VMXERR_VMRESUME_NOT_LAUNCHED);
    vm.launched = false;
    EXPECT_EXIT_SKIP(&vm, EXIT_CPUID);
    vm.launched = false;
    CHECK_EQ(vm_enter(&vm), VMXERR_VMLAUNCH_NOT_CLEAR);
    vm.launched = true;
    EXPECT_EXIT_SKIP(&vm, EXIT_CPUID);
    vm_clear(&vm);
    vm.launched = true;
    CHECK_EQ(vm_enter(&vm), VMXERR_VMRESUME_NOT_LAUNCHED);
    vm.launched = false;
    EXPECT_EXIT_SKIP(&vm, EXIT_CPUID);
}

static void after_mov_ss(void)
{
    struct vm vm;

    vm_start(&vm, l2_cpuid_forever, 0);
    CHECK_EQ(FLAGS_AFTER("mov %%ss, %%eax; mov %%eax, %%ss; vmlaunch", "a"(0)), RFLAGS_ZF);
    CHECK_EQ(vmx_get(VM_INSTRUCTION_ERROR), VMXERR_ENTRY_MOV_SS);
    EXPECT_EXIT_SKIP(&vm, EXIT_CPUID);
    CHECK_EQ(FLAGS_AFTER("mov %%ss, %%eax; mov %%eax, %%ss; vmresume", "a"(0)), RFLAGS_ZF);
    CHECK_EQ(vmx_get(VM_INSTRUCTION_ERROR), VMXERR_ENTRY_MOV_SS);
}

static void user_mode(void)
{
    vmx_start();
    for (unsigned i = 0; i < ARRAY_SIZE(instructions); i++)
        if (!check_equal(fault_of_user(instructions[i]), VECTOR_GP, "fault of an instruction", __FILE__, __LINE__))
            check_report("that was instruction %u of the list", i);
    CHECK_FAULT(run_vmfunc(), VECTOR_UD);
}

static void check_page_fault(uint64_t address, uint32_t error)
{
    CHECK_EQ(fault.cr2, address);
    CHECK_EQ(fault.error, error);
}

static void operand_faults(void)
{
    uint64_t vmcs = vmx_region_alloc();
    uint64_t *unmapped = (uint64_t *)(UNMAPPED_ADDRESS + 0x18);
    uint64_t *wild = (uint64_t *)NONCANONICAL_ADDRESS;

    vmx_start();
    CHECK_FAULT((void)vmx_vmclear(unmapped), VECTOR_PF);
    check_page_fault((uint64_t)unmapped, 0);
    CHECK_FAULT((void)vmx_vmptrld(unmapped), VECTOR_PF);
    check_page_fault((uint64_t)unmapped, 0);
    CHECK_FAULT((void)vmx_vmptrst(unmapped), VECTOR_PF);
    check_page_fault((uint64_t)unmapped, 2);
    CHECK_FAULT((void)vmx_vmxon(unmapped), NO_FAULT);
    CHECK_FAULT((void)vmx_vmclear(wild), VECTOR_GP);
    CHECK_FAULT((void)vmx_vmptrst(wild), VECTOR_GP);
    CHECK_EQ(vmx_vmclear(&vmcs), 0);
    CHECK_EQ(vmx_vmptrld(&vmcs), 0);
    CHECK_FAULT((void)vmx_vmread_memory(GUEST_RIP, unmapped), VECTOR_PF);
    check_page_fault((uint64_t)unmapped, 2);
    CHECK_FAULT((void)vmx_vmwrite_memory(GUEST_RIP, unmapped), VECTOR_PF);
    check_page_fault((uint64_t)unmapped, 0);
    CHECK_FAULT((void)vmx_vmread_memory(GUEST_RIP, wild), VECTOR_GP);
}

static void invept_types(void)
{
    struct inv_descriptor any = {0};
    struct inv_descriptor bad = {.low = UINT64_MAX};
    struct inv_descriptor *unmapped = (struct inv_descriptor *)(UNMAPPED_ADDRESS + 0x100);
    struct inv_descriptor good = {.low = (uint64_t)page_alloc() | 0x1e};
    uint64_t vmcs = vmx_region_alloc();

    vmx_start();
    CHECK_EQ(vmx_invept(7, &any), VMFAIL_INVALID);
    CHECK_EQ(vmx_vmclear(&vmcs), 0);
    CHECK_EQ(vmx_vmptrld(&vmcs), 0);
    CHECK_EQ(vmx_invept(2, &any), 0);
    CHECK_EQ(vmx_invept(1, &good), 0);
    CHECK_EQ(vmx_invept(1, &bad), VMXERR_INVALID_OPERAND);
    CHECK_EQ(vmx_invept(0, &any), VMXERR_INVALID_OPERAND);
    CHECK_EQ(vmx_invept(3, &any), VMXERR_INVALID_OPERAND);
    CHECK_FAULT((void)vmx_invept(1, unmapped), VECTOR_PF);
    check_page_fault((uint64_t)unmapped, 0);
}

static void invvpid_types(void)
{
    struct inv_descriptor one = {.low = 1};
    struct inv_descriptor zero = {.low = 0};
    struct inv_descriptor reserved = {.low = 1 | 1 << 16};
    struct inv_descriptor wild = {.low = 1, .high = NONCANONICAL_ADDRESS};
    struct inv_descriptor *unmapped = (struct inv_descriptor *)(UNMAPPED_ADDRESS + 0x100);
    uint64_t vmcs = vmx_region_alloc();

    vmx_start();
    CHECK_EQ(vmx_vmclear(&vmcs), 0);
    CHECK_EQ(vmx_vmptrld(&vmcs), 0);
    for (unsigned type = 0; type <= 3; type++) {
        CHECK_EQ(vmx_invvpid(type, &one), 0);
        CHECK_EQ(vmx_invvpid(type, &reserved), VMXERR_INVALID_OPERAND);
        CHECK_EQ(vmx_invvpid(type, &zero), type == 2 ? 0 : VMXERR_INVALID_OPERAND);
        CHECK_EQ(vmx_invvpid(type, &wild), type == 0 ? VMXERR_INVALID_OPERAND : 0);
    }
    CHECK_EQ(vmx_invvpid(4, &one), VMXERR_INVALID_OPERAND);
    CHECK_FAULT((void)vmx_invvpid(1, unmapped), VECTOR_PF);
    check_page_fault((uint64_t)unmapped, 0);
}

static const char *without_vpid(void)
{
    const uint64_t all =
        VPID_CAP_INVVPID | VPID_CAP_ADDRESS | VPID_CAP_SINGLE | VPID_CAP_ALL | VPID_CAP_SINGLE_NONGLOBAL;

    if (!vm_control_offered(PROC2_CONTROLS, (uint32_t)PROC2_VPID) || (vmx_ept_vpid_cap() & all) != all)
        return "not all INVVPID types";
    return NULL;
}

const struct scenario insn_scenarios[] = {
    {"insn-vmxon-without-vmxe", vmxon_without_vmxe, NULL},
    {"insn-vmxon-without-ne", vmxon_without_ne, NULL},
    {"insn-outside-vmx-operation", outside_vmx_operation, NULL},
    {"insn-vmxon-pointer", vmxon_pointer, NULL},
    {"insn-vmxon-twice", vmxon_twice, NULL},
    {"insn-restrictions", restrictions, NULL},
    {"insn-vmxoff-and-on-again", vmxoff_and_on_again, NULL},
    {"insn-vmclear-pointer", vmclear_pointer, NULL},
    {"insn-vmptrld-pointer", vmptrld_pointer, NULL},
    {"insn-outcome-flags", outcome_flags, NULL},
    {"insn-no-current-vmcs", no_current_vmcs, NULL},
    {"insn-launch-state", launch_state, NULL},
    {"insn-after-mov-ss", after_mov_ss, NULL},
    {"insn-user-mode", user_mode, NULL},
    {"insn-operand-faults", operand_faults, NULL},
    {"insn-invept", invept_types, without_ept},
    {"insn-invvpid", invvpid_types, without_vpid},
    {0},
};
