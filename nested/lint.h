/* Mistakes of L1 that work here and fail on another CPU, or will fail later: told in the log with the option lint=1,
 * each kind once. Without the option each of these returns at once. Nothing is refused for it.
 * nested/insn, nested/insn_fields, nested/insn_invalidate, nested/slot, nested/prepare and nested/enter call it, where
 * nothing is hot. */
#ifndef NESTED_LINT_H
#define NESTED_LINT_H

#include "nested/nested.h"

/* Written by VMCLEAR into the region, so that VMPTRLD sees that there was one. */
#define LINT_CLEARED 0x4c434d56u /* "VMCL" */

/* VMPTRLD has read the region of `slot`, which was not active here: was it cleared, and is it active elsewhere? Watches
 * it from now on. */
void lint_loaded(struct nested *nested, struct vmcs12_slot *slot);
/* The slot is about to be emptied: the region may be written again. */
void lint_released(struct nested *nested, struct vmcs12_slot *slot);
/* VMWRITE of a read-only field succeeded. */
void lint_read_only(const struct vcpu *vcpu, unsigned row);
/* VMLAUNCH: addresses in fields whose control is 0. */
void lint_launch(const struct vcpu *vcpu, const struct vmcs12 *v);
/* L2 is about to be entered, behind ept02_settle(): has EPT02 what EPT12 says no more? Has another VMCS run with its
 * VPID, and no INVVPID come since? Current: the slot's vmcs02. */
void lint_enter(struct nested *nested, const struct vmcs12_slot *slot);
/* INVVPID of L1 for a VPID, or with 0 for all. */
void lint_invvpid(struct nested *nested, uint16_t vpid12);

#endif
