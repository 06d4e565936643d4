/* Exits of L2 that have EPT behind them. For the CPU they all are violations of EPT02, and most concern neither L1
 * nor L2: the mapping was only not there yet. ept02_fill() says which of three cases it is. The access is allowed by
 * EPT12, and EPT02 is filled; EPT12 forbids it, and L1 gets the exit that its own tables would have caused; or the
 * page is special to L0 (watched, Nestor's own memory, the trapped APIC).
 *
 * Three features of L1 that EPT02 hides from the CPU are done here in software: page-modification logging,
 * virtualization exceptions, and EPTP switching by VMFUNC. */
#include "nested/l2_ept.h"

#include "kernel/x86.h"
#include "nested/ept_log.h"
#include "nested/exit.h"
#include "nested/l2_spp.h"
#include "nested/nested.h"
#include "nested/prepare.h"
#include "nested/resume.h"
#include "nested/rules/check.h"
#include "vmx/event.h"
#include "vmx/refusal.h"
#include "vmx/run.h"
#include "vmx/skip.h"
#include "vmx/startup.h"
#include "vmx/startup_store.h"
#include "vmx/step.h"
#include "vmx/vmcs_setup.h"

#define VMFUNC_EPTP_SWITCHING 0u
#define EPTP_LIST_ENTRIES 512u
#define PML_ENTRIES 512u

/* SDM 3C 26.5.7.2 "Virtualization-Exception Information" */
struct ve_info {
    uint32_t reason;
    uint32_t busy; /* all-ones from the moment the area is written until L2 clears it */
    uint64_t qualification, guest_linear_address, guest_physical_address;
    uint16_t eptp_index;
};
#define VE_INFO_SIZE 34

/* True if L1 has page-modification logging on for this L2. */
static bool pml_on(const struct vmcs12 *v)
{
    return (vmcs12_proc2(v) & PROC2_PML) != 0;
}

/* The CPU counts the index down from 511, so a value beyond the table (it wraps from 0 to FFFFH) says that the next
 * entry has no place: the access that would be logged exits first. */
static bool pml_full(const struct vmcs12 *v)
{
    return pml_on(v) && v->PML_INDEX >= PML_ENTRIES;
}

/* EPT02 has W only where EPT12's D flag is set, so each flag that gets set comes this way.
 * SDM 3C 29.3.6 "Page-Modification Logging" */
static void pml_log(const struct vcpu *vcpu, struct vmcs12 *v, gpa_t gpa2)
{
    uint64_t page = ALIGN_DOWN(gpa2, PAGE_SIZE);
    gmem_write(&vcpu->vm->gmem, v->PML_ADDRESS + 8 * v->PML_INDEX, &page, sizeof(page));
    v->PML_INDEX = (uint16_t)(v->PML_INDEX - 1);
    vmcs_write(PML_INDEX, (uint16_t)v->PML_INDEX); /* where L1 reads it */

    struct vmcs12_slot *slot = vcpu->nested->current;
    slot->logged_gpa2[slot->logged++ % LOGGED_KEPT] = gpa2;
    slot->revisit |= REVISIT_LOGGED;
}

/* True if L1 wants EPT violations that it allows for to become virtualization exceptions of L2. */
static inline bool ve_on(const struct vmcs12 *v)
{
    return (vmcs12_proc2(v) & PROC2_EPT_VE) != 0;
}

/* True if a violation becomes an exception of L2 instead of L1's exit, with the control on. SDM 3C 26.5.7.1
 * "Convertible EPT Violations" */
static bool ve_convertible(const struct vcpu *vcpu, const struct vmcs12 *v, bool suppressed)
{
    uint32_t busy;
    if (suppressed || !(vmcs_read(GUEST_CR0) & CR0_PE) || (vcpu->exit.idt_vectoring_info & INTR_VALID))
        return false;
    gmem_read(&vcpu->vm->gmem, v->VE_INFO_ADDRESS + offsetof(struct ve_info, busy), &busy, sizeof(busy));
    return busy == 0;
}

