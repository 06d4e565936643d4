/* Exits and VMRESUMEs in a row that change nothing for L0, and what must be seen all the same when something does: at
 * the VMRESUME itself, in the entry, in L2. */
#include "guests/lib/counters.h"
#include "guests/lib/cpu.h"
#include "guests/lib/irq.h"
#include "guests/lib/page.h"
#include "guests/lib/paging.h"
#include "guests/lib/trap.h"
#include "guests/scenarios/scenario.h"
#include "kernel/inspect_abi.h"

#define VECTOR_TEST 0x50
#define STEADY 4
#define RFLAGS_TF BIT(8)

extern uint8_t vm_exit_point[];

static uint64_t *fresh_stack;

static void l2_cpuids(void)
{
    for (;;)
        (void)cpu_cpuid(0, 0);
}

/* On a stack that L2 has not used before. */
static void l2_interrupt(void)
{
    uint64_t *top = fresh_stack + PAGE_SIZE / sizeof(*top);

    for (unsigned i = 0; i < STEADY; i++)
        (void)cpu_cpuid(0, 0);
    asm volatile("mov %%rsp, %%rbx; mov %0, %%rsp; int $0x50; mov %%rbx, %%rsp" : : "r"(top) : "rbx", "memory");
}

/* The last CPUID of several in a row. */
static void become_steady(struct vm *vm)
{
    for (unsigned i = 1; i < STEADY; i++)
        EXPECT_EXIT_SKIP(vm, EXIT_CPUID);
    EXPECT_EXIT(vm, EXIT_CPUID);
}

static void start_steady(struct vm *vm)
{
    vmx_start();
    vm_create(vm, l2_cpuids, 0);
    become_steady(vm);
    vm_skip(vm);
}

static const enum vmcs_field guest_state[] = {
    GUEST_CR0,       GUEST_CR3,         GUEST_CR4,         GUEST_RSP,          GUEST_RIP,
    GUEST_RFLAGS,    GUEST_CS_SELECTOR, GUEST_CS_AR_BYTES, GUEST_SS_AR_BYTES,  GUEST_TR_BASE,
    GUEST_GDTR_BASE, GUEST_IDTR_LIMIT,  GUEST_DR7,         GUEST_SYSENTER_EIP, GUEST_ACTIVITY_STATE,
    GUEST_FS_BASE,
};

static void read_state(uint64_t *values)
{
    for (unsigned i = 0; i < ARRAY_SIZE(guest_state); i++)
        values[i] = vmx_get(guest_state[i]);
}

static void check_state(const uint64_t *values)
{
    for (unsigned i = 0; i < ARRAY_SIZE(guest_state); i++)
        if (vmx_get(guest_state[i]) != values[i])
            check_report("field %x is 0x%lx, was 0x%lx", (unsigned)guest_state[i], vmx_get(guest_state[i]), values[i]);
}

/* L1's fields for an injection keep all except the valid bit, also when L0 injects in between: here what the
 * first access to a page interrupted. */
static void event_stays(void)
{
    struct vm vm;

    vmx_start();
    fresh_stack = page_alloc();
    trap_count[VECTOR_TEST] = 0;
    vm_create(&vm, l2_interrupt, 0);
    become_steady(&vm);
    vm_skip(&vm);
    vmx_set(ENTRY_EXCEPTION_ERROR_CODE, 0x77);
    vmx_set(ENTRY_INSTRUCTION_LENGTH, 5);
    vmx_set(ENTRY_INTERRUPTION_INFO, 0x30d);
    EXPECT_DONE(&vm);
    CHECK_EQ(trap_count[VECTOR_TEST], 1);
    CHECK_EQ(vmx_get(ENTRY_INTERRUPTION_INFO), 0x30d);
    CHECK_EQ(vmx_get(ENTRY_INSTRUCTION_LENGTH), 5);
    CHECK_EQ(vmx_get(ENTRY_EXCEPTION_ERROR_CODE), 0x77);
}

