/* Exits of L2: L0's first (EPT02, NMIs), then by decide.c L0's or L1's. */
#include "nested/exit.h"

#include "kernel/layout.h"
#include "kernel/x86.h"
#include "nested/decide.h"
#include "nested/enter.h"
#include "nested/merge.h"
#include "nested/prepare.h"
#include "vmx/event.h"
#include "vmx/io.h"
#include "vmx/msr_bitmap.h"
#include "vmx/run.h"
#include "vmx/step.h"

/* L1's page of a bitmap for a decision: the snapshot of a merged page, else the page as it is now; NULL when the
 * control is off or the page is no RAM. */
static const uint8_t *bitmap_page(const struct nested *nested, bool used, const struct merged *m, gpa_t page)
{
    if (!used)
        return NULL;
    return m ? m->snapshot : gmem_page(&nested->vcpu->vm->gmem, page);
}

static enum decision decide(struct vcpu *vcpu)
{
    const struct vmcs12_slot *slot = vcpu->nested->current;
    const struct vmcs12 *v = slot->v;
    bool use_io = (v->PROC_CONTROLS & PROC_USE_IO_BITMAPS) != 0;
    bool cr = vcpu->exit.reason == EXIT_CR_ACCESS;
    struct decide_input in = {
        .exit = &vcpu->exit,
        .v = v,
        .regs = vcpu->regs,
        .msr_bitmap =
            bitmap_page(vcpu->nested, v->PROC_CONTROLS & PROC_USE_MSR_BITMAPS, slot->msr_bitmap, v->MSR_BITMAP),
        .io_bitmap_a = bitmap_page(vcpu->nested, use_io, slot->io_bitmap_a, v->IO_BITMAP_A),
        .io_bitmap_b = bitmap_page(vcpu->nested, use_io, slot->io_bitmap_b, v->IO_BITMAP_B),
        .l0_nmi = !(v->PIN_CONTROLS & PIN_NMI),
    };
    if (cr) {
        in.rsp = vmcs_read(GUEST_RSP);
        in.cr0 = vmcs_read(GUEST_CR0);
        in.cr4 = vmcs_read(GUEST_CR4);
        in.narrow = !(vmcs_read(GUEST_CS_AR_BYTES) & AR_L);
    }
    return decide_exit(&in);
}

void nested_l0_handled_l2(struct vcpu *vcpu)
{
    prepare_suspend_bitmaps(vcpu->nested, vcpu->nested->current);
}

/* Whether an exit was only due to the bitmaps' suspension, so that L2 executes the instruction again. */
static bool only_suspended(struct vcpu *vcpu)
{
    const struct vm *vm = vcpu->vm;
    switch (vcpu->exit.reason) {
    case EXIT_RDMSR:
        return !msr_bitmap_test(vm->msr_bitmap, (uint32_t)vcpu->regs[RCX], MSR_READ);
    case EXIT_WRMSR:
        return !msr_bitmap_test(vm->msr_bitmap, (uint32_t)vcpu->regs[RCX], MSR_WRITE);
    default:
        return !io_access_is_l0s(vcpu->exit.qualification);
    }
}

/* An exit under suspended bitmaps: makes them fresh first. True when L2 goes on. */
static bool retry_with_fresh_bitmaps(struct vcpu *vcpu)
{
    uint32_t reason = vcpu->exit.reason;
    if (reason != EXIT_RDMSR && reason != EXIT_WRMSR && reason != EXIT_IO)
        return false;
    prepare_restore_bitmaps(vcpu->nested, vcpu->nested->current);
    return decide(vcpu) == TO_L0 && only_suspended(vcpu);
}

/* Going on with L2 after Nestor dealt with its exit alone. */
static bool resume_l2(struct vcpu *vcpu)
{
    event_restore_nmi_blocking(vcpu);
    event_requeue(vcpu);
    prepare_sync_ept02(vcpu->nested, vcpu->nested->current);
    prepare_suspend_bitmaps(vcpu->nested, vcpu->nested->current);
    return true;
}

