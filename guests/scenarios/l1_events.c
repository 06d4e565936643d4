/* Interrupts and NMIs of L1: none is lost, doubled or early, whatever L1 or whoever runs it is doing. */
#include "guests/lib/cpu.h"
#include "guests/lib/desc.h"
#include "guests/lib/irq.h"
#include "guests/scenarios/scenario.h"

#define PIT_COUNTER0 0x40
#define PIT_COMMAND 0x43
#define PIT_ONE_SHOT 0x30 /* counter 0, low and high byte, mode 0: one interrupt at its end */
#define PIC1_COMMAND 0x20
#define PIC1_DATA 0x21
#define PIC_ICW1 0x11
#define PIC_ICW4_8086 1
#define PIC_EOI 0x20
#define PIC_CASCADE BIT(2)
#define PIC_VECTOR 0x50
#define IOAPIC_SELECT 0xfec00000ull
#define IOAPIC_WINDOW 0xfec00010ull
#define IOAPIC_REDIRECTION 0x10
#define IOAPIC_PIT_PIN 2
#define IOAPIC_NMI 0x400
#define IOAPIC_MASKED BIT(16)
#define LAPIC_LVT_TIMER 0x320
#define LAPIC_TIMER_INITIAL 0x380
#define LAPIC_LVT_LINT0 0x350
#define LVT_EXTINT 0x700
#define LVT_MASKED 0x10000
#define LVT_PERIODIC 0x20000
#define ROUNDS 40
#define WAIT_LIMIT 200000
#define PIT_TICKS 60

/* For l1_events.asm. */
extern volatile uint32_t nmi_taken, nmi_nested, nmi_to_send;
volatile uint32_t nmi_taken, nmi_nested, nmi_to_send;
void nmi_handler(void);

static void exit_somewhere(void)
{
    (void)cpu_cpuid(0, 0);
}

/* One-shots one after the other into a loop that does nothing but exit. */
static void events_timer_in_exits(void)
{
    trap_count[IRQ_VECTOR_TIMER] = 0;
    asm volatile("sti");
    for (unsigned n = 1; n <= ROUNDS; n++) {
        irq_timer_start(100 + 37 * n);
        for (unsigned i = 0; i < WAIT_LIMIT && trap_count[IRQ_VECTOR_TIMER] < n; i++)
            exit_somewhere();
        CHECK_EQ(trap_count[IRQ_VECTOR_TIMER], n);
    }
    for (unsigned i = 0; i < 100; i++)
        exit_somewhere();
    asm volatile("cli");
    CHECK_EQ(trap_count[IRQ_VECTOR_TIMER], ROUNDS);
}

/* A periodic timer: as many interrupts as the time has periods. */
static void events_periodic_timer(void)
{
    uint64_t start;
    const uint32_t period = 20000;

    trap_count[IRQ_VECTOR_TIMER] = 0;
    irq_lapic_write(LAPIC_LVT_TIMER, LVT_PERIODIC | IRQ_VECTOR_TIMER);
    irq_lapic_write(LAPIC_TIMER_INITIAL, period);
    asm volatile("sti");
    for (unsigned i = 0; i < WAIT_LIMIT && trap_count[IRQ_VECTOR_TIMER] < 1; i++)
        exit_somewhere();
    start = cpu_rdtsc();
    for (unsigned i = 0; i < WAIT_LIMIT && trap_count[IRQ_VECTOR_TIMER] < 1 + ROUNDS; i++)
        exit_somewhere();
    asm volatile("cli");
    irq_timer_stop();
    CHECK_EQ(trap_count[IRQ_VECTOR_TIMER], 1 + ROUNDS);
    CHECK(cpu_rdtsc() > start);
}

static void pit_one_shot(uint16_t ticks)
{
    cpu_outb(PIT_COMMAND, PIT_ONE_SHOT);
    cpu_outb(PIT_COUNTER0, (uint8_t)ticks);
    cpu_outb(PIT_COUNTER0, (uint8_t)(ticks >> 8));
}

static void pic_eoi(uint64_t vector)
{
    if (vector == PIC_VECTOR)
        cpu_outb(PIC1_COMMAND, PIC_EOI);
}

static void pic_start(void)
{
    cpu_outb(PIC1_COMMAND, PIC_ICW1);
    cpu_outb(PIC1_DATA, PIC_VECTOR);
    cpu_outb(PIC1_DATA, PIC_CASCADE);
    cpu_outb(PIC1_DATA, PIC_ICW4_8086);
    cpu_outb(PIC1_DATA, 0xfe); /* IRQ 0 alone */
    irq_lapic_write(LAPIC_LVT_LINT0, LVT_EXTINT);
    trap_hook = pic_eoi;
}

