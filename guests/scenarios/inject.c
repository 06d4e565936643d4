/* Events that L1 injects into L2, and events that an exit interrupted. */
#include "guests/lib/cpu.h"
#include "guests/lib/irq.h"
#include "guests/lib/page.h"
#include "guests/lib/paging.h"
#include "guests/scenarios/scenario.h"

#define VECTOR_TEST 0x50

static volatile uint64_t l2_value;
static volatile uint32_t l2_error;
static volatile uint64_t l2_cr2;

static void inject(unsigned type, unsigned vector, uint32_t more)
{
    vmx_set(ENTRY_INTERRUPTION_INFO, INTR_VALID | more | PUT(type, INTR_TYPE) | vector);
}

static void inject_with_error(unsigned vector, uint32_t error)
{
    vmx_set(ENTRY_EXCEPTION_ERROR_CODE, error);
    inject(INTR_TYPE_HARD_EXCEPTION, vector, (uint32_t)INTR_ERROR_CODE);
}

static void l2_nothing(void)
{
}

/* Stops at a CPUID; a fault that L1 injects there is recorded. */
static void l2_cpuid_caught(void)
{
    l2_value = FAULT_OF((void)cpu_cpuid(0, 0));
    l2_error = fault.error;
    l2_cr2 = fault.cr2;
}

static void external_interrupt(void)
{
    uint64_t rip;
    struct vm vm;

    vm_start(&vm, l2_nothing, 0);
    rip = vmx_get(GUEST_RIP);
    trap_count[VECTOR_TEST] = 0;
    vmx_set(GUEST_RFLAGS, RFLAGS_FIXED1 | RFLAGS_IF);
    inject(INTR_TYPE_EXTERNAL, VECTOR_TEST, 0);
    EXPECT_DONE(&vm);
    CHECK_EQ(trap_count[VECTOR_TEST], 1);
    CHECK_EQ(trap_rip, rip);
    CHECK_EQ(vmx_get(ENTRY_INTERRUPTION_INFO) & INTR_VALID, 0);
    CHECK_EQ(vm.exit.idt_info & INTR_VALID, 0);
}

/* It needs IF set and no STI shadow. SDM 3C 27.3.1.4 "Checks on Guest RIP, RFLAGS, and SSP", 27.3.1.5 */
static void external_interrupt_refused(void)
{
    struct vm vm;

    vm_start(&vm, l2_nothing, 0);
    inject(INTR_TYPE_EXTERNAL, VECTOR_TEST, 0);
    CHECK_EQ(vm_run(&vm), EXIT_INVALID_GUEST_STATE);
    vmx_set(GUEST_RFLAGS, RFLAGS_FIXED1 | RFLAGS_IF);
    vmx_set(GUEST_INTERRUPTIBILITY, BLOCKING_BY_STI);
    inject(INTR_TYPE_EXTERNAL, VECTOR_TEST, 0);
    CHECK_EQ(vm_run(&vm), EXIT_INVALID_GUEST_STATE);
    vmx_set(GUEST_INTERRUPTIBILITY, 0);
    vmx_set(ENTRY_INTERRUPTION_INFO, 0);
    EXPECT_DONE(&vm);
}

/* An entry that the CPU refuses, for the enclave bit that it does not have, does not take the event to the next one. */
static void refused_event_is_gone(void)
{
    struct vm vm;

    vm_start(&vm, l2_nothing, 0);
    trap_count[VECTOR_TEST] = 0;
    vmx_set(GUEST_RFLAGS, RFLAGS_FIXED1 | RFLAGS_IF);
    vmx_set(GUEST_INTERRUPTIBILITY, BIT(4));
    inject(INTR_TYPE_EXTERNAL, VECTOR_TEST, 0);
    CHECK_EQ(vm_run(&vm), EXIT_INVALID_GUEST_STATE);
    vmx_set(GUEST_INTERRUPTIBILITY, 0);
    vmx_set(ENTRY_INTERRUPTION_INFO, 0);
    EXPECT_DONE(&vm);
    CHECK_EQ(trap_count[VECTOR_TEST], 0);
}

