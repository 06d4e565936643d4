/* Nestor's memory must look to a guest like memory that is not there: loads give ones, stores are lost. Loads need
 * nothing, as a read-only page of ones stands in each place. A store exits; decoding it would mean an emulator of
 * all instructions that can store, so the CPU executes it on the page of ones, alone, and the ones are put back. How
 * the guest is made to come back behind one instruction depends on the CPU: by the monitor trap flag, else by the
 * preemption timer, else at the next exit whenever that is. SDM 3C 26.5.2 "Monitor Trap Flag" */
#include "vmx/step.h"

#include "kernel/ledger.h"
#include "kernel/string.h"
#include "kernel/x86.h"
#include "vmx/hooks.h"
#include "vmx/refusal.h"
#include "vmx/vmcs_setup.h"

/* Units that the guest gets. One may pass before the first instruction completes, which costs only another
 * violation. SDM 3C 26.5.1 "VMX-Preemption Timer" */
#define STEP_TIMER 2u
#define STEP_TIMER_MAX (1u << 20)

/* True if the CPU has the flag at all: older ones do not, nor do some emulators. */
static bool has_trap_flag(const struct vcpu *vcpu)
{
    return vcpu->vm->caps.proc.may & PROC_MONITOR_TRAP;
}

/* The monitor trap flag makes the guest come back after the instruction. */
static void set_trap_flag(struct vcpu *vcpu)
{
    uint32_t proc = vmcs_read(PROC_CONTROLS);
    vcpu->step.active |= STEP_ONE;
    vcpu->step.by_trap = true;
    vcpu->step.guest_traps = proc & PROC_MONITOR_TRAP;
    vmcs_write(PROC_CONTROLS, (uint32_t)(proc | PROC_MONITOR_TRAP));
}

/* True when the exit is the flag's and the guest did not want it. */
static bool clear_trap_flag(struct vcpu *vcpu)
{
    vcpu->step.by_trap = false;
    if (vcpu->step.guest_traps)
        return false;
    vmcs_write(PROC_CONTROLS, vmcs_read(PROC_CONTROLS) & ~(uint32_t)PROC_MONITOR_TRAP);
    return vcpu->exit.reason == EXIT_MONITOR_TRAP;
}

/* Where there is no such flag the timer does. Without one the guest comes back at the next exit, whenever that is. */
static void start_timer(struct vcpu *vcpu)
{
    uint32_t pin = vmcs_read(PIN_CONTROLS);
    vcpu->step.active |= STEP_ONE;
    vcpu->step.pin_controls = pin;
    if (!(vcpu->vm->caps.pin.may & PIN_PREEMPTION_TIMER))
        return;
    vcpu->step.timer = vmcs_read(PREEMPTION_TIMER); /* L1's in vmcs02, whether it is on or not */
    vmcs_write(PIN_CONTROLS, (uint32_t)(pin | PIN_PREEMPTION_TIMER));
}

/* Under another hypervisor units may pass while that one works, filling its own EPT for the page just opened: an
 * instruction that comes back with nothing done gets a few more, lest it never completes. */
static void choose_units(struct vcpu *vcpu)
{
    uint64_t rip = vmcs_read(GUEST_RIP);
    bool stuck = rip == vcpu->step.rip && !memcmp(vcpu->regs, vcpu->step.regs, sizeof vcpu->regs);
    vcpu->step.rip = rip;
    memcpy(vcpu->step.regs, vcpu->regs, sizeof vcpu->regs);
    vcpu->step.units = stuck ? MIN(vcpu->step.units + vcpu->step.units / 4 + 1, STEP_TIMER_MAX) : STEP_TIMER;
}

/* Takes W from all leaves that are open, in one go for the revocation. */
static int take_write(struct ept_watch *watch, void *what)
{
    struct vcpu *vcpu = what;
    (void)watch;
    for (unsigned i = 0; i < vcpu->step.open; i++)
        __atomic_store_n(vcpu->step.page[i].entry, *vcpu->step.page[i].entry & ~EPT_W, __ATOMIC_RELEASE);
    ledger_owe_others(ept_pointer(&vcpu->vm->ept01), "a page of Nestor's memory that was closed");
    return 1;
}

