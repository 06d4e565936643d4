/* From L1 to L2 and back: the two moves between vmcs01 and vmcs02.
 * Current: vmcs01 before the one, vmcs02 before the other.
 * The exit handlers of VMLAUNCH and VMRESUME enter; nested/exit, nested/l2_ept and the hooks of vmx/run leave. */
#ifndef NESTED_ENTER_H
#define NESTED_ENTER_H

#include "nested/nested.h"

/* VMLAUNCH or VMRESUME of L1. Current: vmcs01; on success vmcs02. */
void nested_enter(struct vcpu *vcpu, bool launch);
/* L1 sees the exit that vcpu->exit describes. Current: vmcs02; on return vmcs01, or vmcs02 still when vcpu->next says
 * that the rest goes straight. */
void nested_reflect(struct vcpu *vcpu);
/* nested_hooks.straight_to_l1, straight_resume */
void nested_straight_to_l1(struct vcpu *vcpu, uint32_t reason);
bool nested_resume_straight(struct vcpu *vcpu);
/* L1 sees an entry failure (exit reason 33 or 34) of the current vmcs12. Current: vmcs01. SDM 3C 27.8 */
void nested_entry_failure(struct vcpu *vcpu, uint32_t reason, uint64_t qualification);
/* The CPU refused the guest state in vmcs02: L1's failed entry. Current: vmcs02; on return vmcs01. */
void nested_hardware_entry_failure(struct vcpu *vcpu);
/* The CPU refused a control or host field in vmcs02 with this VM-instruction error. Current: vmcs02; then vmcs01. */
void nested_late_failure(struct vcpu *vcpu, uint32_t error);

#endif