/* An entry that fails for the guest's state leaves that as it was, and the event valid. SDM 3C 27.8 */
static void refused_state(void)
{
    uint64_t values[ARRAY_SIZE(guest_state)];
    uint64_t event = INTR_VALID | PUT(INTR_TYPE_EXTERNAL, INTR_TYPE) | VECTOR_TEST;
    struct vm vm;

    start_steady(&vm);
    trap_count[VECTOR_TEST] = 0;
    for (unsigned round = 0; round < 2; round++) {
        read_state(values);
        vmx_set(GUEST_INTERRUPTIBILITY, BLOCKING_BY_STI | BLOCKING_BY_MOV_SS);
        vmx_set(ENTRY_INTERRUPTION_INFO, event);
        CHECK_EQ(vm_run(&vm), EXIT_INVALID_GUEST_STATE);
        CHECK_EQ(vmx_get(ENTRY_INTERRUPTION_INFO), event);
        CHECK_EQ(vmx_get(GUEST_INTERRUPTIBILITY), BLOCKING_BY_STI | BLOCKING_BY_MOV_SS);
        check_state(values);
        vmx_set(GUEST_INTERRUPTIBILITY, 0);
        vmx_set(ENTRY_INTERRUPTION_INFO, 0);
        become_steady(&vm);
        vm_skip(&vm);
    }
    CHECK_EQ(trap_count[VECTOR_TEST], 0);
}

/* An event that no entry takes: VMfail, of the instruction that L1 executed. */
static void refused_event(void)
{
    uint64_t values[ARRAY_SIZE(guest_state)];
    struct vm vm;

    start_steady(&vm);
    for (unsigned round = 0; round < 2; round++) {
        read_state(values);
        vmx_set(ENTRY_INTERRUPTION_INFO, INTR_VALID | PUT(1, INTR_TYPE) | VECTOR_TEST);
        CHECK_EQ(vm_enter(&vm), VMXERR_ENTRY_CONTROLS);
        CHECK_EQ(vmx_get(ENTRY_INTERRUPTION_INFO), INTR_VALID | PUT(1, INTR_TYPE) | VECTOR_TEST);
        check_state(values);
        vmx_set(ENTRY_INTERRUPTION_INFO, 0);
        become_steady(&vm);
        vm_skip(&vm);
    }
}

/* Written before an entry that VMfails, not after: the next one must not inject it. */
static void withdrawn_event(void)
{
    struct vm vm;

    start_steady(&vm);
    trap_count[VECTOR_TEST] = 0;
    vmx_set(GUEST_RFLAGS, RFLAGS_FIXED1 | RFLAGS_IF);
    vmx_set(ENTRY_INTERRUPTION_INFO, INTR_VALID | PUT(INTR_TYPE_EXTERNAL, INTR_TYPE) | VECTOR_TEST);
    vmx_set(CR3_TARGET_COUNT, 5);
    CHECK_EQ(vm_enter(&vm), VMXERR_ENTRY_CONTROLS);
    vmx_set(CR3_TARGET_COUNT, 0);
    vmx_set(ENTRY_INTERRUPTION_INFO, 0);
    become_steady(&vm);
    CHECK_EQ(trap_count[VECTOR_TEST], 0);
}

/* L1 steps over its own VMRESUME: the trap is due at no instruction behind the exit. */
static void stepped_resume(void)
{
    struct vm vm;

    start_steady(&vm);
    for (unsigned round = 0; round < 2; round++) {
        trap_debug_counted = true;
        trap_count[VECTOR_DB] = 0;
        asm volatile("pushfq; orl $0x100, (%%rsp); popfq" : : : "memory", "cc");
        int failed = vm_enter(&vm); /* the exit clears TF */
        trap_debug_counted = false;
        CHECK(trap_count[VECTOR_DB] > 10);
        CHECK(trap_rip != (uint64_t)vm_exit_point);
        CHECK_EQ(failed, 0);
        CHECK_EQ(vm.exit.reason, EXIT_CPUID);
        vm_skip(&vm);
    }
}

