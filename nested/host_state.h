/* L1's state after an exit of L2, as the CPU loads it from the host-state area. SDM 3C 28.5 "Loading Host State"
 * Current: vmcs01.
 * nested/enter uses it. */
#ifndef NESTED_HOST_STATE_H
#define NESTED_HOST_STATE_H

#include "kernel/x86.h"
#include "nested/nested.h"
#include "nested/prepare.h"

/* CR0 bits that a VM exit leaves alone. SDM 3C 28.5.1 "Loading Host Control Registers, Debug Registers, MSRs" */
#define CR0_KEPT (CR0_ET | CR0_CD | CR0_NW | BITS(28, 19) | BIT(17) | BITS(15, 6))

/* Loads L1's state from vmcs12's host-state area. Current: vmcs01. `l2_efer`, `l2_pat`, `l2_cr0`: what the CPU has at
 * the exit. */
void host_state_load(struct vcpu *vcpu, struct vmcs12_slot *slot, uint64_t l2_efer, uint64_t l2_pat, uint64_t l2_cr0);
#ifdef CHECKED
/* True if vmcs01 has that state, with the HOST_RSP that is in the plan. `l2`: PAT and EFER at the exit. */
bool host_state_is(struct vcpu *vcpu, const struct vmcs12_slot *slot, const struct l1_registers *l2, uint64_t l2_cr0);
#endif

#endif
