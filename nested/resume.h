/* Going on with L2 after an exit that Nestor dealt with alone.
 * Current: vmcs02.
 * nested/exit and nested/l2_ept use it. */
#ifndef NESTED_RESUME_H
#define NESTED_RESUME_H

#include "vmx/vcpu.h"

/* Always true: nested_hooks.exit_from_l2() returns it. */
bool nested_resume_l2(struct vcpu *vcpu);

#endif