static void fault_with_error_code(void)
{
    uint64_t rip;
    struct vm vm;

    vm_start(&vm, l2_cpuid_caught, 0);
    EXPECT_EXIT(&vm, EXIT_CPUID);
    rip = vmx_get(GUEST_RIP);
    inject_with_error(VECTOR_GP, 0x1238);
    EXPECT_DONE(&vm);
    CHECK_EQ(fault.rip, rip);
    CHECK_EQ(l2_value, VECTOR_GP);
    CHECK_EQ(l2_error, 0x1238);
}

/* CR2 is not switched by VMX: L1 puts it into the register before the entry. */
static void page_fault(void)
{
    struct vm vm;

    vm_start(&vm, l2_cpuid_caught, 0);
    EXPECT_EXIT(&vm, EXIT_CPUID);
    inject_with_error(VECTOR_PF, PF_WRITE);
    asm volatile("mov %0, %%cr2" : : "r"(UNMAPPED_ADDRESS));
    EXPECT_DONE(&vm);
    CHECK_EQ(l2_value, VECTOR_PF);
    CHECK_EQ(l2_error, PF_WRITE);
    CHECK_EQ(l2_cr2, UNMAPPED_ADDRESS);
}

/* An injected exception does not look at the exception bitmap. */
static void injection_passes_bitmap(void)
{
    struct vm vm;

    vm_start(&vm, l2_cpuid_caught, 0);
    vmx_set(EXCEPTION_BITMAP, UINT32_MAX);
    EXPECT_EXIT(&vm, EXIT_CPUID);
    inject(INTR_TYPE_HARD_EXCEPTION, VECTOR_UD, 0);
    EXPECT_DONE(&vm);
    CHECK_EQ(l2_value, VECTOR_UD);
}

/* The return address of software events is after the instruction, whose length L1 gives. */
static void soft_interrupt(void)
{
    uint64_t rip;
    struct vm vm;

    vm_start(&vm, l2_nothing, 0);
    rip = vmx_get(GUEST_RIP);
    trap_count[VECTOR_TEST] = 0;
    vmx_set(GUEST_RIP, rip - 2);
    vmx_set(ENTRY_INSTRUCTION_LENGTH, 2);
    inject(INTR_TYPE_SOFT_INTERRUPT, VECTOR_TEST, 0);
    EXPECT_DONE(&vm);
    CHECK_EQ(trap_count[VECTOR_TEST], 1);
    CHECK_EQ(trap_rip, rip);
}

static void soft_exception(void)
{
    uint64_t rip;
    struct vm vm;

    vm_start(&vm, l2_cpuid_caught, 0);
    EXPECT_EXIT(&vm, EXIT_CPUID);
    rip = vmx_get(GUEST_RIP);
    vmx_set(ENTRY_INSTRUCTION_LENGTH, 2);
    inject(INTR_TYPE_SOFT_EXCEPTION, VECTOR_BP, 0);
    EXPECT_DONE(&vm);
    CHECK_EQ(l2_value, VECTOR_BP);
    CHECK_EQ(fault.rip, rip + 2);
}

static void vmcall_in_handler(uint64_t vector)
{
    asm volatile("vmcall" : : "a"(vector) : "memory");
}

