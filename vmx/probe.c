/* Capability MSRs tell what a CPU claims. A probe enters a guest of a few instructions (vmx/probe_guest.h) and looks
 * which exit it makes.
 *
 * The start-up IPI needs two processors: the one that is asked enters a guest and waits there, the other sends.
 * `stage` is how far the first one is, and all that they share. */
#include "vmx/probe.h"

#include "kernel/lapic.h"
#include "kernel/smp.h"
#include "vmx/probe_guest.h"
#include "vmx/vmcs_setup.h"

#define PATIENCE_US 20000u /* for the other processor */
#define PAUSE_US 50u

bool probe_monitor_trap(const struct vmx_caps *caps)
{
    struct probe_guest probe;
    if (!(caps->proc.may & PROC_MONITOR_TRAP) || !probe_begin(&probe, caps, PROC_MONITOR_TRAP))
        return false;
    bool works = probe_run(&probe, probe_guest_call, ACTIVITY_ACTIVE) == EXIT_MONITOR_TRAP;
    probe_end(&probe);
    return works;
}

bool probe_wide_bases(const struct vmx_caps *caps)
{
    struct probe_guest probe;
    if (caps->linear_bits <= CAPS_LINEAR_BITS_4_LEVEL || !probe_begin(&probe, caps, 0))
        return true;
    vmcs_write(GUEST_FS_BASE, BIT(caps->linear_bits - 2));
    bool works = probe_run(&probe, probe_guest_call, ACTIVITY_ACTIVE) == EXIT_VMCALL;
    probe_end(&probe);
    return works;
}

/* How far the asked processor is. */
enum stage { STAGE_IDLE, STAGE_ASKED, STAGE_RUNS, STAGE_WAITS, STAGE_WORKS, STAGE_BROKEN };

static uint32_t stage;      /* atomic */
static uint32_t asked_apic; /* valid from STAGE_ASKED on */

/* Release and acquire: who sees a stage sees all that was written before it. */
static void set_stage(enum stage next)
{
    __atomic_store_n(&stage, next, __ATOMIC_RELEASE);
}

static enum stage get_stage(void)
{
    return __atomic_load_n(&stage, __ATOMIC_ACQUIRE);
}

/* INIT, a guest that runs afterwards, a start-up IPI, and again a guest that runs. */
static bool startup_works(struct probe_guest *probe)
{
    set_stage(STAGE_RUNS);
    if (probe_run(probe, probe_guest_spin, ACTIVITY_ACTIVE) != EXIT_INIT)
        return false;
    if (probe_run(probe, probe_guest_call, ACTIVITY_ACTIVE) != EXIT_VMCALL)
        return false;
    set_stage(STAGE_WAITS);
    if (probe_run(probe, probe_guest_call, ACTIVITY_WAIT_SIPI) != EXIT_SIPI)
        return false;
    if (vmcs_read(GUEST_ACTIVITY_STATE) != ACTIVITY_WAIT_SIPI)
        return false;
    return probe_run(probe, probe_guest_call, ACTIVITY_ACTIVE) == EXIT_VMCALL;
}

void probe_serve(const struct vmx_caps *caps)
{
    struct probe_guest probe;
    if (get_stage() != STAGE_ASKED || this_cpu()->apic_id != asked_apic)
        return;
    bool works = probe_begin(&probe, caps, 0);
    if (works) {
        works = startup_works(&probe);
        if (!works)
            set_stage(STAGE_BROKEN); /* what is still pending may strike at VMXOFF */
        probe_end(&probe);
    }
    set_stage(works ? STAGE_WORKS : STAGE_BROKEN);
}

/* Waits until the other processor is past a stage, or long enough. */
static bool wait_past(enum stage last)
{
    for (unsigned us = 0; us < PATIENCE_US && get_stage() <= last; us += PAUSE_US)
        smp_delay_us(PAUSE_US);
    return get_stage() > last;
}

/* Asks the processor to enter a guest, then sends it an INIT and a start-up IPI, and sees whether each comes as an
 * exit. */
bool probe_startup(const struct cpu *cpu)
{
    probe_guest_runs = 0;
    asked_apic = cpu->apic_id;
    set_stage(STAGE_ASKED);
    for (unsigned us = 0; us < PATIENCE_US && !probe_guest_runs && get_stage() != STAGE_BROKEN; us += PAUSE_US)
        smp_delay_us(PAUSE_US);
    if (probe_guest_runs)
        lapic_send(cpu->apic_id, (uint32_t)(PUT(ICR_DELIVERY_INIT, ICR_DELIVERY) | ICR_ASSERT));
    wait_past(STAGE_RUNS);
    /* One that comes before the guest waits is lost. */
    for (unsigned i = 0; i < PATIENCE_US / PAUSE_US && get_stage() == STAGE_WAITS; i++) {
        lapic_send(cpu->apic_id, (uint32_t)(PUT(ICR_DELIVERY_STARTUP, ICR_DELIVERY) | ICR_ASSERT | 1));
        wait_past(STAGE_WAITS);
    }
    if (get_stage() < STAGE_WORKS) /* the guest spins on */
        lapic_send(cpu->apic_id, (uint32_t)(PUT(ICR_DELIVERY_NMI, ICR_DELIVERY) | ICR_ASSERT));
    wait_past(STAGE_WAITS);
    return get_stage() == STAGE_WORKS;
}
