/* Capability MSRs tell what a CPU claims. A probe enters a guest of a few instructions and looks which exit it
 * makes. The guest is Nestor itself as far as registers and page tables go, and has no EPT, so nothing is to be
 * built for it; vmx operation is left again behind each probe, and L1 finds no trace.
 *
 * The start-up IPI needs two processors: the one that is asked enters a guest and waits there, the other sends.
 * `stage` is how far the first one is, and all that they share. */
#include "vmx/probe.h"

#include "kernel/lapic.h"
#include "kernel/layout.h"
#include "kernel/smp.h"
#include "kernel/x86.h"
#include "mm/page.h"
#include "vmx/vmcs_setup.h"

#define ACCESS_CODE64 0xa09b
#define ACCESS_DATA 0xc093
#define ACCESS_BUSY_TSS64 0x8b
#define TSS_LIMIT (sizeof(struct tss) - 1)

#define PATIENCE_US 20000u /* for the other processor */
#define PAUSE_US 50u

/* vmx/probe.asm */
bool probe_enter(bool launched);
extern const uint8_t probe_exit[], probe_guest_call[], probe_guest_spin[];
extern volatile uint8_t probe_guest_runs;

/* Flat 64-bit segments, as Nestor's own; those that 64-bit mode does not use are unusable. */
static void write_guest_segments(void)
{
    for (unsigned i = SEGMENT_ES; i < SEGMENTS; i++)
        vmcs_write_segment(i, 0, 0, AR_UNUSABLE);
    vmcs_write_segment(SEGMENT_CS, SELECTOR_CODE, 0xffffffff, ACCESS_CODE64);
    vmcs_write_segment(SEGMENT_SS, SELECTOR_DATA, 0xffffffff, ACCESS_DATA);
    vmcs_write_segment(SEGMENT_TR, SELECTOR_TSS, TSS_LIMIT, ACCESS_BUSY_TSS64);
    vmcs_write(GUEST_GS_BASE, vmcs_read(HOST_GS_BASE));
    vmcs_write(GUEST_TR_BASE, vmcs_read(HOST_TR_BASE));
    vmcs_write(GUEST_GDTR_BASE, vmcs_read(HOST_GDTR_BASE));
    vmcs_write(GUEST_GDTR_LIMIT, 0xffff);
    vmcs_write(GUEST_IDTR_BASE, vmcs_read(HOST_IDTR_BASE));
    vmcs_write(GUEST_IDTR_LIMIT, 0xffff);
}

/* The guest is Nestor itself, as far as registers go. */
static void write_guest(void)
{
    write_guest_segments();
    vmcs_write(GUEST_CR0, read_cr0());
    vmcs_write(GUEST_CR3, read_cr3());
    vmcs_write(GUEST_CR4, read_cr4());
    vmcs_write(CR0_GUEST_HOST_MASK, 0);
    vmcs_write(CR4_GUEST_HOST_MASK, 0);
    vmcs_write(GUEST_DR7, 0x400);
    vmcs_write(GUEST_DEBUGCTL, 0);
    vmcs_write(GUEST_RSP, 0);
    vmcs_write(GUEST_RFLAGS, RFLAGS_FIXED1);
    vmcs_write(GUEST_PENDING_DEBUG, 0);
    vmcs_write(GUEST_SYSENTER_CS, 0);
    vmcs_write(GUEST_SYSENTER_ESP, 0);
    vmcs_write(GUEST_SYSENTER_EIP, 0);
    vmcs_write(GUEST_INTERRUPTIBILITY, 0);
}

