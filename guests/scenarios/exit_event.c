/* Exits that come from events: exceptions, interrupts, NMIs, windows, timers, triple faults. */
#include "guests/lib/cpu.h"
#include "guests/lib/irq.h"
#include "guests/lib/page.h"
#include "guests/scenarios/scenario.h"

static volatile uint64_t l2_value;

static void l2_ud2(void)
{
    asm volatile("ud2");
}

static void l2_ud2_caught(void)
{
    l2_value = FAULT_OF(l2_ud2());
}

static void l2_int3(void)
{
    asm volatile("int3");
}

static void l2_load_bad_selector(void)
{
    asm volatile("mov %w0, %%ds" : : "r"(0x7ff8));
}

static void l2_read_unmapped(void)
{
    (void)*(volatile uint8_t *)(UNMAPPED_ADDRESS + 0x123);
}

static void l2_write_unmapped(void)
{
    *(volatile uint8_t *)(UNMAPPED_ADDRESS + 0x123) = 1;
}

static void l2_read_unmapped_caught(void)
{
    l2_value = FAULT_OF(l2_read_unmapped());
}

static void l2_single_step(void)
{
    asm volatile("pushfq; orq $0x100, (%%rsp); popfq; nop; nop; pushfq; andq $~0x100, (%%rsp); popfq"
                 :
                 :
                 : "memory", "cc");
}

static void check_exception(const struct vm *vm, unsigned type, unsigned vector, bool has_error)
{
    CHECK_EQ(vm->exit.intr_info & INTR_VALID, INTR_VALID);
    CHECK_EQ(GET(vm->exit.intr_info, INTR_TYPE), type);
    CHECK_EQ(GET(vm->exit.intr_info, INTR_VECTOR), vector);
    CHECK_EQ(vm->exit.intr_info & INTR_ERROR_CODE, has_error ? INTR_ERROR_CODE : 0);
    CHECK_EQ(vm->exit.idt_info & INTR_VALID, 0);
}

static void exception_bitmap(void)
{
    uint64_t rip;
    struct vm vm;

    vm_start(&vm, l2_ud2_caught, 0);
    EXPECT_DONE(&vm);
    CHECK_EQ(l2_value, VECTOR_UD);
    vmx_set(EXCEPTION_BITMAP, BIT(VECTOR_UD) | BIT(VECTOR_BP) | BIT(VECTOR_GP));
    vm_set_code(&vm, l2_ud2);
    EXPECT_EXIT(&vm, EXIT_EXCEPTION_NMI);
    check_exception(&vm, INTR_TYPE_HARD_EXCEPTION, VECTOR_UD, false);
    vm_set_code(&vm, l2_int3);
    rip = vmx_get(GUEST_RIP);
    EXPECT_EXIT(&vm, EXIT_EXCEPTION_NMI);
    check_exception(&vm, INTR_TYPE_SOFT_EXCEPTION, VECTOR_BP, false);
    CHECK_EQ(vm.exit.length, 1);
    CHECK_EQ(vmx_get(GUEST_RIP), rip);
    vm_set_code(&vm, l2_load_bad_selector);
    EXPECT_EXIT(&vm, EXIT_EXCEPTION_NMI);
    check_exception(&vm, INTR_TYPE_HARD_EXCEPTION, VECTOR_GP, true);
    CHECK_EQ(vm.exit.intr_error, 0x7ff8);
}

static void page_fault_exit(void)
{
    struct vm vm;

    vm_start(&vm, l2_write_unmapped, 0);
    vmx_set(EXCEPTION_BITMAP, BIT(VECTOR_PF));
    EXPECT_EXIT(&vm, EXIT_EXCEPTION_NMI);
    check_exception(&vm, INTR_TYPE_HARD_EXCEPTION, VECTOR_PF, true);
    CHECK_EQ(vm.exit.qualification, UNMAPPED_ADDRESS + 0x123);
    CHECK_EQ(vm.exit.intr_error, PF_WRITE);
}

static void expect_page_fault_exit(struct vm *vm, uint32_t bitmap, uint32_t mask, uint32_t match, bool exits)
{
    vm_set_code(vm, l2_read_unmapped_caught);
    vmx_set(EXCEPTION_BITMAP, bitmap);
    vmx_set(PAGE_FAULT_ERROR_CODE_MASK, mask);
    vmx_set(PAGE_FAULT_ERROR_CODE_MATCH, match);
    if (exits)
        EXPECT_EXIT(vm, EXIT_EXCEPTION_NMI);
    else
        EXPECT_DONE(vm);
}