/* NMIs are blocked in L2 from the injection to its IRET. */
static void nmi_blocks(void)
{
    struct vm vm;

    vm_start(&vm, l2_nothing, 0);
    vm_control_set(PIN_CONTROLS, (uint32_t)(PIN_NMI | PIN_VIRTUAL_NMIS));
    trap_count[VECTOR_NMI] = 0;
    trap_hook = vmcall_in_handler;
    inject(INTR_TYPE_NMI, VECTOR_NMI, 0);
    EXPECT_EXIT_SKIP(&vm, EXIT_VMCALL);
    CHECK_EQ(vm.regs[RAX], VECTOR_NMI);
    CHECK_EQ(vmx_get(GUEST_INTERRUPTIBILITY) & BLOCKING_BY_NMI, BLOCKING_BY_NMI);
    EXPECT_DONE(&vm);
    CHECK_EQ(trap_count[VECTOR_NMI], 1);
    CHECK_EQ(vmx_get(GUEST_INTERRUPTIBILITY) & BLOCKING_BY_NMI, 0);
}

static const char *without_virtual_nmis(void)
{
    return vm_control_offered(PIN_CONTROLS, (uint32_t)PIN_VIRTUAL_NMIS) ? NULL : "no virtual NMIs";
}

/* An interrupt wakes an L2 that is entered in the HLT state. */
static void wakes_halted(void)
{
    struct vm vm;

    vm_start(&vm, l2_nothing, 0);
    trap_count[VECTOR_TEST] = 0;
    vmx_set(GUEST_RFLAGS, RFLAGS_FIXED1 | RFLAGS_IF);
    vmx_set(GUEST_ACTIVITY_STATE, ACTIVITY_HLT);
    inject(INTR_TYPE_EXTERNAL, VECTOR_TEST, 0);
    EXPECT_DONE(&vm);
    CHECK_EQ(trap_count[VECTOR_TEST], 1);
    CHECK_EQ(vmx_get(GUEST_ACTIVITY_STATE), ACTIVITY_ACTIVE);
}

static const char *without_hlt_state(void)
{
    return cpu_rdmsr(IA32_VMX_MISC) & VMX_MISC_ACTIVITY_HLT ? NULL : "no HLT activity state";
}

/* A fault of L2 while an event is delivered exits with both: the fault, and the event in the IDT-vectoring
 * information. */
static void exception_during_delivery(void)
{
    struct vm vm;

    vm_start(&vm, l2_nothing, 0);
    trap_count[VECTOR_TEST] = 0;
    vmx_set(EXCEPTION_BITMAP, BIT(VECTOR_GP));
    vmx_set(GUEST_RFLAGS, RFLAGS_FIXED1 | RFLAGS_IF);
    vmx_set(GUEST_IDTR_LIMIT, VECTOR_TEST * 16 - 1);
    inject(INTR_TYPE_EXTERNAL, VECTOR_TEST, 0);
    EXPECT_EXIT(&vm, EXIT_EXCEPTION_NMI);
    CHECK_EQ(GET(vm.exit.intr_info, INTR_VECTOR), VECTOR_GP);
    CHECK_EQ(vm.exit.intr_error, VECTOR_TEST * 8 + 2 + 1); /* IDT, external */
    CHECK_EQ(vm.exit.idt_info, INTR_VALID | PUT(INTR_TYPE_EXTERNAL, INTR_TYPE) | VECTOR_TEST);
    vmx_set(GUEST_IDTR_LIMIT, 0xffff);
    vmx_set(ENTRY_INTERRUPTION_INFO, vm.exit.idt_info);
    EXPECT_DONE(&vm);
    CHECK_EQ(trap_count[VECTOR_TEST], 1);
}

/* Takes L2's stack page out of its EPT, so that the delivery of any event runs into an EPT violation. */
static uint64_t *hide_stack(struct vm *vm)
{
    uint64_t *entry = paging_entry(vm->ept, vmx_get(GUEST_RSP) - 0x100, PAGE_SIZE);
    struct inv_descriptor descriptor = {.low = vmx_get(EPT_POINTER)};

    *entry &= ~EPT_RWX;
    CHECK_EQ(vmx_invept(1, &descriptor), 0);
    return entry;
}

