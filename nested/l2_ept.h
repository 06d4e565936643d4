/* L2's exits that EPT is behind: filling EPT02, L1's page-modification log and virtualization exceptions, VMFUNC.
 * Current: vmcs02, L2 has exited.
 * nested/exit calls it before the decision table. */
#ifndef NESTED_L2_EPT_H
#define NESTED_L2_EPT_H

#include "vmx/vcpu.h"

/* An EPT violation or misconfiguration under EPT02. True: dealt with, L2 goes on; false: vcpu->exit is now what L1 must
 * see. */
bool l2_ept_exit(struct vcpu *vcpu);
/* SPPT02 had no entry for a store of L2's. True: L2 goes on; false: vcpu->exit is what L1 must see. */
bool l2_sub_page_exit(struct vcpu *vcpu);
/* L1 goes on with an L2 (`revisit` of its slot). If it was told of an EPT violation, EPT02 gets what EPT12 allows now,
 * if no flag of EPT12 is to be set, so that L2 does not exit once more. Of pages that were logged, EPT02 loses those
 * whose D flag L1 cleared. Current: any VMCS. */
void l2_ept_prefill(struct vcpu *vcpu);
/* VMFUNC of L2: EPTP switching among L1's EPTPs (SDM 3C 26.5.6.3 "EPTP Switching"). True: done; false: L1's exit. */
bool l2_vmfunc(struct vcpu *vcpu);

/* The hook l2_translate of vmx/run.h. */
bool l2_translate(struct vcpu *vcpu, gpa_t *gpa, uint32_t access, bool walk);
/* The hook close_l2_page of vmx/hooks.h. */
void l2_close_page(struct vcpu *vcpu, gpa_t gpa2);
/* Its outcome (vcpu->l2_unmapped): true when it became a #VE of L2, false when L1 must see vcpu->exit. */
bool l2_unmapped_exit(struct vcpu *vcpu);

#endif
