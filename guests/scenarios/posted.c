/* Posted interrupts: what others ask for in the descriptor reaches L2 without an exit, with the notification's arrival.
 * SDM 3C 30.6 "Posted-Interrupt Processing" */
#include "guests/lib/posted.h"
#include "guests/lib/cpu.h"
#include "guests/lib/irq.h"
#include "guests/lib/msr_bits.h"
#include "guests/lib/page.h"
#include "guests/lib/paging.h"
#include "guests/scenarios/bitmap.h"
#include "guests/scenarios/scenario.h"

#define VECTOR_LOW 0x51
#define VECTOR_HIGH 0xa3
#define VECTOR_NOTIFICATION 0xf2
#define VECTOR_OTHER 0xf3
#define LAPIC_IRR 0x200
#define LAPIC_ISR 0x100
#define TIMER_TICKS 100000 /* L2 is at its loop by then */
#define LONG 10000000      /* turns of that */
#define STATUS_RVI BITS(7, 0)
#define STATUS_SVI BITS(15, 8)
#define ON BIT(0) /* outstanding notification */

/* SDM 3C table "Format of Posted-Interrupt Descriptor" */
struct posted {
    uint32_t requests[8]; /* PIR */
    uint64_t control;     /* ON; the rest is software's */
    uint64_t free[3];
};

static struct posted *posted;
static uint32_t *virtual_apic;
static volatile unsigned l2_taken[2];
static volatile bool l2_waits, l2_released;

static void l2_take_both(void)
{
    asm volatile("int %0; int %1" : : "i"(VECTOR_LOW), "i"(VECTOR_HIGH)); /* their stack is mapped now */
    trap_count[VECTOR_LOW] = trap_count[VECTOR_HIGH] = 0;
    asm volatile("sti; nop; nop; cli");
    l2_taken[1] = trap_count[VECTOR_HIGH];
    cpu_wrmsr(X2APIC_EOI, 0);
    asm volatile("sti; nop; nop; cli");
    l2_taken[0] = trap_count[VECTOR_LOW];
    cpu_wrmsr(X2APIC_EOI, 0);
}

static void l2_pause_often(void)
{
    for (unsigned i = 0; i < 100; i++)
        cpu_pause();
}

/* RFLAGS.IF is cleared here, not by the entry: one that clears it keeps all interrupts from L2 on Bochs. */
static void l2_ask_and_wait(void)
{
    asm volatile("int %0" : : "i"(VECTOR_LOW));
    trap_count[VECTOR_LOW] = 0;
    asm volatile("sti; nop; cli");
    cpu_wrmsr(X2APIC_SELF_IPI, VECTOR_LOW);
    l2_waits = true;
    for (unsigned i = 0; i < LONG && !l2_released; i++)
        cpu_pause();
    l2_taken[0] = trap_count[VECTOR_LOW];
    asm volatile("sti; nop; nop; cli");
    l2_taken[1] = trap_count[VECTOR_LOW];
    cpu_wrmsr(X2APIC_EOI, 0);
}

/* The notification takes a moment. */
static void l2_end_interrupt(void)
{
    asm volatile("nop; nop; nop; cli");
    l2_taken[0] = trap_count[VECTOR_LOW];
    cpu_wrmsr(X2APIC_EOI, 0);
}

static void request(unsigned vector)
{
    posted->requests[vector / 32] |= 1u << vector % 32;
    posted->control |= ON;
}

static uint32_t apic_bit(const volatile uint32_t *page, unsigned base, unsigned vector)
{
    return page[(base + vector / 32 * 0x10) / 4] >> vector % 32 & 1;
}

static uint32_t machine_bit(unsigned base, unsigned vector)
{
    return apic_bit((const volatile uint32_t *)LAPIC_BASE, base, vector);
}

/* Interruptible: Bochs holds a notification back while RFLAGS.IF is 0. */
static void set_open_code(struct vm *vm)
{
    vm_set_code(vm, l2_pause_often);
    vmx_set(GUEST_RFLAGS, RFLAGS_FIXED1 | RFLAGS_IF);
}

static void start_with(struct vm *vm, void (*code)(void), unsigned options)
{
    vmx_start();
    vm_create(vm, code, options);
    virtual_apic = page_alloc();
    posted = page_alloc();
    posted = (struct posted *)((uint64_t)posted + 0x340);
    posted_on(virtual_apic, posted, VECTOR_NOTIFICATION);
    trap_count[VECTOR_NOTIFICATION] = trap_count[VECTOR_OTHER] = 0;
    vmx_set(GUEST_RFLAGS, RFLAGS_FIXED1 | RFLAGS_IF);
    l2_taken[0] = l2_taken[1] = 0;
    l2_waits = l2_released = false;
}

