/* The functions behind the hooks that the loop of vmx/run calls.
 * Current: vmcs02, L2 has exited; afterwards the VMCS of whoever runs next.
 * nested/nested.c registers them. */
#ifndef NESTED_EXIT_H
#define NESTED_EXIT_H

#include "vmx/hooks.h"

bool nested_exit_from_l2(struct vcpu *vcpu);
void nested_l0_handled_l2(struct vcpu *vcpu);
void nested_l2_completed(struct vcpu *vcpu);
enum nmi_fate nested_nmi_in_l2(struct vcpu *vcpu);
void nested_init_to_l1(struct vcpu *vcpu);
void nested_sipi_to_l1(struct vcpu *vcpu, uint8_t vector);

#endif
