/* Registers that entries load and exits change when L1's controls say so: CET's, IA32_PKRS, UINV,
 * IA32_PERF_GLOBAL_CTRL. vmcs02 has L1's controls and values, so that the CPU does it: while Nestor handles an exit
 * of L2 the registers are L1's, and the next entry loads L2's again. None of them acts in root operation, where CR4
 * has the features off. A register that exits alone change is left alone by vmcs02: it goes from L1 to L2 as it is, and
 * no entry judges its value, which may be one that L2's mode forbids to load. What is left to do by hand is here.
 * nested/prepare, nested/enter, nested/exit and nested/host_state call it; which VMCS must be current is said at
 * each. */
#ifndef NESTED_SWITCHED_H
#define NESTED_SWITCHED_H

#include "nested/nested.h"

/* AT_ENTRY_PERF if vmcs02 must be given IA32_PERF_GLOBAL_CTRL at each entry. Pure. */
uint8_t switched_needs(const struct vmcs12 *);
/* Gives it: L1's own value where L2 starts with that and an exit loads another, and vmcs12's where the CPU has
 * overwritten it. Current: vmcs02. */
void switched_prepare(const struct vmcs12 *);
/* True if each exit to L1 needs switched_by_hand(). Pure. */
bool switched_exits_by_hand(const struct vmcs12 *);

/* An exit to L1 comes, or a failed entry, that the CPU did not make of vmcs02 with all that L1 asked for, or perhaps
 * not: what the exit changes is loaded by L1's next entry. `entered`: L2 had its own registers by then, and L1 goes on
 * with those that no control changes back. Current: the slot's vmcs02. */
void switched_by_hand(struct nested *nested, struct vmcs12_slot *slot, bool entered);
/* The second half of it: writes the values to vmcs01, and returns the entry controls that it needs until L1's next
 * exit from L2, of ENTRY_SWITCHED_ONCE. Current: vmcs01. */
uint32_t switched_load(struct nested *nested, const struct vmcs12 *v);

#endif
