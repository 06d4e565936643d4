/* Which VMCS fields a CPU has: the column `need` of vmx/vmcs_fields.def as a question about capabilities.
 * Pure.
 * vmx/vmcs_setup asks it of the CPU, nested/ of the CPU that L1 is shown. */
#ifndef VMX_VMCS_EXISTS_H
#define VMX_VMCS_EXISTS_H

#include "vmx/caps.h"

/* True if a CPU, or what L1 is offered of one, has the field of a row of vmx/vmcs_fields.def: fields that belong to a
 * feature exist only with it (SDM 3D B, the notes to its tables). Pure. */
bool vmcs_field_exists(const struct vmx_caps *caps, unsigned row);
/* Takes the control away with which the field exists, so that it does not; of a field that each CPU has, nothing.
 * Pure. */
void vmcs_field_withdraw(struct vmx_caps *caps, unsigned row);

#endif
