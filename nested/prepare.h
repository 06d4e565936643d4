/* The contents of vmcs02: written before an entry as far as L1 changed it, read back after an exit.
 * nested/enter calls these; which VMCS must be current is said at each. */
#ifndef NESTED_PREPARE_H
#define NESTED_PREPARE_H

#include "nested/nested.h"
#include "nested/rules/merge.h"

/* Registers that entries and exits load only when a control says so, of the level that was left. */
struct l1_registers {
    uint64_t dr7, debugctl, pat, efer;
};

/* The fields that Nestor sets once and for all. Current: a vmcs02 that is VMCS02_EMPTY. */
void prepare_constants(const struct vcpu *vcpu);
/* Brings vmcs02 up to date with vmcs12. Current: the slot's vmcs02. */
void prepare_vmcs02(struct nested *nested, struct vmcs12_slot *slot, const struct l1_registers *l1);
/* Where an exit's own fields are: in vmcs12 already, or still in vmcs02 alone. */
enum save_exit { EXIT_RECORDED, EXIT_IN_VMCS02 };
/* Copies L2's state to vmcs12, except for the rows that can wait, which become live. Returns what L1 may have to go on
 * with.
 * Current: the slot's vmcs02. */
struct l1_registers save_vmcs02(const struct nested *nested, struct vmcs12_slot *slot, enum save_exit exit);
/* The same where nothing at all was copied, and what must be in vmcs12 before an entry is looked at. Current: the
 * slot's vmcs02, at the second. */
void prepare_leave_unread(struct vmcs12_slot *slot);
void prepare_fetch_unread(struct vmcs12_slot *slot);
/* True if an exit may leave the row's value in vmcs02 alone. After prepare_init(). */
bool prepare_may_leave(unsigned row);
/* Brings the live rows, those that are still in vmcs02 alone, to vmcs12: before L1 or a check reads one, and before
 * vmcs02 goes.
 * Current: the VMCS of the level that runs, and again on return. */
void prepare_fetch_rows(struct nested *nested, struct vmcs12_slot *slot);
/* The same for the rows that a list of MSRs may write to vmcs02, so that vmcs12 keeps what they were. Current: the
 * slot's vmcs02. */
void prepare_fetch_listed(struct vmcs12_slot *slot);
/* The same for the rows that checks of this scope look at. Current: the slot's vmcs02. */
void prepare_fetch_checked(struct vmcs12_slot *slot, check_scope_t scope);
/* Fills the lists of rows and the rows offered. Current: any VMCS. */
void prepare_init(struct nested *nested);
/* vmcs02's EPTP: EPT02 when L1 uses EPT for this L2, else EPT01 itself. Current: the slot's vmcs02. */
void prepare_eptp(struct nested *nested, struct vmcs12_slot *slot);
/* Before each entry: pays what EPT02 owes, by an INVEPT for what was taken away and for INVEPTs of L1. Current: any
 * VMCS. */
void prepare_sync_ept02(struct nested *nested, const struct vmcs12_slot *slot);
#ifdef CHECKED
/* True if vmcs02 has the controls and pointers that would be computed now. Current: the slot's vmcs02. */
bool prepare_controls_are(const struct nested *nested, const struct vmcs12_slot *slot);
#endif

#endif