/* MOV SS before VMRESUME. SDM 3C 27.1 "Basic VM-Entry Checks" */
static void resume_after_mov_ss(void)
{
    uint8_t failed;
    uint16_t ss;
    struct vm vm;

    start_steady(&vm);
    asm volatile("mov %%ss, %1; mov %1, %%ss; vmresume; setz %0" : "=r"(failed), "=&r"(ss) : : "memory", "cc");
    CHECK_EQ(failed, true);
    CHECK_EQ(vmx_get(VM_INSTRUCTION_ERROR), VMXERR_ENTRY_MOV_SS);
    become_steady(&vm);
}

/* Another VMCS in between, each with its own state of L2, and one that is cleared. */
static void two_in_turn(void)
{
    struct vm vm[2];

    start_steady(&vm[0]);
    vm_create(&vm[1], l2_cpuids, 0);
    become_steady(&vm[1]);
    vm_skip(&vm[1]);
    for (unsigned round = 0; round < 12; round++) {
        struct vm *next = &vm[round & 1];
        vm_load(next);
        vmx_set(GUEST_FS_BASE, 0x1000 * round);
        become_steady(next);
        CHECK_EQ(vmx_get(GUEST_FS_BASE), 0x1000 * round);
        vm_skip(next);
        if (round % 5 == 4) {
            uint64_t rip = vmx_get(GUEST_RIP);
            vm_clear(next);
            vm_load(next);
            CHECK_EQ(vmx_get(GUEST_RIP), rip);
        }
    }
}

static const char *without_tpr_shadow(void)
{
    return vm_control_offered(PROC_CONTROLS, (uint32_t)PROC_TPR_SHADOW) ? NULL : "no TPR shadow";
}

/* The threshold is L1's to write without an exit, and the entry checks it against L2's TPR. */
static void refused_threshold(void)
{
    struct vm vm;

    vmx_start();
    vm_create(&vm, l2_cpuids, 0);
    vm_control_set(PROC_CONTROLS, (uint32_t)PROC_TPR_SHADOW);
    vmx_set(VIRTUAL_APIC_ADDR, (uint64_t)page_alloc());
    become_steady(&vm);
    vm_skip(&vm);
    for (unsigned round = 0; round < 2; round++) {
        vmx_set(TPR_THRESHOLD, round ? 0x10 : 1);
        CHECK_EQ(vm_enter(&vm), VMXERR_ENTRY_CONTROLS);
        vmx_set(TPR_THRESHOLD, 0);
        become_steady(&vm);
        vm_skip(&vm);
    }
}

/* The list of MSRs is loaded behind the checks of the guest's state, also of what L1 writes without an exit.
 * SDM 3C 27.4 "Loading MSRs" */
static void refused_before_list(void)
{
    struct {
        uint32_t index, reserved;
        uint64_t value;
    } * list;
    struct vm vm;

    start_steady(&vm);
    list = page_alloc();
    list[0].index = IA32_FS_BASE; /* must not be in one */
    vmx_set(ENTRY_MSR_LOAD_ADDR, (uint64_t)list);
    vmx_set(ENTRY_MSR_LOAD_COUNT, 1);
    for (unsigned round = 0; round < 2; round++) {
        CHECK_EQ(vm_run(&vm), EXIT_MSR_LOAD_FAIL);
        vmx_set(GUEST_RFLAGS, 0);
        CHECK_EQ(vm_run(&vm), EXIT_INVALID_GUEST_STATE);
        vmx_set(GUEST_RFLAGS, RFLAGS_FIXED1);
        vmx_set(GUEST_INTERRUPTIBILITY, BLOCKING_BY_STI | BLOCKING_BY_MOV_SS);
        CHECK_EQ(vm_run(&vm), EXIT_INVALID_GUEST_STATE);
        vmx_set(GUEST_INTERRUPTIBILITY, 0);
    }
    vmx_set(ENTRY_MSR_LOAD_COUNT, 0);
    become_steady(&vm);
}

