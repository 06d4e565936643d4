/* NMIs that are pending when L1 enters L2, or come while the entry is under way. */
#include "guests/lib/cpu.h"
#include "guests/lib/irq.h"
#include "guests/lib/page.h"
#include "guests/lib/trap.h"
#include "guests/scenarios/scenario.h"

extern const uint64_t trap_stubs[256];

/* The I/O APIC turns the PIT's interrupt into an NMI. */
#define IOAPIC_BASE 0xfec00000ull
#define IOAPIC_DATA 0x10
#define IOAPIC_PIN_PIT 2
#define IOAPIC_NMI BIT(10)
#define IOAPIC_MASKED BIT(16)
#define PIT_COUNT 200
#define PIT_CHANNEL0 0x40
#define PIT_COMMAND 0x43
#define PIT_ONE_SHOT 0x30

#define SWEEP_BACK 2400 /* ticks before the NMI at which the first round enters */
#define SWEEP_STEP 3
#define SPIN_TURNS 20000

static void l2_nothing(void)
{
}

static void l2_send_nmi(void)
{
    irq_self_nmi();
    for (unsigned i = 0; i < 1000; i++)
        cpu_pause();
}

static void end_nmi_blocking(void)
{
    asm volatile("mov %%rsp, %%rdx; mov %%ss, %%eax; push %%rax; push %%rdx; pushfq; mov %%cs, %%eax; push %%rax;"
                 "lea 1f(%%rip), %%rax; push %%rax; iretq; 1:"
                 :
                 :
                 : "rax", "rdx", "memory");
}

/* L2 and L1's NMIs blocked, by an NMI exit; one more NMI is pending. */
static void start_with_nmi_pending(struct vm *vm, uint32_t pin)
{
    vmx_start();
    trap_count[VECTOR_NMI] = trap_count[IRQ_VECTOR_SELF] = 0;
    vm_create(vm, l2_send_nmi, 0);
    vm_control_set(PIN_CONTROLS, pin);
    EXPECT_EXIT(vm, EXIT_EXCEPTION_NMI);
    irq_self_nmi();
    vm_set_code(vm, l2_nothing);
    vmx_set(GUEST_INTERRUPTIBILITY, 0);
    CHECK_EQ(trap_count[VECTOR_NMI], 0);
}

static void inject_interrupt(void)
{
    vmx_set(GUEST_RFLAGS, RFLAGS_FIXED1 | RFLAGS_IF);
    vmx_set(ENTRY_INTERRUPTION_INFO, INTR_VALID | PUT(INTR_TYPE_EXTERNAL, INTR_TYPE) | IRQ_VECTOR_SELF);
}

/* The event goes in first, the NMI before the first instruction of its handler. */
static void check_nmi_after_event(uint32_t pin, uint32_t blocking)
{
    struct vm vm;

    start_with_nmi_pending(&vm, pin);
    inject_interrupt();
    vmx_set(GUEST_INTERRUPTIBILITY, blocking);
    EXPECT_EXIT(&vm, EXIT_EXCEPTION_NMI);
    CHECK_EQ(GET(vm.exit.intr_info, INTR_TYPE), INTR_TYPE_NMI);
    CHECK_EQ(vm.exit.idt_info & INTR_VALID, 0);
    CHECK_EQ(vmx_get(GUEST_RIP), trap_stubs[IRQ_VECTOR_SELF]);
    CHECK_EQ(vmx_get(GUEST_INTERRUPTIBILITY), blocking);
    end_nmi_blocking();
    CHECK_EQ(trap_count[VECTOR_NMI], 0);
    EXPECT_DONE(&vm);
    CHECK_EQ(trap_count[IRQ_VECTOR_SELF], 1);
    vmx_stop();
}

static void pending_with_event(void)
{
    check_nmi_after_event((uint32_t)PIN_NMI, 0);
}

static void pending_with_event_virtual(void)
{
    check_nmi_after_event((uint32_t)(PIN_NMI | PIN_VIRTUAL_NMIS), 0);
    check_nmi_after_event((uint32_t)(PIN_NMI | PIN_VIRTUAL_NMIS), (uint32_t)BLOCKING_BY_NMI);
}

/* L2 runs with NMIs blocked: the NMI waits for L1, which goes on with them blocked. */
static void check_nmi_after_l2(void (*code)(void))
{
    struct vm vm;

    start_with_nmi_pending(&vm, (uint32_t)PIN_NMI);
    vm_set_code(&vm, code);
    vmx_set(GUEST_INTERRUPTIBILITY, BLOCKING_BY_NMI);
    EXPECT_DONE(&vm);
    CHECK_EQ(vmx_get(GUEST_INTERRUPTIBILITY), BLOCKING_BY_NMI);
    CHECK_EQ(trap_count[VECTOR_NMI], 0);
    end_nmi_blocking();
    irq_window();
    CHECK_EQ(trap_count[VECTOR_NMI], 1);
}