static void start(struct vm *vm, void (*code)(void))
{
    start_with(vm, code, 0);
}

/* The descriptor is empty, and the machine's APIC has forgotten the notification. */
static void check_processed(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(posted->requests); i++)
        CHECK_EQ(posted->requests[i], 0);
    CHECK_EQ(posted->control & ON, 0);
    CHECK_EQ(machine_bit(LAPIC_IRR, VECTOR_NOTIFICATION), 0);
    CHECK_EQ(machine_bit(LAPIC_ISR, VECTOR_NOTIFICATION), 0);
    CHECK_EQ(trap_count[VECTOR_NOTIFICATION], 0);
}

static void delivered(void)
{
    struct vm vm;

    start(&vm, l2_take_both);
    for (unsigned round = 0; round < 3; round++) {
        request(VECTOR_LOW);
        request(VECTOR_HIGH);
        posted->control |= ~BITS(7, 0); /* not the CPU's */
        irq_self_ipi(VECTOR_NOTIFICATION);
        vm_set_code(&vm, l2_take_both);
        EXPECT_DONE(&vm);
        CHECK_EQ(l2_taken[0], 1);
        CHECK_EQ(l2_taken[1], 1);
        CHECK_EQ(posted->control | ON, ~BITS(7, 1));
        CHECK_EQ(vmx_get(GUEST_INTERRUPT_STATUS), 0);
        check_processed();
    }
}

/* The virtual TPR lets nothing in: the requests wait in the virtual APIC, the highest in RVI. */
static void kept_pending(void)
{
    struct vm vm;

    start(&vm, l2_pause_often);
    virtual_apic[LAPIC_TPR / 4] = 0xf0;
    request(VECTOR_HIGH);
    irq_self_ipi(VECTOR_NOTIFICATION);
    EXPECT_DONE(&vm);
    check_processed();
    CHECK_EQ(vmx_get(GUEST_INTERRUPT_STATUS), PUT(VECTOR_HIGH, STATUS_RVI));
    request(VECTOR_LOW);
    irq_self_ipi(VECTOR_NOTIFICATION);
    set_open_code(&vm);
    EXPECT_DONE(&vm);
    check_processed();
    CHECK_EQ(vmx_get(GUEST_INTERRUPT_STATUS), PUT(VECTOR_HIGH, STATUS_RVI));
    CHECK_EQ(apic_bit(virtual_apic, LAPIC_IRR, VECTOR_LOW), 1);
    CHECK_EQ(apic_bit(virtual_apic, LAPIC_IRR, VECTOR_HIGH), 1);
    virtual_apic[LAPIC_TPR / 4] = 0;
    vm_set_code(&vm, l2_take_both);
    EXPECT_DONE(&vm);
    CHECK_EQ(l2_taken[0], 1);
    CHECK_EQ(l2_taken[1], 1);
}

/* Any other vector exits; the notification is an ordinary interrupt outside L2, and without the control. */
static void other_interrupts(void)
{
    struct vm vm;

    start(&vm, l2_pause_often);
    request(VECTOR_LOW);
    irq_self_ipi(VECTOR_OTHER);
    EXPECT_EXIT(&vm, EXIT_EXTERNAL_INTERRUPT);
    CHECK_EQ(vm.exit.intr_info, INTR_VALID | PUT(INTR_TYPE_EXTERNAL, INTR_TYPE) | VECTOR_OTHER);
    irq_eoi();
    CHECK_EQ(posted->requests[VECTOR_LOW / 32], 1u << VECTOR_LOW % 32);
    CHECK_EQ(posted->control & ON, ON);
    irq_self_ipi(VECTOR_NOTIFICATION);
    irq_window();
    CHECK_EQ(trap_count[VECTOR_NOTIFICATION], 1);
    irq_eoi();
    vm_control_clear(PIN_CONTROLS, (uint32_t)PIN_POSTED_INTERRUPTS);
    irq_self_ipi(VECTOR_NOTIFICATION);
    EXPECT_EXIT(&vm, EXIT_EXTERNAL_INTERRUPT);
    CHECK_EQ(vm.exit.intr_info, INTR_VALID | PUT(INTR_TYPE_EXTERNAL, INTR_TYPE) | VECTOR_NOTIFICATION);
    irq_eoi();
    CHECK_EQ(posted->control & ON, ON);
    EXPECT_DONE(&vm);
}

