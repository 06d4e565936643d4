/* L1's state after an exit of L2, as the CPU loads it from the host-state area. SDM 3C 28.5 "Loading Host State"
 * Current: vmcs01.
 * nested/enter uses it. */
#ifndef NESTED_HOST_STATE_H
#define NESTED_HOST_STATE_H

#include "nested/nested.h"

/* Loads L1's state from vmcs12's host-state area. Current: vmcs01. `l2_efer`, `l2_pat`, `l2_cr0`: what the CPU has at
 * the exit. */
void host_state_load(struct vcpu *vcpu, struct vmcs12_slot *slot, uint64_t l2_efer, uint64_t l2_pat, uint64_t l2_cr0);

#endif