/* Fills L1's information area and raises #VE in L2. True: L2 goes on; false: L1 intercepts #VE, vcpu->exit says so. */
static bool ve_raise(struct vcpu *vcpu, const struct vmcs12 *v)
{
    struct vmexit *exit = &vcpu->exit;
    const struct ve_info info = {
        .reason = EXIT_EPT_VIOLATION,
        .busy = ~0u,
        .qualification = exit->qualification,
        .guest_linear_address = exit->guest_linear_address,
        .guest_physical_address = exit->guest_physical_address,
        .eptp_index = (uint16_t)v->EPTP_INDEX,
    };
    gmem_write(&vcpu->vm->gmem, v->VE_INFO_ADDRESS, &info, VE_INFO_SIZE);
    if (v->EXCEPTION_BITMAP & BIT(VECTOR_VE)) {
        exit->reason = EXIT_EXCEPTION_NMI;
        exit->interruption_info = (uint32_t)(INTR_VALID | PUT(INTR_TYPE_HARD_EXCEPTION, INTR_TYPE) | VECTOR_VE);
        exit->qualification = 0;
        exit->changed = true;
        return false;
    }
    event_restore_nmi_blocking(vcpu);
    event_inject_fault(vcpu, VECTOR_VE, 0);
    prepare_sync_ept02(vcpu->nested, vcpu->nested->current); /* the violation may have taken a mapping away */
    return true;
}

/* EPT12 forbids the access. Makes vcpu->exit what L1's own CPU would report, which may be a misconfiguration of EPT02
 * or have fewer permissions in its qualification than EPT12 gives. True: L2 goes on with a #VE; false: L1 gets the
 * exit. What is remembered here lets the next entry fill EPT02 at once, see l2_ept_prefill(). */
static bool violation_of_l1(struct vcpu *vcpu, const struct vmcs12 *v, const struct ept02_exit *out)
{
    struct vmcs12_slot *slot = vcpu->nested->current;
    struct vmexit *exit = &vcpu->exit;
    slot->revisit |= REVISIT_VIOLATION;
    slot->violation_gpa2 = exit->guest_physical_address;
    slot->violation_access = out->qualification & (EPT_QUAL_READ | EPT_QUAL_WRITE | EPT_QUAL_FETCH);
    if (exit->reason != EXIT_EPT_VIOLATION)
        exit->changed = true;
    else if (exit->qualification & BITS(6, 3)) /* EPT02 has the page, with fewer rights */
        ept02_forget(&vcpu->nested->ept02s, slot->eptp12, exit->guest_physical_address);
    if (exit->qualification != out->qualification)
        exit->changed = true;
    exit->reason = EXIT_EPT_VIOLATION;
    exit->qualification = out->qualification;
    ept_log_violation(vcpu, exit->guest_physical_address, out->qualification);
    return ve_on(v) && ve_convertible(vcpu, v, out->suppress_ve) && ve_raise(vcpu, v);
}

/* The exit is L1's, with a reason of which the CPU knows nothing. */
static bool exit_of_l1(struct vcpu *vcpu, uint32_t reason, uint64_t qualification)
{
    vcpu->exit.reason = reason;
    vcpu->exit.qualification = qualification;
    vcpu->exit.changed = true;
    return false;
}

/* A store to a page of L1 that somebody watches. True: it is done, in L2's place (an APIC's page); false: it may be
 * repeated, as the watch is gone. */
static inline bool watched_store(struct vcpu *vcpu, gpa_t gpa1)
{
    if (startup_is_trapped(vcpu->vm, gpa1)) {
        startup_store(vcpu, gpa1);
        prepare_sync_ept02(vcpu->nested, vcpu->nested->current);
        return true;
    }
    if (ept_watch_hit(&vcpu->vm->watch, gpa1)) {
        count(COUNT_WATCH_FAULTS);
        trace(TRACE_WATCH, 1, gpa1);
    }
    return false;
}

/* True if all of nested/quiet.def is as it was before the exit. No page that was suspended, nor an event that goes on.
 * */
static inline bool is_only_filled(const struct vcpu *vcpu, const struct ept02_exit *out)
{
    const struct nested *nested = vcpu->nested;
    const struct vmcs12_slot *slot = nested->current;
    return !out->dirtied && !slot->revisit && !slot->plan.scope && !vcpu->inject_info && !vcpu->nmi_window &&
           slot->roots_seen == nested->ept02s.roots_changed;
}

