/* EPT violations under EPT01: stores to traced pages, Nestor's memory, and addresses not mapped yet. */
#include "kernel/log.h"
#include "vmx/dump.h"
#include "vmx/event.h"
#include "vmx/exit_handlers.h"
#include "vmx/startup.h"
#include "vmx/startup_store.h"
#include "vmx/step.h"
#include "vmx/vmcs_setup.h"

/* True if the tables allow now what was refused: another processor, or a dropped watch, changed them meanwhile. */
static bool allowed_now(struct ept *ept, gpa_t gpa, uint64_t qualification)
{
    struct ept_leaf leaf = ept_translate(ept, gpa);
    uint64_t wanted = qualification & (EPT_QUAL_READ | EPT_QUAL_WRITE | EPT_QUAL_FETCH); /* same bits as EPT_RWX */
    return leaf.level && (leaf.permissions & wanted) == wanted;
}

/* From what the address alone says to what must be looked up. The last three cases are races with another processor: by
 * the time that this exit is handled, the table allows what it refused, and the guest only has to try again. */
void exit_ept_violation(struct vcpu *vcpu)
{
    EXPECT_GUEST(vcpu);
    struct ept *ept = &vcpu->vm->ept01;
    gpa_t gpa = vcpu->exit.guest_physical_address;
    uint64_t qualification = vcpu->exit.qualification;

    event_restore_nmi_blocking(vcpu);
    if (startup_is_trapped(vcpu->vm, gpa)) {
        startup_store(vcpu, gpa);
        return;
    }
    if (ept_is_carveout(ept, gpa)) {
        step_begin(vcpu, ept_carveout_entry(ept, gpa));
        return;
    }
    if ((qualification & EPT_QUAL_WRITE) && ept_watch_hit(&vcpu->vm->watch, gpa)) {
        count(COUNT_WATCH_FAULTS);
        trace(TRACE_WATCH, 0, gpa);
        return;
    }
    /* Another processor's store dropped the trace first, and it may be armed anew already: the store meets it then. */
    if ((qualification & EPT_QUAL_WRITE) && gmem_is_ram(&vcpu->vm->gmem, gpa))
        return;
    if (ept_map_on_demand(ept, gpa) || allowed_now(ept, gpa, qualification))
        return;
    log_warn("ept", "no mapping for gpa1=%lx qualification=%lx rip=%lx: L1 gets #GP", gpa, qualification,
             vmcs_read(GUEST_RIP));
    vcpu->inject_info = 0;
    event_inject_gp(vcpu, 0);
}

/* EPT01 is Nestor's own: an entry in it that the CPU refuses is Nestor's mistake. */
void exit_ept_misconfig(struct vcpu *vcpu)
{
    dump_and_end(vcpu, "misconfigured entry in EPT01");
}