/* SDM 3C 25.6.3 "Exception Bitmap": mask and match decide whether the bit or its inverse counts. */
static void page_fault_mask_and_match(void)
{
    const uint32_t bit = 1u << VECTOR_PF;
    struct vm vm;

    vm_start(&vm, l2_read_unmapped_caught, 0); /* its error code is 0 */
    expect_page_fault_exit(&vm, bit, 0, 0, true);
    expect_page_fault_exit(&vm, 0, 0, 0, false);
    expect_page_fault_exit(&vm, 0, 0, 1, true);
    expect_page_fault_exit(&vm, bit, 0, 1, false);
    expect_page_fault_exit(&vm, bit, PF_WRITE, 0, true);
    expect_page_fault_exit(&vm, bit, PF_WRITE, PF_WRITE, false);
    expect_page_fault_exit(&vm, 0, PF_PRESENT | PF_USER, PF_USER, true);
    expect_page_fault_exit(&vm, 0, PF_PRESENT | PF_USER, 0, false);
}

static void single_step(void)
{
    uint64_t first;
    struct vm vm;

    vm_start(&vm, l2_single_step, 0);
    vmx_set(EXCEPTION_BITMAP, BIT(VECTOR_DB));
    EXPECT_EXIT(&vm, EXIT_EXCEPTION_NMI);
    check_exception(&vm, INTR_TYPE_HARD_EXCEPTION, VECTOR_DB, false);
    CHECK_EQ(vm.exit.qualification & PENDING_DEBUG_BS, PENDING_DEBUG_BS);
    first = vmx_get(GUEST_RIP);
    vmx_set(GUEST_PENDING_DEBUG, 0); /* some CPUs leave BS there, which would be a second #DB */
    EXPECT_EXIT(&vm, EXIT_EXCEPTION_NMI);
    CHECK_EQ(vmx_get(GUEST_RIP), first + 1);
}

static void triple_fault(void)
{
    struct vm vm;

    vm_start(&vm, l2_ud2, 0);
    vmx_set(GUEST_IDTR_LIMIT, 0);
    EXPECT_EXIT(&vm, EXIT_TRIPLE_FAULT);
    CHECK_EQ(vm.exit.qualification, 0);
    vmx_set(GUEST_IDTR_LIMIT, 0xffff);
    vm_set_code(&vm, l2_ud2_caught);
    EXPECT_DONE(&vm);
}

/* Waits with interrupts on; bounded, so that a lost interrupt fails the scenario. */
static void l2_spin_with_interrupts(void)
{
    asm volatile("sti");
    for (unsigned i = 0; i < 200000 && !trap_count[IRQ_VECTOR_TIMER]; i++)
        cpu_pause();
    asm volatile("cli");
}

static void start_timer(void)
{
    trap_count[IRQ_VECTOR_TIMER] = 0;
    irq_timer_start(2000);
}

static void external_interrupt_pending(void)
{
    struct vm vm;

    vm_start(&vm, l2_spin_with_interrupts, 0);
    vm_control_set(PIN_CONTROLS, (uint32_t)PIN_EXTERNAL_INTERRUPT);
    start_timer();
    EXPECT_EXIT(&vm, EXIT_EXTERNAL_INTERRUPT);
    CHECK_EQ(vm.exit.intr_info & INTR_VALID, 0);
    CHECK_EQ(trap_count[IRQ_VECTOR_TIMER], 0);
    irq_window();
    CHECK_EQ(trap_count[IRQ_VECTOR_TIMER], 1);
    EXPECT_DONE(&vm);
}

static void external_interrupt_acknowledged(void)
{
    struct vm vm;

    vm_start(&vm, l2_spin_with_interrupts, 0);
    vm_control_set(PIN_CONTROLS, (uint32_t)PIN_EXTERNAL_INTERRUPT);
    vm_control_set(EXIT_CONTROLS, (uint32_t)EXITC_ACK_INTERRUPT);
    start_timer();
    EXPECT_EXIT(&vm, EXIT_EXTERNAL_INTERRUPT);
    check_exception(&vm, INTR_TYPE_EXTERNAL, IRQ_VECTOR_TIMER, false);
    irq_window();
    CHECK_EQ(trap_count[IRQ_VECTOR_TIMER], 0);
    irq_eoi();
    trap_count[IRQ_VECTOR_TIMER] = 1;
    EXPECT_DONE(&vm);
}

/* Without the control, an interrupt goes through L2's own IDT. */
static void external_interrupt_to_l2(void)
{
    struct vm vm;

    vm_start(&vm, l2_spin_with_interrupts, 0);
    start_timer();
    EXPECT_DONE(&vm);
    CHECK_EQ(trap_count[IRQ_VECTOR_TIMER], 1);
}