/* A violation of EPT12, on a page with sub-page permissions: the say of those. Page walks of L2 have none. */
static NOINLINE enum l2_spp judge_sub_page(struct vcpu *vcpu, const struct vmcs12 *v, uint64_t *spp)
{
    const uint64_t linear = EPT_QUAL_GLA_VALID | EPT_QUAL_NOT_WALK, hardware = vcpu->exit.qualification;
    if (!(vmcs12_proc2(v) & PROC2_SPP) || (hardware & linear) != linear)
        return L2_SPP_DENIED;
    return l2_spp_store(vcpu, vcpu->exit.guest_physical_address, spp);
}

static inline enum ept02_result fill(struct vcpu *vcpu, struct vmcs12 *v, uint64_t access, struct ept02_exit *out)
{
    struct nested *nested = vcpu->nested;
    const struct vmexit *exit = &vcpu->exit;
    enum ept02_result result = ept02_fill(&nested->ept02s, nested->current->eptp12, exit->guest_physical_address,
                                          access, exit->qualification, pml_full(v), out);
    if (out->dirtied && pml_on(v))
        pml_log(vcpu, v, exit->guest_physical_address);
    return result;
}

bool l2_ept_exit(struct vcpu *vcpu)
{
    EXPECT_CURRENT(vcpu->nested->current->vmcs02);
    struct nested *nested = vcpu->nested;
    struct vmcs12 *v = nested->current->v;
    const struct vmexit *exit = &vcpu->exit;
    uint64_t hardware = exit->qualification, access = hardware & (EPT_QUAL_READ | EPT_QUAL_WRITE | EPT_QUAL_FETCH);
    struct ept02_exit out;
    enum l2_spp store;
    uint64_t spp;
    if (exit->reason == EXIT_EPT_MISCONFIG) /* EPT02 repeats what EPT12 had when the CPU looked */
        return false;
    /* A store to a watched page needs two turns: the first finds the watch, which the hit takes away; the second fills
     * EPT02 with the write permission that is left then. */
    for (;;) {
        switch (fill(vcpu, v, access, &out)) {
        case EPT02_FILLED:
            vcpu->only_filled = nested_resume_l2(vcpu) && is_only_filled(vcpu, &out);
            return true;
        case EPT02_WATCH:
            if (watched_store(vcpu, out.gpa1))
                return true;
            break;
        /* A store to Nestor's own memory: W for one step, on the page of ones there (ADR 8). */
        case EPT02_CARVEOUT:
            step_begin_in_l2(vcpu, out.entry, exit->guest_physical_address);
            return nested_resume_l2(vcpu);
        case EPT02_VIOLATION:
            store = out.sub_page ? judge_sub_page(vcpu, v, &spp) : L2_SPP_DENIED;
            if (store == L2_SPP_DENIED)
                return violation_of_l1(vcpu, v, &out);
            if (store == L2_SPP_EXIT)
                return exit_of_l1(vcpu, EXIT_SPP, spp | (hardware & EPT_QUAL_NMI_UNBLOCKING));
            access ^= EPT_QUAL_WRITE | EPT_SUB_PAGE; /* EPT02 and SPPT02 together let it through */
            break;
        case EPT02_MISCONFIG:
            ept_log_misconfig(vcpu, exit->guest_physical_address, out.gpa1, out.level, out.entry12);
            return exit_of_l1(vcpu, EXIT_EPT_MISCONFIG, 0);
        case EPT02_LOG_FULL:
            return exit_of_l1(vcpu, EXIT_PML_FULL, hardware & EPT_QUAL_NMI_UNBLOCKING);
        }
    }
}

bool l2_sub_page_exit(struct vcpu *vcpu)
{
    struct vmexit *exit = &vcpu->exit;
    uint64_t qualification;
    if (l2_spp_store(vcpu, exit->guest_physical_address, &qualification) != L2_SPP_EXIT)
        return nested_resume_l2(vcpu);
    qualification |= exit->qualification & EPT_QUAL_NMI_UNBLOCKING;
    exit->changed |= qualification != exit->qualification;
    exit->qualification = qualification;
    return false;
}

/* Pages whose D flag L1 cleared lose their mapping, so that the next store is logged again. Without INVEPT L1 is
 * promised nothing here; but a CPU that happens to have nothing cached would log, and L1 may have seen that. */
