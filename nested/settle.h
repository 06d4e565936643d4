/* Nestor's own state follows where the straight way led (vmx/straight.h).
 * Current: the VMCS that exited, or is to be entered; vcpu->nested has a current vmcs12.
 * nested_hooks.straight_settle, and nested/ where it acts between two straight ways. */
#ifndef NESTED_SETTLE_H
#define NESTED_SETTLE_H

#include "nested/nested.h"

void straight_settle(struct vcpu *vcpu);

#endif
