/* VMCS shadowing for L1: while L1 runs, vmcs02's own region is the shadow VMCS of vmcs01, so that L1's VMREAD of L2's
 * state and of the exit, and its VMWRITE of what it writes at most exits, need no exit and no copy
 * (SDM 3C 25.10 "VMCS Types: Ordinary and Shadow").
 * Only a mirrored slot is shown: its vmcs02 holds what vmcs12 says in each row that the bitmaps open. Where the CPU has
 * no shadowing nothing of this happens. nested/ calls it; which VMCS must be current is said at each. */
#ifndef NESTED_SHADOW_H
#define NESTED_SHADOW_H

#include "nested/nested.h"

/* Makes the two bitmaps, if the CPU has the feature, and enters them into vmcs01, which is current. 0, or -1 when pages
 * run out. */
MUST_CHECK int shadow_init(struct nested *nested);
/* True if L1 may write the row to vmcs02 itself. */
bool shadow_is_direct(unsigned row);
/* Makes the slot's vmcs02 an ordinary VMCS again, and current: VMCS02_ACTIVE. */
void shadow_open(struct vmcs12_slot *slot);
/* Makes vmcs02, which is current, a shadow VMCS where the CPU has such, and vmcs01 current. */
void shadow_close(struct nested *nested, struct vmcs12_slot *slot);
/* Brings the rows that L1 may have written without an exit to vmcs12. Current: the slot's vmcs02. */
void shadow_fetch(struct vmcs12_slot *slot);
/* The rows of the event that L1 injects, from vmcs02, and to it when another's have taken their place there. Current:
 * vmcs02. */
void shadow_fetch_event(const struct vmcs12_slot *slot);
void shadow_write_event(const struct vmcs12_slot *slot);
/* Vmcs12 gets what the exit says. SDM 3C 28.2 "Recording VM-Exit Information" */
void shadow_record_exit(const struct vmexit *exit, struct vmcs12 *v);
/* Writes the rows that describe the exit to vmcs02, which is current: they are not the hardware's. */
void shadow_write_exit(const struct nested *nested, struct vmcs12_slot *slot);
/* A row of vmcs12 changed: vmcs02 follows, if it is shown. Current: vmcs01, or vmcs02 of another slot. */
void shadow_put(struct nested *nested, struct vmcs12_slot *slot, unsigned row);
/* Shows the current slot to L1, or nothing. Current: vmcs01. */
void shadow_select(struct nested *nested);

#endif
