/* When entries and exits may take the straight way (vmx/straight.h), and what they leave to be done when one does not.
 * nested/quiet.def lists what must be so. nested/enter makes plans, vmx/run asks the rest through its hooks. */
#ifndef NESTED_QUIET_H
#define NESTED_QUIET_H

#include "nested/nested.h"

/* Rows that a VMREAD of L1's finds in vmcs12 while a plan is valid, and that a VMWRITE only makes dirty; all processors
 * compute the same. Once, when it is known which are shown. */
extern uint64_t straight_readable[DIRTY_WORDS], straight_writable[DIRTY_WORDS];
/* Rows that are a canonical address and a word of the image: its number + 1. */
extern uint8_t straight_words[FIELD_COUNT];
void straight_init(const struct nested *nested);

/* L2 has gone to L1, which was given its state: what the next straight exit has to do. Current: vmcs01. */
void straight_make_plan(struct vcpu *vcpu, struct vmcs12_slot *slot, uint64_t l2_cr0);
/* True if that is known, and is that there is none. */
static inline bool straight_has_no_plan(const struct vmcs12_slot *slot)
{
    const struct straight_plan *plan = &slot->plan;
    return plan->made && !plan->valid && plan->mode == (slot->v->ENTRY_CONTROLS & ENTRY_GUEST_64);
}

/* L1 writes a row that changes nothing but the plan: an address of its host state, or the interrupt window. True: done,
 * and no check of an entry need look at it. Current: vmcs01. */
bool straight_write(const struct vcpu *vcpu, struct vmcs12_slot *slot, unsigned row, uint64_t value);

/* The next straight exit, and L1's own instructions, look at the current vmcs12 from here on, if it has a plan. */
void straight_follow(const struct vcpu *vcpu);

/* An exit of L2 that the long way found to be L1's, by a valid plan: true if the straight way may do the rest of it,
 * vcpu->next; what L1 has in lists of MSRs is done then. Current: the slot's vmcs02. */
bool straight_may_exit(struct vcpu *vcpu, const struct vmcs12_slot *slot);
/* L1's VMRESUME that came when not all was quiet, the plan valid: true if nothing but that forbids it the straight way,
 * and true if all is quiet now. Current: vmcs01. */
bool straight_may_enter(const struct vmcs12_slot *slot);
/* At L1's VMLAUNCH or VMRESUME: true if vmcs01 has what a straight exit does not write of CS and interruptibility,
 * which the caller has read. Current: vmcs01. */
bool straight_left_as_loaded(uint64_t interruptibility);
bool straight_is_quiet(struct vcpu *vcpu);

/* nested_hooks.straight_ready, straight_checked. The first also where another vmcs12 has become the current one, when
 * `quiet` may stand. */
void straight_ready(struct vcpu *vcpu);
void straight_checked(struct vcpu *vcpu);

#endif
