/* The long way does the same in nested/l2_ept.c and nested/enter.c:nested_resume_straight. All is left out here that
 * `quiet` says there is no cause for: events, steps, bitmaps, debts of EPT02, another VMCS. */
#include "nested/straight_ept.h"

#include "kernel/cmdline.h"
#include "kernel/percpu.h"
#include "nested/ept02/ept02_plain.h"
#include "nested/ept_log.h"
#include "nested/nested.h"
#include "nested/settle.h"
#include "vmx/straight.h"
#include "vmx/vmcs_setup.h"

/* Another processor, or an NMI, may have cleared the byte meanwhile: it stays so then, and says false. */
static inline bool change_quiet(struct straight *straight, uint8_t from, uint8_t to)
{
    return __atomic_compare_exchange_n(&straight->quiet, &from, to, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

/* EPT12 allows nothing. L1 reads in vmcs02 what the CPU says, if that is what its own would. The next entry fills
 * EPT02. */
static inline enum straight_violation tell_l1(struct vcpu *vcpu, gpa_t gpa2, uint64_t qualification, uint64_t access)
{
    struct vmcs12_slot *slot = vcpu->nested->current;
    uint64_t page_rights = vcpu->nested->ept02s.rules[0].page_rights;

    if (ept12_qualification(slot->eptp12, qualification, access, 0, page_rights) != qualification)
        return VIOLATION_LONG;
    if (!ept_log_has_said(qualification))
        return VIOLATION_LONG;
    slot->revisit |= REVISIT_VIOLATION;
    slot->violation_gpa2 = gpa2;
    slot->violation_access = access;
    (void)change_quiet(straight_of(vcpu->cpu), QUIET_ALL, QUIET_BUT_REVISIT);
    return VIOLATION_OF_L1;
}

/* EPT02 has the page now, and L2 goes on, unless something of what the exit has interrupted must be done again. */
static inline enum straight_violation go_on(struct vcpu *vcpu, uint64_t qualification)
{
    if (ept02_owes(vcpu->nested->current->root) || (qualification & EPT_QUAL_NMI_UNBLOCKING) ||
        ((vmcs_read(IDT_VECTORING_INFO) & INTR_VALID) && !MUTANT(DELIVERY)))
        return VIOLATION_LONG;
    if (straight_of(vcpu->cpu)->moves)
        straight_settle(vcpu);
    vcpu->launched = true; /* vmcs02 */
    straight_of(vcpu->cpu)->by_reason[EXIT_EPT_VIOLATION]++;
    count(COUNT_EXITS_L2);
    return VIOLATION_FILLED;
}

enum straight_violation straight_ept_exit(struct vcpu *vcpu)
{
    struct ept02s *e = &vcpu->nested->ept02s;
    const struct vmcs12_slot *slot = vcpu->nested->current;
    uint64_t qualification, access;
    struct ept02_plain end;
    gpa_t gpa2;

    if (!slot->plan.plain_ept)
        return VIOLATION_LONG;
    gpa2 = vmcs_read(GUEST_PHYSICAL_ADDRESS);
    qualification = vmcs_read(EXIT_QUALIFICATION);
    access = qualification & (EPT_QUAL_READ | EPT_QUAL_WRITE | EPT_QUAL_FETCH);
    if (!ept02_plain_walk(e, slot->eptp12, gpa2, &end))
        return VIOLATION_LONG;
    if (ept02_plain_is_absent(e, &end)) {
        ept02_plain_expect(e, slot->eptp12, gpa2, access, &end, 0);
        return tell_l1(vcpu, gpa2, qualification, access);
    }
    /* Walked once more, so that nothing of it need be kept in memory. */
    if (ept02_plain_fill(e, slot->root, slot->eptp12, gpa2, access) == PLAIN_FILLED)
        return go_on(vcpu, qualification);
    return VIOLATION_LONG;
}

bool straight_ept_enter(struct vcpu *vcpu)
{
    struct vmcs12_slot *slot = vcpu->nested->current;

    /* EPT02 gets the page if L1 has mapped it since. */
    if (ept02_plain_fill(&vcpu->nested->ept02s, slot->root, slot->eptp12, slot->violation_gpa2,
                         slot->violation_access) == PLAIN_OTHER ||
        ept02_owes(slot->root))
        return false;
    slot->revisit = 0;
    return change_quiet(straight_of(vcpu->cpu), QUIET_BUT_REVISIT, QUIET_ALL);
}
