/* One screen that says where the guest was: for the end of a run that Nestor cannot go on with.
 * Current: the VMCS that exited.
 * Any handler may call it. */
#ifndef VMX_DUMP_H
#define VMX_DUMP_H

#include "vmx/vcpu.h"

/* Registers, control registers and the exit, in a fixed order. */
void dump_exit(const struct vcpu *vcpu);
/* dump_exit, then the end of the run with status 125 and `what` as its reason: for events that end L1 itself. */
NORETURN void dump_and_end(const struct vcpu *vcpu, const char *what);

#endif