static void pic_stop(void)
{
    cpu_outb(PIC1_DATA, 0xff);
    irq_lapic_write(LAPIC_LVT_LINT0, LVT_MASKED);
    trap_hook = NULL;
}

/* The old way: PIT, 8259, INTR; the interrupt acknowledge is the CPU's own. */
static void events_pit(void)
{
    trap_count[PIC_VECTOR] = 0;
    pic_start();
    asm volatile("sti");
    for (unsigned n = 1; n <= ROUNDS; n++) {
        pit_one_shot(PIT_TICKS);
        for (unsigned i = 0; i < WAIT_LIMIT && trap_count[PIC_VECTOR] < n; i++)
            exit_somewhere();
        CHECK_EQ(trap_count[PIC_VECTOR], n);
    }
    asm volatile("cli");
    pit_one_shot(PIT_TICKS);
    asm volatile("sti; hlt; cli" : : : "memory");
    CHECK_EQ(trap_count[PIC_VECTOR], ROUNDS + 1);
    pic_stop();
}

static void nmi_install(uint64_t saved[2])
{
    uint64_t *gate = (uint64_t *)(desc_idt_base() + 16 * VECTOR_NMI);

    saved[0] = gate[0];
    saved[1] = gate[1];
    desc_set_gate(VECTOR_NMI, (uint64_t)nmi_handler, 0);
    nmi_taken = nmi_nested = nmi_to_send = 0;
}

static void nmi_restore(const uint64_t saved[2])
{
    uint64_t *gate = (uint64_t *)(desc_idt_base() + 16 * VECTOR_NMI);

    gate[0] = saved[0];
    gate[1] = saved[1];
}

static void wait_for_nmis(uint32_t count)
{
    for (unsigned i = 0; i < WAIT_LIMIT && nmi_taken < count; i++)
        exit_somewhere();
    CHECK_EQ(nmi_taken, count);
}

/* Each NMI that the handler sends waits for its IRET, and comes then. */
static void events_nmi_blocked_in_handler(void)
{
    uint64_t saved[2];

    nmi_install(saved);
    for (unsigned n = 0; n < 5; n++) {
        nmi_taken = 0;
        nmi_to_send = n;
        irq_self_nmi();
        wait_for_nmis(n + 1);
        CHECK_EQ(nmi_nested, 0);
    }
    nmi_restore(saved);
}

/* NMIs with interrupts on and off, right before instructions that exit. */
static void events_nmi_in_exits(void)
{
    uint64_t saved[2];

    nmi_install(saved);
    for (unsigned n = 1; n <= ROUNDS; n++) {
        if (n & 1)
            asm volatile("sti");
        irq_self_nmi();
        exit_somewhere();
        exit_somewhere();
        asm volatile("cli");
        wait_for_nmis(n);
    }
    nmi_restore(saved);
}

static void ioapic_write(uint32_t index, uint32_t value)
{
    *(volatile uint32_t *)IOAPIC_SELECT = index;
    *(volatile uint32_t *)IOAPIC_WINDOW = value;
}

static uint32_t ioapic_read(uint32_t index)
{
    *(volatile uint32_t *)IOAPIC_SELECT = index;
    return *(volatile uint32_t *)IOAPIC_WINDOW;
}

/* The PIT's interrupt as an NMI: it comes when it likes, also while somebody handles an exit. */
static void events_nmi_from_device(void)
{
    uint32_t index = IOAPIC_REDIRECTION + 2 * IOAPIC_PIT_PIN;
    uint64_t saved[2];

    nmi_install(saved);
    ioapic_write(index + 1, irq_lapic_read(LAPIC_ID));
    ioapic_write(index, IOAPIC_NMI);
    for (unsigned n = 1; n <= ROUNDS; n++) {
        pit_one_shot((uint16_t)(PIT_TICKS + n));
        wait_for_nmis(n);
    }
    /* HLT with interrupts off: only the NMI ends it. */
    pit_one_shot(PIT_TICKS);
    asm volatile("cli; hlt" : : : "memory");
    CHECK_EQ(nmi_taken, ROUNDS + 1);
    ioapic_write(index, IOAPIC_MASKED);
    nmi_restore(saved);
}

static const char *without_ioapic(void)
{
    return (ioapic_read(1) >> 16 & 0xff) >= IOAPIC_PIT_PIN ? NULL : "no IOAPIC";
}