/* Expects the violation with this event under way, maps the stack again and injects the event anew. */
static void expect_interrupted_delivery(struct vm *vm, uint64_t *entry, uint64_t idt_info)
{
    EXPECT_EXIT(vm, EXIT_EPT_VIOLATION);
    CHECK_EQ(vm->exit.idt_info & ~INTR_NMI_UNBLOCKING, idt_info);
    CHECK_EQ(ALIGN_DOWN(vm->exit.gpa, PAGE_SIZE), *entry & PAGING_ADDRESS);
    CHECK_EQ(vmx_get(ENTRY_INTERRUPTION_INFO) & INTR_VALID, 0);
    *entry |= EPT_RWX;
    vmx_set(ENTRY_INTERRUPTION_INFO, vm->exit.idt_info & ~INTR_NMI_UNBLOCKING);
    vmx_set(ENTRY_EXCEPTION_ERROR_CODE, vm->exit.idt_error);
    vmx_set(ENTRY_INSTRUCTION_LENGTH, vm->exit.length);
}

static void violation_during_interrupt(void)
{
    uint64_t *entry;
    struct vm vm;

    vm_start(&vm, l2_nothing, VM_EPT);
    trap_count[VECTOR_TEST] = 0;
    vmx_set(GUEST_RFLAGS, RFLAGS_FIXED1 | RFLAGS_IF);
    entry = hide_stack(&vm);
    inject(INTR_TYPE_EXTERNAL, VECTOR_TEST, 0);
    expect_interrupted_delivery(&vm, entry, INTR_VALID | PUT(INTR_TYPE_EXTERNAL, INTR_TYPE) | VECTOR_TEST);
    EXPECT_DONE(&vm);
    CHECK_EQ(trap_count[VECTOR_TEST], 1);
}

static void violation_during_fault(void)
{
    uint64_t *entry;
    struct vm vm;

    vm_start(&vm, l2_cpuid_caught, VM_EPT);
    EXPECT_EXIT(&vm, EXIT_CPUID);
    entry = hide_stack(&vm);
    inject_with_error(VECTOR_GP, 0x4560);
    expect_interrupted_delivery(&vm, entry,
                                INTR_VALID | INTR_ERROR_CODE | PUT(INTR_TYPE_HARD_EXCEPTION, INTR_TYPE) | VECTOR_GP);
    CHECK_EQ(vm.exit.idt_error, 0x4560);
    EXPECT_DONE(&vm);
    CHECK_EQ(l2_value, VECTOR_GP);
    CHECK_EQ(l2_error, 0x4560);
}

static void violation_during_soft_interrupt(void)
{
    uint64_t *entry;
    uint64_t rip;
    struct vm vm;

    vm_start(&vm, l2_nothing, VM_EPT);
    rip = vmx_get(GUEST_RIP);
    trap_count[VECTOR_TEST] = 0;
    entry = hide_stack(&vm);
    vmx_set(GUEST_RIP, rip - 2);
    vmx_set(ENTRY_INSTRUCTION_LENGTH, 2);
    inject(INTR_TYPE_SOFT_INTERRUPT, VECTOR_TEST, 0);
    expect_interrupted_delivery(&vm, entry, INTR_VALID | PUT(INTR_TYPE_SOFT_INTERRUPT, INTR_TYPE) | VECTOR_TEST);
    CHECK_EQ(vm.exit.length, 2);
    EXPECT_DONE(&vm);
    CHECK_EQ(trap_count[VECTOR_TEST], 1);
    CHECK_EQ(trap_rip, rip);
}

static void l2_ud2_caught(void)
{
    l2_value = FAULT_OF(asm volatile("ud2"));
}