static uint32_t straight_exits(struct vm *vm)
{
    uint32_t before = counter_read(COUNTER_EXITS_STRAIGHT);

    become_steady(vm);
    vm_skip(vm);
    return counter_read(COUNTER_EXITS_STRAIGHT) - before;
}

/* Into wait-for-SIPI, with a state that the CPU refuses and Nestor leaves to it: nobody waits after that. */
static void refused_wait(void)
{
    uint32_t usual;
    struct vm vm;

    start_steady(&vm);
    usual = straight_exits(&vm);
    vmx_set(GUEST_INTERRUPTIBILITY, ENCLAVE_INTERRUPTION);
    if (vm_run(&vm) != EXIT_INVALID_GUEST_STATE) /* a CPU with SGX: the wait would begin */
        return;
    vmx_set(GUEST_ACTIVITY_STATE, ACTIVITY_WAIT_SIPI);
    CHECK_EQ(vm_run(&vm), EXIT_INVALID_GUEST_STATE);
    vmx_set(GUEST_ACTIVITY_STATE, ACTIVITY_ACTIVE);
    vmx_set(GUEST_INTERRUPTIBILITY, 0);
    (void)straight_exits(&vm);
    CHECK_EQ(straight_exits(&vm), usual);
}

static const char *without_wait(void)
{
    bool waits = cpu_rdmsr(IA32_VMX_MISC) & VMX_MISC_ACTIVITY_WAIT_SIPI;

    return waits ? without_counters() : "no activity state wait-for-SIPI";
}

/* The preemption timer's field is L1's where an exit does not save it, by whichever way L2 was entered and has left. */
static void timer_stays(void)
{
    struct vm vm;

    vmx_start();
    vm_create(&vm, l2_cpuids, VM_NO_EPT);
    vmx_set(PREEMPTION_TIMER, 0x7000000);
    vm_control_set(PIN_CONTROLS, PIN_PREEMPTION_TIMER);
    if (vm_control_offered(PROC2_CONTROLS, PROC2_APIC_ACCESS)) { /* without EPT each entry has something to do */
        vmx_set(APIC_ACCESS_ADDR, (uint64_t)page_alloc());
        vm_secondary_set((uint32_t)PROC2_APIC_ACCESS);
    }
    become_steady(&vm);
    vm_skip(&vm);
    for (uint64_t round = 1; round <= 4; round++) {
        vmx_set(PREEMPTION_TIMER, 0x7000000 * round);
        if (round % 2) /* L1 wrote a row of which an entry has to know */
            vmx_set(EXCEPTION_BITMAP, round);
        become_steady(&vm);
        vm_skip(&vm);
        CHECK_EQ(vmx_get(PREEMPTION_TIMER), 0x7000000 * round);
    }
    for (unsigned round = 0; round < 2; round++) {
        vmx_set(PREEMPTION_TIMER, 0);
        CHECK_EQ(vm_run(&vm), EXIT_PREEMPTION_TIMER);
        CHECK_EQ(vm_run(&vm), EXIT_PREEMPTION_TIMER);
        vmx_set(PREEMPTION_TIMER, 0x7000000);
        become_steady(&vm);
        vm_skip(&vm);
        CHECK_EQ(vmx_get(PREEMPTION_TIMER), 0x7000000);
    }
}

static const char *without_timer(void)
{
    return vm_control_offered(PIN_CONTROLS, PIN_PREEMPTION_TIMER) ? NULL : "no preemption timer";
}

static const char *without_window(void)
{
    return cpu_cpuid(INSPECT_LEAF, 0).ebx == 0x7473654e ? NULL : "no port of the option inspect="; /* "Nest" */
}

