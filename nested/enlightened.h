/* Enlightened VMCSs: VMCSs of L1 that are pages of its memory, named in its VP assist page. Nestor keeps a vmcs12 of
 * each, with a vmcs02 like any other; entries bring to it what L1 has changed, exits write the page
 * (docs/adr/0019-enlightened-vmcs.md). Nothing of this happens before L1 has enabled a VP assist page: option evmcs=1.
 * nested/enter and nested/insn call it. */
#ifndef NESTED_ENLIGHTENED_H
#define NESTED_ENLIGHTENED_H

#include "nested/nested.h"

/* VMLAUNCH or VMRESUME of L1, whose VP assist page is enabled: makes the VMCS current that the page names, with what L1
 * changed; or the one that VMPTRLD made current, if the page names none. False: VMfailInvalid, said in the log.
 * Current: vmcs01. */
MUST_CHECK bool enlightened_select(struct vcpu *vcpu, bool launch);
/* L2 has exited to L1, and vmcs12 has all of it. Current: any VMCS. */
void enlightened_write_exit(const struct nested *nested, const struct vmcs12_slot *slot);
/* The same of an entry or a VMX instruction that failed. */
void enlightened_write_failure(const struct nested *nested, const struct vmcs12_slot *slot);
/* True if the region of a VMCS that Nestor does not hold is an enlightened one: VMCLEAR stores nothing to it. */
bool enlightened_is_at(const struct vcpu *vcpu, gpa_t gpa);
/* nested_hooks.vp_assist_changed */
void enlightened_vp_assist_changed(struct vcpu *vcpu);

#endif