/* The ones come back when this processor can store no more. */
static void close_pages(struct vcpu *vcpu)
{
    bool is_stepper = __atomic_load_n(&vcpu->vm->stepper, __ATOMIC_RELAXED) == vcpu;
    if (is_stepper) /* leaves of EPT01: another processor may have cached W */
        (void)ept_revoke(&vcpu->vm->watch, take_write, vcpu);
    for (unsigned i = 0; !is_stepper && i < vcpu->step.open; i++)
        nested_hooks.close_l2_page(vcpu, vcpu->step.page[i].gpa2);
    vcpu->step.open = 0;
    ept_fill_ones(&vcpu->vm->ept01);
    if (is_stepper)
        __atomic_store_n(&vcpu->vm->stepper, NULL, __ATOMIC_RELEASE);
}

/* The first page of an instruction arms the way back, and each further one only adds itself: an instruction that
 * crosses a border, or moves a string, meets one violation after the other before it completes. */
static void open_page(struct vcpu *vcpu, uint64_t *entry, struct step_page page)
{
    count(COUNT_CARVEOUT_HITS);
    if (!step_active(vcpu) && has_trap_flag(vcpu))
        set_trap_flag(vcpu);
    else if (!step_active(vcpu))
        start_timer(vcpu);
    /* One unit count serves an instruction, however many pages it opens. */
    if (!vcpu->step.open)
        choose_units(vcpu);
    __atomic_store_n(entry, *entry | EPT_W, __ATOMIC_RELEASE);
    vcpu->step.page[vcpu->step.open++] = page;
    if (!vcpu->step.by_trap && (vmcs_read(PIN_CONTROLS) & PIN_PREEMPTION_TIMER))
        vmcs_write(PREEMPTION_TIMER, vcpu->step.units);
}

/* The leaves of EPT01 are every processor's, and closing one makes the others exit. One at a time has some open: two
 * would end each other's steps for ever. */
static bool claim_ept01(struct vcpu *vcpu)
{
    struct vcpu *nobody = NULL;
    return __atomic_load_n(&vcpu->vm->stepper, __ATOMIC_RELAXED) == vcpu ||
           __atomic_compare_exchange_n(&vcpu->vm->stepper, &nobody, vcpu, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

void step_begin(struct vcpu *vcpu, uint64_t *entry)
{
    EXPECT_GUEST(vcpu);
    if (vcpu->step.open == STEP_MAX)
        close_pages(vcpu);
    if (!claim_ept01(vcpu)) {
        cpu_pause(); /* and the guest tries again */
        return;
    }
    refusal_log(vcpu, REFUSAL_NESTOR_MEMORY, vcpu->exit.guest_physical_address, 0);
    open_page(vcpu, entry, (struct step_page){.entry = entry});
}

void step_begin_in_l2(struct vcpu *vcpu, uint64_t *entry, gpa_t gpa2)
{
    EXPECT_GUEST(vcpu);
    if (vcpu->step.open == STEP_MAX)
        close_pages(vcpu);
    refusal_log(vcpu, REFUSAL_NESTOR_MEMORY, gpa2, 0);
    open_page(vcpu, entry, (struct step_page){.gpa2 = gpa2});
}

bool step_return_at_once(struct vcpu *vcpu)
{
    EXPECT_GUEST(vcpu);
    if (!(vcpu->vm->caps.pin.may & PIN_PREEMPTION_TIMER))
        return false;
    if (!step_active(vcpu)) { /* else it comes back soon anyway */
        start_timer(vcpu);
        vmcs_write(PREEMPTION_TIMER, 0);
    }
    return true;
}

/* Called for every exit while a step is open, whatever its reason: an interrupt or a fault may come first. */
bool step_end(struct vcpu *vcpu)
{
    EXPECT_GUEST(vcpu);
    if (vcpu->step.open)
        close_pages(vcpu);
    /* Whatever the exit was, the controls are put back before anybody looks at them. */
    vcpu->step.active &= (uint8_t)~STEP_ONE;
    if (vcpu->step.by_trap)
        return clear_trap_flag(vcpu);
    vmcs_write(PIN_CONTROLS, vcpu->step.pin_controls);
    if (vcpu->vm->caps.pin.may & PIN_PREEMPTION_TIMER)
        vmcs_write(PREEMPTION_TIMER, vcpu->step.timer);
    return vcpu->exit.reason == EXIT_PREEMPTION_TIMER;
}