/* STI lets one instruction pass, and CLI in its place closes the door again. */
static void events_sti_cli(void)
{
    uint64_t expected;

    trap_count[IRQ_VECTOR_SELF] = 0;
    irq_self_ipi(IRQ_VECTOR_SELF);
    asm volatile("sti; cli; nop; nop" : : : "memory");
    CHECK_EQ(trap_count[IRQ_VECTOR_SELF], 0);
    asm volatile("lea 1f(%%rip), %0; sti; nop; 1: nop; cli" : "=&r"(expected) : : "memory");
    CHECK_EQ(trap_count[IRQ_VECTOR_SELF], 1);
    CHECK_EQ(trap_rip, expected);
}

/* POPF lets them in at once; MOV SS holds them off like STI does, also over an instruction that exits. */
static void events_mov_ss(void)
{
    uint64_t expected;

    trap_count[IRQ_VECTOR_SELF] = 0;
    irq_self_ipi(IRQ_VECTOR_SELF);
    asm volatile("lea 1f(%%rip), %0; mov %%ss, %%edx; pushfq; orq $0x200, (%%rsp); popfq; 1: nop; cli"
                 : "=&r"(expected)
                 :
                 : "rdx", "memory");
    CHECK_EQ(trap_count[IRQ_VECTOR_SELF], 1);
    CHECK_EQ(trap_rip, expected);
    irq_self_ipi(IRQ_VECTOR_SELF);
    asm volatile("lea 1f(%%rip), %0; mov %%ss, %%edx; xor %%eax, %%eax; sti; mov %%edx, %%ss; cpuid; 1: nop; cli"
                 : "=&r"(expected)
                 :
                 : "rax", "rbx", "rcx", "rdx", "memory");
    CHECK_EQ(trap_count[IRQ_VECTOR_SELF], 2);
    CHECK_EQ(trap_rip, expected);
}

/* The task priority holds a vector back until CR8 lets it through. */
static void events_task_priority(void)
{
    trap_count[IRQ_VECTOR_SELF] = 0;
    cpu_write_cr8(IRQ_VECTOR_SELF >> 4);
    asm volatile("sti");
    irq_self_ipi(IRQ_VECTOR_SELF);
    exit_somewhere();
    CHECK_EQ(trap_count[IRQ_VECTOR_SELF], 0);
    cpu_write_cr8((IRQ_VECTOR_SELF >> 4) - 1);
    exit_somewhere();
    asm volatile("cli");
    CHECK_EQ(trap_count[IRQ_VECTOR_SELF], 1);
    cpu_write_cr8(0);
}

/* Two interrupts of one vector before the first is taken are one, of two vectors are two. */
static void events_pending(void)
{
    trap_count[IRQ_VECTOR_SELF] = trap_count[IRQ_VECTOR_TIMER] = 0;
    irq_self_ipi(IRQ_VECTOR_SELF);
    irq_self_ipi(IRQ_VECTOR_SELF);
    irq_self_ipi(IRQ_VECTOR_TIMER);
    exit_somewhere();
    irq_window();
    irq_window();
    CHECK_EQ(trap_count[IRQ_VECTOR_SELF], 1);
    CHECK_EQ(trap_count[IRQ_VECTOR_TIMER], 1);
}

static void events_halt(void)
{
    uint64_t expected;

    trap_count[IRQ_VECTOR_TIMER] = 0;
    for (unsigned n = 1; n <= 10; n++) {
        irq_timer_start(5000 * n);
        asm volatile("lea 1f(%%rip), %0; sti; hlt; 1: cli" : "=&r"(expected) : : "memory");
        CHECK_EQ(trap_count[IRQ_VECTOR_TIMER], n);
        CHECK_EQ(trap_rip, expected);
    }
    /* One that waits already: HLT is over at once. */
    irq_self_ipi(IRQ_VECTOR_SELF);
    asm volatile("lea 1f(%%rip), %0; sti; hlt; 1: cli" : "=&r"(expected) : : "memory");
    CHECK_EQ(trap_rip, expected);
}

const struct scenario l1_event_scenarios[] = {
    {"l1-events-timer-in-exits", events_timer_in_exits, NULL},
    {"l1-events-periodic-timer", events_periodic_timer, NULL},
    {"l1-events-pit", events_pit, NULL},
    {"l1-events-nmi-blocked-in-handler", events_nmi_blocked_in_handler, NULL},
    {"l1-events-nmi-in-exits", events_nmi_in_exits, NULL},
    {"l1-events-nmi-from-device", events_nmi_from_device, without_ioapic},
    {"l1-events-sti-cli", events_sti_cli, NULL},
    {"l1-events-mov-ss", events_mov_ss, NULL},
    {"l1-events-task-priority", events_task_priority, NULL},
    {"l1-events-pending", events_pending, NULL},
    {"l1-events-halt", events_halt, NULL},
    {NULL, NULL, NULL},
};
