/* When something takes the long way: the work that the straight way has left. That adds to a few words, and L1 may have
 * turned to other vmcs12s meanwhile: each plan has how often its own was entered and left. */
#include "nested/settle.h"

#include "kernel/ledger.h"
#include "nested/prepare.h"
#include "nested/shadow.h"
#include "nested/slot.h"
#include "vmx/vpid.h"

/* Here the words become what the long way counts one by one, so that counters and summary do not tell the two ways
 * apart, except in the one that says how often the straight one was taken. `left`: entries of others. */
static ALWAYS_INLINE void add_counts(struct vcpu *vcpu, struct straight *straight, struct vmcs12_slot *slot,
                                     uint64_t left)
{
    uint64_t entries = (straight->moves + !vcpu->in_l2) / 2;
    uint64_t exits = straight->moves - entries - straight->decided;
    vcpu->exits[0][EXIT_VMRESUME] += entries;
    count_add(COUNT_EXITS_L1, entries);
    count_add(COUNT_NESTED_ENTRIES, entries);
    count_add(COUNT_EXITS_L2, exits);
    count_add(COUNT_EXITS_REFLECTED, exits);
    count_add(COUNT_EXITS_STRAIGHT, exits);
    uint64_t msr = straight->by_reason[EXIT_RDMSR] + straight->by_reason[EXIT_WRMSR];
    count_add(COUNT_L2_MSR_EXITS_L1, msr - straight->msr_counted);
    straight->msr_counted = msr;
    slot_bitmaps_count_saved(&slot->bitmaps, entries - left);
    trace(TRACE_STRAIGHT, (uint32_t)entries, exits);
    straight->moves = straight->decided = 0;
#ifdef COUNT_VMX
    for (unsigned i = 0; i < ARRAY_SIZE(straight->vmx); i++) {
        count_add(COUNT_VMREADS + i, straight->vmx[i]);
        straight->vmx[i] = 0;
    }
#endif
}

/* The last exit or entry of this vmcs12 was a straight one. */
static ALWAYS_INLINE void settle_slot(struct vmcs12_slot *slot, bool to_l2)
{
    slot->life = to_l2 ? VMCS02_ACTIVE : VMCS02_SHADOW;
    slot->was_launched = true;
    slot->entered_straight = to_l2;
    if (slot->kept & KEPT_TIMER)
        slot->v->PREEMPTION_TIMER = slot->plan.timer;
    if (to_l2)
        shadow_fetch_event(slot); /* before an event of Nestor's takes its place */
    else
        prepare_leave_unread(slot);
}

/* `moved`: since L1 has turned to the current vmcs12. */
static ALWAYS_INLINE void settle(struct vcpu *vcpu, struct straight *straight, uint64_t left, bool moved)
{
    struct vmcs12_slot *slot = vcpu->nested->current;
    bool to_l2 = straight_in_l2(vcpu);
    if (slot->plan.shape & SHAPE_NO_VPID) /* vmx/straight.asm has flushed */
        ledger_pay_vpid(ledger_now(), slot->plan.invvpid_type, to_l2 ? VPID_L2_NONE : VPID_L1, 0);
    straight->entered = moved;
    add_counts(vcpu, straight, slot, left);
    vcpu->in_l2 = to_l2;
    vcpu->launched = !to_l2; /* should it not have come to the entry yet: VMLAUNCH of vmcs02, VMRESUME of vmcs01 */
    vcpu->l2_straight = slot->straight;
    if (moved)
        settle_slot(slot, to_l2);
}

/* L1 has turned from one vmcs12 to another by VMPTRLD: each that it has left was left while L1 ran. */
static NOINLINE void settle_all(struct vcpu *vcpu, struct straight *straight)
{
    uint64_t left = 0;
    bool moved = straight->moves != straight->moves_then;
    straight->moves_then = 0;
    for (unsigned i = 0; i < STRAIGHT_HELD; i++) {
        struct straight_plan *plan = straight->held[i];
        struct vmcs12_slot *slot = plan->slot;
        if (!plan->moves)
            continue;
        slot_bitmaps_count_saved(&slot->bitmaps, plan->moves / 2); /* the first may have begun in L2 */
        left += plan->moves / 2;
        plan->moves = 0;
        settle_slot(slot, false);
        slot_touch(vcpu->nested, slot);
    }
    slot_touch(vcpu->nested, vcpu->nested->current);
    settle(vcpu, straight, left, moved);
}

/* Nestor's own state as the long way would have left it: whose VMCS is current, what vmcs02 is, what vmcs12 has. Called
 * before anything else of a long exit looks at that state. */
void straight_settle(struct vcpu *vcpu)
{
    struct straight *straight = straight_of(vcpu->cpu);
    if (__builtin_expect(straight->moves_then != 0, 0))
        settle_all(vcpu, straight);
    else
        settle(vcpu, straight, 0, true);
}