/* One that was pending before the entry: it exits before L2's first instruction. */
static void external_interrupt_before_entry(void)
{
    uint64_t rip;
    struct vm vm;

    vm_start(&vm, l2_spin_with_interrupts, 0);
    vm_control_set(PIN_CONTROLS, (uint32_t)PIN_EXTERNAL_INTERRUPT);
    vm_control_set(EXIT_CONTROLS, (uint32_t)EXITC_ACK_INTERRUPT);
    vmx_set(GUEST_RFLAGS, RFLAGS_FIXED1 | RFLAGS_IF);
    rip = vmx_get(GUEST_RIP);
    irq_self_ipi(IRQ_VECTOR_SELF);
    EXPECT_EXIT(&vm, EXIT_EXTERNAL_INTERRUPT);
    check_exception(&vm, INTR_TYPE_EXTERNAL, IRQ_VECTOR_SELF, false);
    CHECK_EQ(vmx_get(GUEST_RIP), rip);
    irq_eoi();
}

static void l2_halt_with_interrupts(void)
{
    asm volatile("sti; hlt; cli");
}

static void interrupt_ends_halt(void)
{
    struct vm vm;

    vm_start(&vm, l2_halt_with_interrupts, 0);
    vm_control_set(PIN_CONTROLS, (uint32_t)PIN_EXTERNAL_INTERRUPT);
    start_timer();
    EXPECT_EXIT(&vm, EXIT_EXTERNAL_INTERRUPT);
    irq_window();
    CHECK_EQ(trap_count[IRQ_VECTOR_TIMER], 1);
    vmx_set(GUEST_ACTIVITY_STATE, ACTIVITY_ACTIVE);
    EXPECT_DONE(&vm);
}

#define STORM 30

static void l2_spin_for_ever(void)
{
    asm volatile("sti");
    for (;;)
        cpu_pause();
}

/* Interrupt after interrupt, each one acknowledged by the exit and ended by L1: none is lost, none comes twice. */
static void interrupt_storm(void)
{
    struct vm vm;

    vm_start(&vm, l2_spin_for_ever, 0);
    vm_control_set(PIN_CONTROLS, (uint32_t)PIN_EXTERNAL_INTERRUPT);
    vm_control_set(EXIT_CONTROLS, (uint32_t)EXITC_ACK_INTERRUPT);
    trap_count[IRQ_VECTOR_TIMER] = 0;
    for (unsigned i = 0; i < STORM; i++) {
        irq_timer_start(300 + 100 * i);
        EXPECT_EXIT(&vm, EXIT_EXTERNAL_INTERRUPT);
        check_exception(&vm, INTR_TYPE_EXTERNAL, IRQ_VECTOR_TIMER, false);
        irq_eoi();
    }
    irq_window();
    CHECK_EQ(trap_count[IRQ_VECTOR_TIMER], 0);
}

static void l2_halt_with_interrupts_off(void)
{
    asm volatile("hlt");
}

/* The preemption timer goes on counting while L2 halts, and ends that. */
static void timer_ends_halt(void)
{
    struct vm vm;

    vm_start(&vm, l2_halt_with_interrupts_off, 0);
    vm_control_set(PIN_CONTROLS, (uint32_t)PIN_PREEMPTION_TIMER);
    vmx_set(PREEMPTION_TIMER, 20000);
    EXPECT_EXIT(&vm, EXIT_PREEMPTION_TIMER);
    vmx_set(GUEST_ACTIVITY_STATE, ACTIVITY_ACTIVE);
    vm_control_clear(PIN_CONTROLS, (uint32_t)PIN_PREEMPTION_TIMER);
    EXPECT_DONE(&vm);
}

static const char *without_timer(void)
{
    return vm_control_offered(PIN_CONTROLS, (uint32_t)PIN_PREEMPTION_TIMER) ? NULL : "no preemption timer";
}

/* NMIs stay blocked after an NMI exit until L1 executes an IRET. */
static void unblock_nmi(void)
{
    uint64_t scratch;

    asm volatile("mov %%ss, %k0; push %0; lea 8(%%rsp), %0; push %0; pushfq; mov %%cs, %k0; push %0; lea 1f(%%rip), %0;"
                 "push %0; iretq; 1:"
                 : "=&r"(scratch)
                 :
                 : "memory", "cc");
}

static void l2_send_nmi(void)
{
    irq_self_nmi();
    for (unsigned i = 0; i < 1000 && !trap_count[VECTOR_NMI]; i++)
        cpu_pause();
}