/* The same for a fault that L2 raises itself: nobody injected it. */
static void violation_during_own_fault(void)
{
    uint64_t *entry;
    struct vm vm;

    vm_start(&vm, l2_ud2_caught, VM_EPT);
    vmx_set(EXCEPTION_BITMAP, BIT(VECTOR_UD));
    EXPECT_EXIT(&vm, EXIT_EXCEPTION_NMI);
    vmx_set(EXCEPTION_BITMAP, 0);
    entry = hide_stack(&vm);
    expect_interrupted_delivery(&vm, entry, INTR_VALID | PUT(INTR_TYPE_HARD_EXCEPTION, INTR_TYPE) | VECTOR_UD);
    EXPECT_DONE(&vm);
    CHECK_EQ(l2_value, VECTOR_UD);
}

/* The exit saves the flags that the delivery would have pushed: an interrupt's have no RF, whatever a violation's have.
 * SDM 3C 28.3.3 "Saving RIP, RSP, RFLAGS, and SSP" */
static void violation_leaves_flags(void)
{
    uint64_t *entry;
    struct vm vm;

    vm_start(&vm, l2_nothing, VM_EPT);
    vmx_set(GUEST_RFLAGS, RFLAGS_FIXED1 | RFLAGS_IF);
    entry = hide_stack(&vm);
    inject(INTR_TYPE_EXTERNAL, VECTOR_TEST, 0);
    expect_interrupted_delivery(&vm, entry, INTR_VALID | PUT(INTR_TYPE_EXTERNAL, INTR_TYPE) | VECTOR_TEST);
    CHECK_EQ(vmx_get(GUEST_RFLAGS), RFLAGS_FIXED1 | RFLAGS_IF);
    EXPECT_DONE(&vm);
}

/* The delivery also reads the IDT: here its page is the one that is missing. */
static void violation_on_idt(void)
{
    uint64_t *entry;
    struct vm vm;

    vm_start(&vm, l2_nothing, VM_EPT);
    trap_count[VECTOR_TEST] = 0;
    vmx_set(GUEST_RFLAGS, RFLAGS_FIXED1 | RFLAGS_IF);
    entry = paging_entry(vm.ept, vmx_get(GUEST_IDTR_BASE) + VECTOR_TEST * 16, PAGE_SIZE);
    *entry &= ~EPT_RWX;
    inject(INTR_TYPE_EXTERNAL, VECTOR_TEST, 0);
    expect_interrupted_delivery(&vm, entry, INTR_VALID | PUT(INTR_TYPE_EXTERNAL, INTR_TYPE) | VECTOR_TEST);
    CHECK_EQ(vm.exit.qualification & (EPT_QUAL_READ | EPT_QUAL_WRITE | EPT_QUAL_FETCH), EPT_QUAL_READ);
    EXPECT_DONE(&vm);
    CHECK_EQ(trap_count[VECTOR_TEST], 1);
}

const struct scenario inject_scenarios[] = {
    {"inject-interrupt", external_interrupt, NULL},
    {"inject-interrupt-refused", external_interrupt_refused, NULL},
    {"inject-refused-event-is-gone", refused_event_is_gone, NULL},
    {"inject-error-code", fault_with_error_code, NULL},
    {"inject-page-fault", page_fault, NULL},
    {"inject-passes-bitmap", injection_passes_bitmap, NULL},
    {"inject-soft-interrupt", soft_interrupt, NULL},
    {"inject-soft-exception", soft_exception, NULL},
    {"inject-nmi-blocks", nmi_blocks, without_virtual_nmis},
    {"inject-wakes-halted", wakes_halted, without_hlt_state},
    {"inject-exception-during-delivery", exception_during_delivery, NULL},
    {"inject-violation-during-interrupt", violation_during_interrupt, without_ept},
    {"inject-violation-during-fault", violation_during_fault, without_ept},
    {"inject-violation-during-soft-interrupt", violation_during_soft_interrupt, without_ept},
    {"inject-violation-during-own-fault", violation_during_own_fault, without_ept},
    {"inject-violation-leaves-flags", violation_leaves_flags, without_ept},
    {"inject-violation-on-idt", violation_on_idt, without_ept},
    {0},
};