/* L1 has written an event without an exit, and then looks at its VMCS by Nestor's port, which fetches it. */
static void event_after_window(void)
{
    struct vm vm;
    uint16_t port = (uint16_t)cpu_cpuid(INSPECT_LEAF_PORT, 0).ebx;

    start_steady(&vm);
    vm_control_set(PIN_CONTROLS, PIN_NMI | PIN_VIRTUAL_NMIS); /* so that the CPU delivers it by the straight way */
    become_steady(&vm);
    vm_skip(&vm);
    trap_count[VECTOR_TEST] = 0;
    for (unsigned round = 1; round <= 3; round++) {
        vmx_set(GUEST_RFLAGS, RFLAGS_FIXED1 | RFLAGS_IF);
        vmx_set(ENTRY_INTERRUPTION_INFO, INTR_VALID | PUT(INTR_TYPE_EXTERNAL, INTR_TYPE) | VECTOR_TEST);
        cpu_outl(port, INSPECT_OFFSET(INSPECT_VMCS, 0));
        (void)cpu_inl(port);
        become_steady(&vm);
        vm_skip(&vm);
        CHECK_EQ(trap_count[VECTOR_TEST], round);
    }
}

/* An event runs into a page that L1 has mapped, and L0 has not yet: L0 maps it, and the event is delivered. */
static void event_over_violation(void)
{
    enum { PAGES = 4 };
    uint64_t *entry[PAGES], leaf[PAGES], *stack = page_alloc_run(PAGES, PAGE_SIZE);
    struct inv_descriptor descriptor;
    struct vm vm;

    vmx_start();
    vm_create(&vm, l2_cpuids, VM_EPT);
    become_steady(&vm);
    vm_skip(&vm);
    vm_control_set(PIN_CONTROLS, PIN_NMI | PIN_VIRTUAL_NMIS); /* so that the CPU delivers it by the straight way */
    for (unsigned i = 0; i < PAGES; i++) {
        entry[i] = paging_entry(vm.ept, (uint64_t)stack + i * PAGE_SIZE, PAGE_SIZE);
        leaf[i] = *entry[i];
        *entry[i] = 0;
    }
    descriptor = (struct inv_descriptor){.low = vmx_get(EPT_POINTER)};
    CHECK_EQ(vmx_invept(1, &descriptor), 0);
    trap_count[VECTOR_TEST] = 0;
    for (unsigned i = 0; i < PAGES; i++) {
        become_steady(&vm);
        vm_skip(&vm);
        *entry[i] = leaf[i];
        vmx_set(GUEST_RSP, (uint64_t)stack + (i + 1) * PAGE_SIZE);
        vmx_set(GUEST_RFLAGS, RFLAGS_FIXED1 | RFLAGS_IF);
        vmx_set(ENTRY_INTERRUPTION_INFO, INTR_VALID | PUT(INTR_TYPE_EXTERNAL, INTR_TYPE) | VECTOR_TEST);
        EXPECT_EXIT_SKIP(&vm, EXIT_CPUID);
        CHECK_EQ(trap_count[VECTOR_TEST], i + 1);
    }
}

const struct scenario straight_scenarios[] = {
    {"straight-event-stays", event_stays, NULL},
    {"straight-event-over-violation", event_over_violation, without_ept},
    {"straight-refused-state", refused_state, NULL},
    {"straight-refused-event", refused_event, NULL},
    {"straight-withdrawn-event", withdrawn_event, NULL},
    {"straight-stepped-resume", stepped_resume, NULL},
    {"straight-resume-after-mov-ss", resume_after_mov_ss, NULL},
    {"straight-two-in-turn", two_in_turn, NULL},
    {"straight-timer-stays", timer_stays, without_timer},
    {"straight-event-after-window", event_after_window, without_window},
    {"straight-refused-before-list", refused_before_list, NULL},
    {"straight-refused-wait", refused_wait, without_wait},
    {"straight-refused-threshold", refused_threshold, without_tpr_shadow},
    {NULL, NULL, NULL},
};