static void pending_with_l2_blocked(void)
{
    check_nmi_after_l2(l2_nothing);
}

/* IRET changes nothing about it where NMIs exit. SDM 3C 26.3 "Changes to Instruction Behavior" */
static void iret_keeps_blocking(void)
{
    check_nmi_after_l2(end_nmi_blocking);
}

/* An NMI that L1 injects blocks the ones behind it; that NMIs were blocked before does not matter without virtual
 * ones. */
static void injected_nmi_blocks(void)
{
    struct vm vm;

    for (unsigned blocked = 0; blocked < 2; blocked++) {
        start_with_nmi_pending(&vm, (uint32_t)PIN_NMI);
        vmx_set(GUEST_INTERRUPTIBILITY, blocked ? BLOCKING_BY_NMI : 0);
        vmx_set(ENTRY_INTERRUPTION_INFO, INTR_VALID | PUT(INTR_TYPE_NMI, INTR_TYPE) | VECTOR_NMI);
        EXPECT_DONE(&vm);
        CHECK_EQ(trap_count[VECTOR_NMI], 1); /* L2's */
        CHECK_EQ(vmx_get(GUEST_INTERRUPTIBILITY), BLOCKING_BY_NMI);
        end_nmi_blocking();
        irq_window();
        CHECK_EQ(trap_count[VECTOR_NMI], 2);
        vmx_stop();
    }
}

/* L1's own window is open as soon as the event is in, and stays until L1 closes it; the NMI goes to L1 meanwhile. */
static void window_stays(void)
{
    struct vm vm;

    start_with_nmi_pending(&vm, (uint32_t)(PIN_NMI | PIN_VIRTUAL_NMIS));
    vm_control_set(PROC_CONTROLS, (uint32_t)PROC_NMI_WINDOW);
    inject_interrupt();
    EXPECT_EXIT(&vm, EXIT_NMI_WINDOW);
    CHECK_EQ(vmx_get(GUEST_RIP), trap_stubs[IRQ_VECTOR_SELF]);
    irq_window();
    CHECK_EQ(trap_count[VECTOR_NMI], 1);
    EXPECT_EXIT(&vm, EXIT_NMI_WINDOW);
    EXPECT_EXIT(&vm, EXIT_NMI_WINDOW);
    vm_control_clear(PROC_CONTROLS, (uint32_t)PROC_NMI_WINDOW);
    EXPECT_DONE(&vm);
    CHECK_EQ(trap_count[VECTOR_NMI], 1);
}

static void ioapic_write(uint32_t index, uint32_t value)
{
    *(volatile uint32_t *)IOAPIC_BASE = index;
    *(volatile uint32_t *)(IOAPIC_BASE + IOAPIC_DATA) = value;
}

static void route_pit(uint32_t how)
{
    ioapic_write(0x10 + 2 * IOAPIC_PIN_PIT, how);
    ioapic_write(0x11 + 2 * IOAPIC_PIN_PIT, irq_lapic_read(LAPIC_ID));
}

static void pit_start(void)
{
    cpu_outb(PIT_COMMAND, PIT_ONE_SHOT);
    cpu_outb(PIT_CHANNEL0, PIT_COUNT & 0xff);
    cpu_outb(PIT_CHANNEL0, PIT_COUNT >> 8);
}

static uint64_t ticks_to_nmi(void)
{
    unsigned before = trap_count[VECTOR_NMI];
    uint64_t start;

    pit_start();
    start = cpu_rdtsc();
    for (unsigned i = 0; i < SPIN_TURNS && trap_count[VECTOR_NMI] == before; i++)
        cpu_pause();
    return cpu_rdtsc() - start;
}

static void l2_spin(void)
{
    for (unsigned i = 0; i < SPIN_TURNS && !trap_count[VECTOR_NMI]; i++)
        cpu_pause();
}

/* The cases that the rounds have in turn. */
static const struct round {
    uint32_t pin, proc, blocking;
    bool event;
} rounds[] = {
    {PIN_NMI, 0, 0, false},
    {PIN_NMI, 0, 0, true},
    {PIN_NMI | PIN_VIRTUAL_NMIS, 0, 0, true},
    {PIN_NMI | PIN_VIRTUAL_NMIS, 0, BLOCKING_BY_NMI, true},
    {PIN_NMI | PIN_VIRTUAL_NMIS, PROC_NMI_WINDOW, BLOCKING_BY_NMI, false},
    {PIN_NMI | PIN_VIRTUAL_NMIS, PROC_NMI_WINDOW, 0, true},
    {0, 0, 0, false},
    {0, 0, 0, true},
};