static NOINLINE void forget_cleared(struct ept02s *ept02s, struct vmcs12_slot *slot)
{
    const struct ept12_rules *rules = ept02_rules(ept02s, l2_eptp12(slot->v));
    for (unsigned i = 0; i < MIN(slot->logged, LOGGED_KEPT); i++) {
        struct ept12_walk walk =
            ept12_walk(ept02s->shared->gmem, rules, l2_eptp12(slot->v), slot->logged_gpa2[i], EPT_W, true);
        if (walk.kind != EPT12_WALK_OK)
            ept02_forget(ept02s, l2_eptp12(slot->v), slot->logged_gpa2[i]);
    }
    slot->logged = 0;
}

void l2_ept_prefill(struct vcpu *vcpu)
{
    struct vmcs12_slot *slot = vcpu->nested->current;
    struct vmcs12 *v = slot->v;
    unsigned revisit = slot->revisit;
    uint64_t eptp12 = l2_eptp12(v);
    struct ept02_exit out;
    /* Both reasons are dealt with here, once: an L2 that exits for the same page again sets them again. */
    slot->revisit = 0;
    if (!(vmcs12_proc2(v) & PROC2_EPT))
        return;
    /* The look before the entry would drop what is filled here, so it comes first. */
    if (slot->root && slot->eptp12 == eptp12 && slot->roots_seen == vcpu->nested->ept02s.roots_changed)
        ept02_look(&vcpu->nested->ept02s, slot->root);
    if (revisit & REVISIT_LOGGED)
        forget_cleared(&vcpu->nested->ept02s, slot);
    if (revisit & REVISIT_VIOLATION)
        (void)ept02_fill(&vcpu->nested->ept02s, eptp12, slot->violation_gpa2, slot->violation_access, 0, true, &out);
}

/* The EPTP that L2 asks for, or false when the processor would exit instead. */
static bool requested_eptp(const struct vcpu *vcpu, const struct vmcs12 *v, uint64_t *eptp)
{
    uint32_t function = (uint32_t)vcpu->regs[RAX], index = (uint32_t)vcpu->regs[RCX];
    if (function != VMFUNC_EPTP_SWITCHING || !(v->VM_FUNCTION_CONTROLS & BIT(VMFUNC_EPTP_SWITCHING)) ||
        index >= EPTP_LIST_ENTRIES) {
        refusal_log(vcpu, REFUSAL_VMFUNC_FUNCTION, function, index);
        return false;
    }
    gmem_read(&vcpu->vm->gmem, v->EPTP_LIST_ADDRESS + 8 * index, eptp, sizeof(*eptp));
    if (check_eptp(&vcpu->vm->caps12, *eptp))
        return true;
    refusal_log(vcpu, REFUSAL_VMFUNC_EPTP, index, *eptp);
    return false;
}

bool l2_vmfunc(struct vcpu *vcpu)
{
    EXPECT_CURRENT(vcpu->nested->current->vmcs02);
    struct nested *nested = vcpu->nested;
    struct vmcs12 *v = nested->current->v;
    uint64_t eptp;
    if (!requested_eptp(vcpu, v, &eptp))
        return false;
    v->EPT_POINTER = eptp;
    /* The index goes into the information of the next #VE. SDM 3C 26.5.6.3 "EPTP Switching" */
    if (vmcs12_proc2(v) & PROC2_EPT_VE)
        v->EPTP_INDEX = (uint16_t)vcpu->regs[RCX];
    prepare_eptp(nested, nested->current);
    vcpu_skip_instruction(vcpu);
    return true;
}

/* L1's exit for an access of L2 that L0 does in its place and that EPT12 does not let through. */
static void unmapped_exit(struct vcpu *vcpu, const struct ept12_walk *found, gpa_t gpa2, uint64_t rights, bool walk)
{
    vcpu->l2_unmapped = true;
    vcpu->exit.changed = true;
    vcpu->exit.guest_physical_address = gpa2;
    vcpu->exit.qualification = 0;
    switch (found->kind) {
    case EPT12_WALK_MISCONFIG:
        ept_log_misconfig(vcpu, gpa2, found->table, found->level, found->entry);
        vcpu->exit.reason = EXIT_EPT_MISCONFIG;
        break;
    case EPT12_WALK_LOG_FULL:
        vcpu->exit.reason = EXIT_PML_FULL;
        break;
    default:
        vcpu->exit.reason = EXIT_EPT_VIOLATION;
        vcpu->exit.qualification =
            rights | ept12_allowed(found->permissions) | EPT_QUAL_GLA_VALID |
            (walk ? 0 : EPT_QUAL_NOT_WALK | (vcpu->l2_page & vcpu->nested->ept02s.rules[0].page_rights));
        ept_log_violation(vcpu, gpa2, vcpu->exit.qualification);
    }
}

