/* A guest's store to the trapped page of the APIC, as the instruction that it is.
 * Current: the VMCS that exited.
 * vmx/exit_ept and nested/l2_ept call it. */
#ifndef VMX_STARTUP_STORE_H
#define VMX_STARTUP_STORE_H

#include "vmx/vcpu.h"

/* L1, or L2 that L1 gave the APIC, stored to the page at `gpa`: the store is done, the guest goes on behind it. #GP for
 * an instruction that Nestor cannot read. */
void startup_store(struct vcpu *vcpu, gpa_t gpa);

#endif