/* With RFLAGS.IF 0 a virtual interrupt waits; another interrupt that exits does not let it in. */
static void waits_for_flag(void)
{
    struct vm vm;

    start(&vm, l2_ask_and_wait);
    l2_released = true; /* this time all is mapped */
    EXPECT_DONE(&vm);
    CHECK_EQ(l2_taken[1], 1);
    l2_waits = l2_released = false;
    vm_set_code(&vm, l2_ask_and_wait);
    irq_timer_start(TIMER_TICKS);
    EXPECT_EXIT(&vm, EXIT_EXTERNAL_INTERRUPT);
    irq_timer_stop();
    irq_eoi();
    CHECK(l2_waits);
    CHECK_EQ(vm.exit.intr_info, INTR_VALID | PUT(INTR_TYPE_EXTERNAL, INTR_TYPE) | IRQ_VECTOR_TIMER);
    CHECK_EQ(trap_count[VECTOR_LOW], 0);
    CHECK_EQ(vmx_get(GUEST_RFLAGS) & RFLAGS_IF, 0);
    CHECK_EQ(vmx_get(GUEST_INTERRUPT_STATUS), PUT(VECTOR_LOW, STATUS_RVI));
    l2_released = true;
    EXPECT_DONE(&vm);
    CHECK_EQ(l2_taken[0], 0);
    CHECK_EQ(l2_taken[1], 1);
}

/* A virtual interrupt ends HLT, also one that is there at the entry. The timer would end it else. */
static void ends_halt(void)
{
    struct vm vm;

    start(&vm, l2_end_interrupt);
    vm_control_set(PIN_CONTROLS, (uint32_t)PIN_PREEMPTION_TIMER);
    for (unsigned round = 0; round < 2; round++) {
        vmx_set(PREEMPTION_TIMER, LONG);
        trap_count[VECTOR_LOW] = 0;
        vm_set_code(&vm, l2_end_interrupt);
        vmx_set(GUEST_RFLAGS, RFLAGS_FIXED1 | RFLAGS_IF);
        vmx_set(GUEST_ACTIVITY_STATE, ACTIVITY_HLT);
        if (round) {
            request(VECTOR_LOW);
            irq_self_ipi(VECTOR_NOTIFICATION);
        } else {
            virtual_apic[(LAPIC_IRR + VECTOR_LOW / 32 * 0x10) / 4] |= 1u << VECTOR_LOW % 32;
            vmx_set(GUEST_INTERRUPT_STATUS, PUT(VECTOR_LOW, STATUS_RVI));
        }
        EXPECT_DONE(&vm);
        CHECK_EQ(l2_taken[0], 1);
        CHECK_EQ(vmx_get(GUEST_INTERRUPT_STATUS), 0);
        CHECK_EQ(vmx_get(GUEST_ACTIVITY_STATE), 0);
    }
}

/* L2's code begins with the delivery of VECTOR_LOW; L1 has injected another one before. */
static void start_posted_delivery(struct vm *vm, unsigned options)
{
    start_with(vm, l2_pause_often, options);
    vmx_set(ENTRY_INTERRUPTION_INFO, INTR_VALID | PUT(INTR_TYPE_EXTERNAL, INTR_TYPE) | VECTOR_HIGH);
    EXPECT_DONE(vm);
    vm_set_code(vm, l2_end_interrupt);
    vmx_set(GUEST_RFLAGS, RFLAGS_FIXED1 | RFLAGS_IF);
    trap_count[VECTOR_LOW] = 0;
    request(VECTOR_LOW);
    irq_self_ipi(VECTOR_NOTIFICATION);
}

/* The exit came out of the delivery, which is begun: the interrupt is in service. L1 injects it for its end.
 * SDM 3C 28.2.4 "Information for VM Exits During Event Delivery" */
static void expect_rest_of_delivery(struct vm *vm)
{
    CHECK_EQ(vm->exit.idt_info, INTR_VALID | PUT(INTR_TYPE_EXTERNAL, INTR_TYPE) | VECTOR_LOW);
    CHECK_EQ(vmx_get(GUEST_INTERRUPT_STATUS), PUT(VECTOR_LOW, STATUS_SVI));
    CHECK_EQ(trap_count[VECTOR_LOW], 0);
    vmx_set(ENTRY_INTERRUPTION_INFO, vm->exit.idt_info);
    EXPECT_DONE(vm);
    CHECK_EQ(l2_taken[0], 1);
    CHECK_EQ(trap_count[VECTOR_LOW], 1);
    CHECK_EQ(vmx_get(GUEST_INTERRUPT_STATUS), 0);
    check_processed();
}

static void fault_in_delivery(void)
{
    struct vm vm;

    start_posted_delivery(&vm, 0);
    vmx_set(EXCEPTION_BITMAP, BIT(VECTOR_GP));
    vmx_set(GUEST_IDTR_LIMIT, VECTOR_LOW * 16 - 1);
    EXPECT_EXIT(&vm, EXIT_EXCEPTION_NMI);
    CHECK_EQ(GET(vm.exit.intr_info, INTR_VECTOR), VECTOR_GP);
    vmx_set(GUEST_IDTR_LIMIT, 0xffff);
    expect_rest_of_delivery(&vm);
}