/* No control beyond what the CPU demands and what is probed. */
static void write_controls(const struct vmx_caps *caps, uint32_t proc)
{
    vmcs_write(PIN_CONTROLS, caps_settle(caps->pin, PIN_NMI));
    vmcs_write(PROC_CONTROLS, caps_settle(caps->proc, proc));
    vmcs_write(EXIT_CONTROLS, caps_settle(caps->exit, EXITC_HOST_64));
    vmcs_write(ENTRY_CONTROLS, caps_settle(caps->entry, ENTRY_GUEST_64));
    vmcs_write(EXCEPTION_BITMAP, 0);
    vmcs_write(PAGE_FAULT_ERROR_CODE_MASK, 0);
    vmcs_write(PAGE_FAULT_ERROR_CODE_MATCH, 0);
    vmcs_write(CR3_TARGET_COUNT, 0);
    vmcs_write(EXIT_MSR_STORE_COUNT, 0);
    vmcs_write(EXIT_MSR_LOAD_COUNT, 0);
    vmcs_write(ENTRY_MSR_LOAD_COUNT, 0);
    vmcs_write(ENTRY_INTERRUPTION_INFO, 0);
    vmcs_write(VMCS_LINK_POINTER, LINK_POINTER_NONE);
}

/* One guest's life. */
struct probe {
    hpa_t vmcs;
    bool launched;
};

/* VMX operation, and a VMCS that is current. False: no memory, or no VMX. */
static bool begin(struct probe *probe, const struct vmx_caps *caps, uint32_t proc)
{
    *probe = (struct probe){0};
    if (vmx_enable(caps))
        return false;
    probe->vmcs = vmcs_alloc(caps);
    if (!probe->vmcs) {
        vmx_disable();
        return false;
    }
    vmcs_load(probe->vmcs);
    vmcs_write_host_area(this_cpu());
    vmcs_write(HOST_RIP, (uint64_t)probe_exit);
    write_controls(caps, proc);
    write_guest();
    return true;
}

/* Leaves VMX operation again: nothing of the probe remains. */
static void end(struct probe *probe)
{
    vmcs_free(probe->vmcs);
    vmx_disable();
}

/* Runs the guest from `code` on; the exit's whole reason field, or ~0 when it was not entered. */
static uint32_t run(struct probe *probe, const uint8_t *code, uint32_t activity)
{
    vmcs_write(GUEST_RIP, (uint64_t)code);
    vmcs_write(GUEST_ACTIVITY_STATE, activity);
    if (!probe_enter(probe->launched))
        return ~0u;
    probe->launched = true;
    return vmcs_read(EXIT_REASON);
}

bool probe_monitor_trap(const struct vmx_caps *caps)
{
    struct probe probe;
    if (!(caps->proc.may & PROC_MONITOR_TRAP) || !begin(&probe, caps, PROC_MONITOR_TRAP))
        return false;
    bool works = run(&probe, probe_guest_call, ACTIVITY_ACTIVE) == EXIT_MONITOR_TRAP;
    end(&probe);
    return works;
}

bool probe_wide_bases(const struct vmx_caps *caps)
{
    struct probe probe;
    if (caps->linear_bits <= CAPS_LINEAR_BITS_4_LEVEL || !begin(&probe, caps, 0))
        return true;
    vmcs_write(GUEST_FS_BASE, BIT(caps->linear_bits - 2));
    bool works = run(&probe, probe_guest_call, ACTIVITY_ACTIVE) == EXIT_VMCALL;
    end(&probe);
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
static bool startup_works(struct probe *probe)
{
    set_stage(STAGE_RUNS);
    if (run(probe, probe_guest_spin, ACTIVITY_ACTIVE) != EXIT_INIT)
        return false;
    if (run(probe, probe_guest_call, ACTIVITY_ACTIVE) != EXIT_VMCALL)
        return false;
    set_stage(STAGE_WAITS);
    if (run(probe, probe_guest_call, ACTIVITY_WAIT_SIPI) != EXIT_SIPI)
        return false;
    if (vmcs_read(GUEST_ACTIVITY_STATE) != ACTIVITY_WAIT_SIPI)
        return false;
    return run(probe, probe_guest_call, ACTIVITY_ACTIVE) == EXIT_VMCALL;
}

void probe_serve(const struct vmx_caps *caps)
{
    struct probe probe;
    if (get_stage() != STAGE_ASKED || this_cpu()->apic_id != asked_apic)
        return;
    bool works = begin(&probe, caps, 0);
    if (works) {
        works = startup_works(&probe);
        if (!works)
            set_stage(STAGE_BROKEN); /* what is still pending may strike at VMXOFF */
        end(&probe);
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