static void nmi_exit(void)
{
    struct vm vm;

    vmx_start();
    trap_count[VECTOR_NMI] = 0;
    vm_create(&vm, l2_send_nmi, 0);
    vm_control_set(PIN_CONTROLS, (uint32_t)PIN_NMI);
    EXPECT_EXIT(&vm, EXIT_EXCEPTION_NMI);
    check_exception(&vm, INTR_TYPE_NMI, VECTOR_NMI, false);
    unblock_nmi();
    CHECK_EQ(trap_count[VECTOR_NMI], 0);
    vmx_set(GUEST_INTERRUPTIBILITY, 0);
    EXPECT_DONE(&vm);
}

/* Without the control, L2's own handler gets it. */
static void nmi_to_l2(void)
{
    struct vm vm;

    vmx_start();
    trap_count[VECTOR_NMI] = 0;
    vm_create(&vm, l2_send_nmi, 0);
    EXPECT_DONE(&vm);
    CHECK_EQ(trap_count[VECTOR_NMI], 1);
}

static void l2_sti_and_wait(void)
{
    asm volatile("nop; sti; nop; nop; cli");
}

static void interrupt_window(void)
{
    uint64_t rip;
    struct vm vm;

    vm_start(&vm, l2_sti_and_wait, 0);
    rip = vmx_get(GUEST_RIP);
    vm_control_set(PROC_CONTROLS, (uint32_t)PROC_INTERRUPT_WINDOW);
    vmx_set(GUEST_RFLAGS, RFLAGS_FIXED1 | RFLAGS_IF);
    EXPECT_EXIT(&vm, EXIT_INTERRUPT_WINDOW);
    CHECK_EQ(vmx_get(GUEST_RIP), rip);
    vmx_set(GUEST_RFLAGS, RFLAGS_FIXED1);
    EXPECT_EXIT(&vm, EXIT_INTERRUPT_WINDOW);
    CHECK_EQ(vmx_get(GUEST_RIP), rip + 3); /* one instruction after STI */
    vm_control_clear(PROC_CONTROLS, (uint32_t)PROC_INTERRUPT_WINDOW);
    EXPECT_DONE(&vm);
}

static void l2_iret(void)
{
    unblock_nmi();
    (void)cpu_cpuid(0, 0);
}

static void nmi_window(void)
{
    uint64_t rip;
    struct vm vm;

    vm_start(&vm, l2_iret, 0);
    rip = vmx_get(GUEST_RIP);
    vm_control_set(PIN_CONTROLS, (uint32_t)(PIN_NMI | PIN_VIRTUAL_NMIS));
    vm_control_set(PROC_CONTROLS, (uint32_t)PROC_NMI_WINDOW);
    EXPECT_EXIT(&vm, EXIT_NMI_WINDOW);
    CHECK_EQ(vmx_get(GUEST_RIP), rip);
    vmx_set(GUEST_INTERRUPTIBILITY, BLOCKING_BY_NMI);
    EXPECT_EXIT(&vm, EXIT_NMI_WINDOW);
    CHECK(vmx_get(GUEST_RIP) != rip);
    CHECK_EQ(vmx_get(GUEST_INTERRUPTIBILITY) & BLOCKING_BY_NMI, 0);
    vm_control_clear(PROC_CONTROLS, (uint32_t)PROC_NMI_WINDOW);
    EXPECT_EXIT_SKIP(&vm, EXIT_CPUID);
    EXPECT_DONE(&vm);
}

static const char *without_virtual_nmis(void)
{
    return vm_control_offered(PIN_CONTROLS, (uint32_t)PIN_VIRTUAL_NMIS) ? NULL : "no virtual NMIs";
}

const struct scenario exit_event_scenarios[] = {
    {"event-exception-bitmap", exception_bitmap, NULL},
    {"event-page-fault", page_fault_exit, NULL},
    {"event-page-fault-mask-and-match", page_fault_mask_and_match, NULL},
    {"event-single-step", single_step, NULL},
    {"event-triple-fault", triple_fault, NULL},
    {"event-interrupt-pending", external_interrupt_pending, NULL},
    {"event-interrupt-acknowledged", external_interrupt_acknowledged, NULL},
    {"event-interrupt-to-l2", external_interrupt_to_l2, NULL},
    {"event-interrupt-before-entry", external_interrupt_before_entry, NULL},
    {"event-interrupt-ends-halt", interrupt_ends_halt, NULL},
    {"event-interrupt-storm", interrupt_storm, NULL},
    {"event-timer-ends-halt", timer_ends_halt, without_timer},
    {"event-nmi", nmi_exit, NULL},
    {"event-nmi-to-l2", nmi_to_l2, NULL},
    {"event-interrupt-window", interrupt_window, NULL},
    {"event-nmi-window", nmi_window, without_virtual_nmis},
    {0},
};