static void prepare_round(struct vm *vm, const struct round *round)
{
    vm_set_code(vm, l2_spin);
    vm_control_clear(PIN_CONTROLS, (uint32_t)(PIN_NMI | PIN_VIRTUAL_NMIS));
    vm_control_clear(PROC_CONTROLS, (uint32_t)PROC_NMI_WINDOW);
    vm_control_set(PIN_CONTROLS, round->pin);
    vm_control_set(PROC_CONTROLS, round->proc);
    vmx_set(GUEST_INTERRUPTIBILITY, round->blocking);
    if (round->event)
        inject_interrupt();
    trap_count[VECTOR_NMI] = trap_count[IRQ_VECTOR_SELF] = 0;
}

static void take_nmi_exit(struct vm *vm, const struct round *round)
{
    CHECK_EQ(GET(vm->exit.intr_info, INTR_TYPE), INTR_TYPE_NMI);
    if (!(round->pin & PIN_VIRTUAL_NMIS)) /* Bochs says that the NMI itself blocks them */
        vmx_set(GUEST_INTERRUPTIBILITY, round->blocking);
    end_nmi_blocking();
    trap_count[VECTOR_NMI]++; /* ends L2's spinning */
}

/* Runs L2 to its end. A window that is open is so at each entry until it is closed. */
static void run_round(struct vm *vm, const struct round *round)
{
    unsigned windows = 0;

    for (;;) {
        uint16_t reason = vm_run(vm);
        if (reason == EXIT_EXCEPTION_NMI)
            take_nmi_exit(vm, round);
        else if (reason != EXIT_NMI_WINDOW)
            break;
        else if (++windows == 2)
            vm_control_clear(PROC_CONTROLS, (uint32_t)PROC_NMI_WINDOW);
    }
    CHECK_EQ(vm->exit.reason, EXIT_VMCALL);
    CHECK_EQ(windows, round->proc && !round->blocking ? 2 : 0);
}

/* How often the NMI came, to whom ever, when L2 is entered `delay` ticks after the PIT was started. */
static unsigned enter_near_nmi(struct vm *vm, const struct round *round, uint64_t delay)
{
    uint64_t start;

    prepare_round(vm, round);
    pit_start();
    start = cpu_rdtsc();
    while (cpu_rdtsc() - start < delay)
        ;
    run_round(vm, round);
    CHECK_EQ(vmx_get(GUEST_INTERRUPTIBILITY), round->event ? 0 : round->blocking); /* the handler's IRET ends it */
    CHECK_EQ(trap_count[IRQ_VECTOR_SELF], round->event);
    end_nmi_blocking();
    return trap_count[VECTOR_NMI];
}

/* Before the entry, at each step of it, behind it: the NMI comes once. */
static void at_every_step(void)
{
    unsigned failures = check_failures(), turn = 0;
    uint64_t due;
    struct vm vm;

    vm_start(&vm, l2_nothing, 0);
    EXPECT_DONE(&vm);
    route_pit((uint32_t)IOAPIC_NMI);
    (void)ticks_to_nmi();
    due = ticks_to_nmi();
    REQUIRE(due > SWEEP_BACK);
    for (uint64_t back = 0; back < SWEEP_BACK && check_failures() == failures; back += SWEEP_STEP, turn++) {
        const struct round *round = &rounds[turn % ARRAY_SIZE(rounds)];
        CHECK_EQ(enter_near_nmi(&vm, round, due - back), 1);
        if (check_failures() != failures)
            check_report("round %u, kind %lu, %lu ticks before", turn, turn % ARRAY_SIZE(rounds), back);
    }
    route_pit((uint32_t)IOAPIC_MASKED);
}

/* Bochs 2.7: an entry ends no blocking of NMIs. */
static bool probe_entry(void)
{
    struct vm vm;
    bool blocked;

    start_with_nmi_pending(&vm, (uint32_t)(PIN_NMI | PIN_VIRTUAL_NMIS));
    inject_interrupt();
    blocked = vm_run(&vm) != EXIT_EXCEPTION_NMI || (vmx_get(GUEST_INTERRUPTIBILITY) & BLOCKING_BY_NMI);
    end_nmi_blocking();
    return !blocked;
}

static const char *without_unblocking_entry(void)
{
    static bool known, unblocks;
    uint64_t mark = page_mark();

    if (!known) {
        unblocks = probe_entry();
        vmx_stop();
        page_release(mark);
        known = true;
    }
    return unblocks ? NULL : "entries end no blocking of NMIs";
}

const struct scenario nmi_scenarios[] = {
    {"nmi-pending-with-event", pending_with_event, without_unblocking_entry},
    {"nmi-pending-with-event-virtual", pending_with_event_virtual, without_unblocking_entry},
    {"nmi-pending-with-l2-blocked", pending_with_l2_blocked, NULL},
    {"nmi-iret-keeps-blocking", iret_keeps_blocking, without_unblocking_entry},
    {"nmi-injected-blocks", injected_nmi_blocks, NULL},
    {"nmi-window-stays", window_stays, without_unblocking_entry},
    {"nmi-at-every-step", at_every_step, NULL},
    {0},
};
