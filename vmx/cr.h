/* The control registers of the guest in the current VMCS: L1's view, and what changes of mode bring with them.
 * Which VMCS must be current is said at each.
 * vmx/ and nested/ use it. */
#ifndef VMX_CR_H
#define VMX_CR_H

#include "vmx/vcpu.h"

/* L1's CR0 and CR4 bits that VMX operation fixes become, or cease to be, Nestor's. Current: vmcs01. */
void cr_update_masks(struct vcpu *vcpu);
/* L1's own view of its CR0 and CR4. Current: vmcs01. */
uint64_t cr_read_cr0(void);
uint64_t cr_read_cr4(void);
/* Loads the PDPTE fields from L1's memory at CR3 when it uses PAE paging. False: reserved bits set (#GP). */
bool cr_load_pdptes(struct vcpu *vcpu, uint64_t cr3);

#endif