/* The same where the table of sub-page permissions has no entry, or a wrong one. */
static void no_sub_page_exit(struct vcpu *vcpu, gpa_t gpa2, uint64_t qualification)
{
    vcpu->l2_unmapped = true;
    vcpu->exit.guest_physical_address = gpa2;
    (void)exit_of_l1(vcpu, EXIT_SPP, qualification);
}

/* Another processor of L1 may change an entry between the look and the setting of its A or D flag: then once more. */
static struct ept12_walk walk_settled(const struct vcpu *vcpu, gpa_t gpa2, uint64_t rights)
{
    const struct ept02s *ept02s = &vcpu->nested->ept02s;
    const struct vmcs12_slot *slot = vcpu->nested->current;
    struct ept12_walk found;
    do {
        found = ept12_walk(ept02s->shared->gmem, ept02_rules(ept02s, slot->eptp12), slot->eptp12, gpa2, rights,
                           pml_full(slot->v));
    } while (found.kind == EPT12_WALK_RACED);
    return found;
}

bool l2_translate(struct vcpu *vcpu, gpa_t *gpa, uint32_t access, bool walk)
{
    EXPECT_CURRENT(vcpu->nested->current->vmcs02);
    struct vmcs12 *v = vcpu->nested->current->v;
    uint64_t rights = access & GVA_WRITE ? EPT_W : access & GVA_FETCH ? 0 : EPT_R; /* the CPU has done the fetch */
    struct ept12_walk found;
    uint64_t spp;
    if (!(vmcs12_proc2(v) & PROC2_EPT))
        return true;
    /* With A/D flags on, L2's walks count as reads and writes. SDM 3C 29.3.5 "Accessed and Dirty Flags for EPT" */
    if (walk && (v->EPT_POINTER & EPTP_AD))
        rights = EPT_R | EPT_W;
    found = walk_settled(vcpu, *gpa, rights);
    if (!walk && (vmcs12_proc2(v) & PROC2_SPP) && ept12_is_sub_page(&found, rights)) {
        enum l2_spp store = l2_spp_store(vcpu, *gpa, &spp);
        if (store == L2_SPP_EXIT) {
            no_sub_page_exit(vcpu, *gpa, spp);
            return false;
        }
        if (store == L2_SPP_PERMITS)
            found = walk_settled(vcpu, *gpa, EPT_SUB_PAGE);
    }
    if (found.kind != EPT12_WALK_OK) {
        unmapped_exit(vcpu, &found, *gpa, rights ? rights : EPT_QUAL_FETCH, walk);
        return false;
    }
    if (found.sets_dirty && pml_on(v))
        pml_log(vcpu, v, *gpa);
    *gpa = found.gpa1;
    return true;
}

/* The end of a step in L2. The store's page loses W, and the debt for it is paid before L2 goes on. */
void l2_close_page(struct vcpu *vcpu, gpa_t gpa2)
{
    EXPECT_CURRENT(vcpu->nested->current->vmcs02);
    struct nested *nested = vcpu->nested;
    ept02_close(&nested->ept02s, nested->current->eptp12, gpa2);
    prepare_sync_ept02(nested, nested->current);
}

/* The same choice as for a violation that the CPU found, for one that Nestor met while it acted for L2. */
bool l2_unmapped_exit(struct vcpu *vcpu)
{
    EXPECT_CURRENT(vcpu->nested->current->vmcs02);
    const struct ept02s *ept02s = &vcpu->nested->ept02s;
    const struct vmcs12 *v = vcpu->nested->current->v;
    uint64_t eptp12 = vcpu->nested->current->eptp12;
    uint64_t rights = vcpu->exit.qualification & (EPT_QUAL_READ | EPT_QUAL_WRITE);
    if (vcpu->exit.reason != EXIT_EPT_VIOLATION)
        return false;
    /* The walk is made once more only for the suppress-#VE bit of the entry where it ends. */
    struct ept12_walk found = ept12_walk(ept02s->shared->gmem, ept02_rules(ept02s, eptp12), eptp12,
                                         vcpu->exit.guest_physical_address, rights, true);
    return ve_on(v) && ve_convertible(vcpu, v, found.suppress_ve) && ve_raise(vcpu, v);
}
