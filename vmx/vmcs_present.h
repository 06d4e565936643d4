/* L1 from what a processor was doing: vmcs01 gets the state in which the firmware called Nestor.
 * vmcs01 is current and as after vmcs01_reset().
 * vmx/vmcs_setup calls it. */
#ifndef VMX_VMCS_PRESENT_H
#define VMX_VMCS_PRESENT_H

#include "boot/in_place.h"
#include "vmx/vcpu.h"

/* Of the MSRs that Nestor itself does not change, the VMCS gets what they are now. */
void vmcs01_go_on(const struct vcpu *vcpu, const struct in_place_state *present);

#endif
