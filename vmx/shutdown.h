/* The events that led to a triple fault, in words: the event that could not be delivered, the gate of each exception of
 * the chain, and what the guest had before it.
 * Current: the VMCS of the guest that shut down. vmx/exit_handlers calls it for L1, nested/exit for L2. */
#ifndef VMX_SHUTDOWN_H
#define VMX_SHUTDOWN_H

#include "vmx/vcpu.h"

/* Once in a run for each level. Leaves the exit and the guest as they are. */
void shutdown_explain(struct vcpu *vcpu);

#endif