/* An EPT violation or misconfiguration under EPT02. True: dealt with; false: vcpu->exit is now L1's. */
static bool fill_ept02(struct vcpu *vcpu)
{
    struct nested *nested = vcpu->nested;
    struct vmexit *exit = &vcpu->exit;
    uint64_t eptp12 = nested->current->v->EPT_POINTER;
    bool violation = exit->reason == EXIT_EPT_VIOLATION;
    uint64_t access = violation ? exit->qualification & (EPT_QUAL_READ | EPT_QUAL_WRITE | EPT_QUAL_FETCH) : 0;
    struct ept12_exit out;
    for (;;) {
        switch (ept12_fill(&nested->ept12, eptp12, exit->guest_physical_address, access,
                           violation ? exit->qualification : 0, &out)) {
        case EPT12_FILLED:
            return resume_l2(vcpu);
        case EPT12_WATCH:
            if (ept_watch_hit(&vcpu->vm->watch, out.gpa1))
                count(COUNT_WATCH_FAULTS);
            break;
        case EPT12_CARVEOUT:
            step_begin(vcpu, out.entry);
            return resume_l2(vcpu);
        case EPT12_VIOLATION:
            exit->reason = EXIT_EPT_VIOLATION;
            exit->qualification = out.qualification;
            return false;
        case EPT12_MISCONFIG:
            exit->reason = EXIT_EPT_MISCONFIG;
            exit->qualification = 0;
            return false;
        }
    }
}

static void count_msr_exit(const struct vcpu *vcpu, enum decision decision)
{
    if (vcpu->exit.reason == EXIT_RDMSR || vcpu->exit.reason == EXIT_WRMSR)
        count(decision == TO_L1 ? COUNT_L2_MSR_EXITS_L1 : COUNT_L2_MSR_EXITS_L0);
}

/* The physical CPU blocks NMIs after an exit by one; L1 will be told of the NMI, Nestor's handler not. */
static void take_nmi(const struct vcpu *vcpu)
{
    if (vcpu->exit.reason == EXIT_EXCEPTION_NMI && GET(vcpu->exit.interruption_info, INTR_TYPE) == INTR_TYPE_NMI)
        vmx_unblock_nmi();
}

bool nested_exit_from_l2(struct vcpu *vcpu)
{
    const struct vmcs12 *v = vcpu->nested->current->v;
    uint32_t reason = vcpu->exit.reason;
    if (vcpu->exit.entry_failure) {
        nested_hardware_entry_failure(vcpu);
        return true;
    }
    if (reason == EXIT_EPT_VIOLATION || reason == EXIT_EPT_MISCONFIG) {
        if (!(vmcs12_proc2(v) & PROC2_EPT))
            return false; /* EPT01 serves this L2 */
        if (fill_ept02(vcpu))
            return true;
        nested_reflect(vcpu);
        return true;
    }
    if (vcpu->nested->current->bitmaps_suspended && retry_with_fresh_bitmaps(vcpu))
        return true;
    enum decision decision = decide(vcpu);
    count_msr_exit(vcpu, decision);
    if (decision == TO_L0)
        return false;
    take_nmi(vcpu);
    nested_reflect(vcpu);
    return true;
}

bool nested_nmi_to_l1(struct vcpu *vcpu)
{
    const struct vmcs12 *v = vcpu->nested->current->v;
    bool blocked = !(v->PIN_CONTROLS & PIN_VIRTUAL_NMIS) && (vmcs_read(GUEST_INTERRUPTIBILITY) & BLOCKING_BY_NMI);
    /* An event on its way goes first, as it would have before the NMI; the next exit brings us here again. */
    if (!(v->PIN_CONTROLS & PIN_NMI) || blocked || vcpu->inject_info)
        return false;
    vcpu->cpu->nmi_seen = false;
    count(COUNT_NMIS);
    vcpu->exit = (struct vmexit){
        .reason = EXIT_EXCEPTION_NMI,
        .interruption_info = (uint32_t)(INTR_VALID | PUT(INTR_TYPE_NMI, INTR_TYPE) | VECTOR_NMI),
    };
    nested_reflect(vcpu);
    return true;
}