static void violation_in_delivery(void)
{
    uint64_t *entry;
    struct vm vm;

    start_posted_delivery(&vm, VM_EPT);
    entry = paging_entry(vm.ept, vmx_get(GUEST_RSP) - 0x100, PAGE_SIZE);
    *entry &= ~EPT_RWX;
    CHECK_EQ(vmx_invept(1, &(struct inv_descriptor){.low = vmx_get(EPT_POINTER)}), 0);
    EXPECT_EXIT(&vm, EXIT_EPT_VIOLATION);
    CHECK_EQ(ALIGN_DOWN(vm.exit.gpa, PAGE_SIZE), *entry & PAGING_ADDRESS);
    *entry |= EPT_RWX;
    expect_rest_of_delivery(&vm);
}

/* The descriptor lies in an MSR bitmap of L1's: the CPU clears its bits past all EPT. */
static void in_a_bitmap(void)
{
    struct vm vm, other;
    uint32_t msr;

    start(&other, l2_pause_often);
    vm_create(&vm, bitmap_l2_rdmsr_caught, 0);
    vm_load(&other);
    posted = (struct posted *)(vm.msr_bitmap + 0x40);
    msr = 0x40 * 8 + VECTOR_LOW;
    vmx_set(POSTED_DESC_ADDR, (uint64_t)posted);
    virtual_apic[LAPIC_TPR / 4] = 0xf0;
    for (unsigned i = 0; i < 4; i++) {
        vm_load(&vm);
        PASSES_CAUGHT(&vm, msr);
        request(VECTOR_LOW);
        EXITS_CAUGHT(&vm, msr);
        vm_load(&other);
        irq_self_ipi(VECTOR_NOTIFICATION);
        set_open_code(&other);
        EXPECT_DONE(&other);
        check_processed();
    }
}

#define CHECK_REFUSED(vm) CHECK_EQ(vm_enter(vm), VMXERR_ENTRY_CONTROLS)

static void checks(void)
{
    struct vm vm;

    start(&vm, l2_pause_often);
    for (uint64_t bit = 1; bit < 64; bit <<= 1) {
        vmx_set(POSTED_DESC_ADDR, (uint64_t)posted ^ bit);
        CHECK_REFUSED(&vm);
    }
    vmx_set(POSTED_DESC_ADDR, (uint64_t)posted | 1ull << cpu_physical_bits());
    CHECK_REFUSED(&vm);
    vmx_set(POSTED_DESC_ADDR, (uint64_t)posted);
    vmx_set(POSTED_VECTOR, VECTOR_NOTIFICATION | BIT(8));
    CHECK_REFUSED(&vm);
    vmx_set(POSTED_VECTOR, VECTOR_NOTIFICATION);
    vm_control_clear(EXIT_CONTROLS, (uint32_t)EXITC_ACK_INTERRUPT);
    CHECK_REFUSED(&vm);
    vm_control_set(EXIT_CONTROLS, (uint32_t)EXITC_ACK_INTERRUPT);
    vm_control_clear(PROC2_CONTROLS, (uint32_t)PROC2_VIRTUAL_INTERRUPTS);
    CHECK_REFUSED(&vm);
    /* Without the control none of it counts. */
    vm_control_clear(PIN_CONTROLS, (uint32_t)PIN_POSTED_INTERRUPTS);
    vmx_set(POSTED_VECTOR, UINT16_MAX);
    vmx_set(POSTED_DESC_ADDR, UINT64_MAX);
    EXPECT_DONE(&vm);
}

static const char *without_posted(void)
{
    bool has = vm_control_offered(PIN_CONTROLS, (uint32_t)PIN_POSTED_INTERRUPTS) &&
               vm_control_offered(PROC2_CONTROLS, (uint32_t)PROC2_X2APIC);

    if (!has)
        return "no posted interrupts";
    return cpu_rdmsr(IA32_APIC_BASE) & APIC_BASE_EXTD ? "the APIC is in x2APIC mode" : NULL;
}

const struct scenario posted_scenarios[] = {
    {"posted-delivered", delivered, without_posted},
    {"posted-kept-pending", kept_pending, without_posted},
    {"posted-other-interrupts", other_interrupts, without_posted},
    {"posted-waits-for-flag", waits_for_flag, without_posted},
    {"posted-ends-halt", ends_halt, without_posted},
    {"posted-fault-in-delivery", fault_in_delivery, without_posted},
    {"posted-violation-in-delivery", violation_in_delivery, without_posted},
    {"posted-in-a-bitmap", in_a_bitmap, without_posted},
    {"posted-checks", checks, without_posted},
    {0},
};
