/* L1's lists of MSRs on the straight way (vmx/straight.asm; docs/FLOWS.md, flow 10): those that name nothing but plain
 * MSRs (vmx/msr_guest.h) and lie in RAM. L1 may change a list at any time, so each is read when it is due, and what is
 * another takes the long way, as if nothing had been tried. vmx/straight.asm and nested/quiet call it. */
#ifndef NESTED_STRAIGHT_LISTS_H
#define NESTED_STRAIGHT_LISTS_H

#include "nested/nested.h"

static inline bool straight_has_lists(const struct vmcs12 *v)
{
    return v->ENTRY_MSR_LOAD_COUNT || v->EXIT_MSR_STORE_COUNT || v->EXIT_MSR_LOAD_COUNT;
}
/* True if the straight way may try: where the lists are, and as they are now. */
bool straight_lists_are_plain(const struct vcpu *vcpu, const struct vmcs12 *v);
/* Loads the list of L1's entry; false: it is as before, and takes the long way. Current: vmcs01. */
bool straight_lists_enter(struct vcpu *vcpu);
/* The entry has failed: the registers are as before it. */
void straight_lists_undo(struct nested *nested);
/* Stores and loads the lists of an exit, while the MSRs are L2's; false: they are as before, and the exit takes the
 * long way. Current: vmcs02. */
bool straight_lists_exit(struct vcpu *vcpu);

#endif
