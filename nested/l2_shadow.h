/* VMREAD and VMWRITE of an L2 that L1 lets use a shadow VMCS (SDM 3C 25.10 "VMCS Types: Ordinary and
 * Shadow").
 * Current: vmcs02, L2 has exited with one of the two and L1's bitmaps leave the field open.
 * nested/exit calls it. */
#ifndef NESTED_L2_SHADOW_H
#define NESTED_L2_SHADOW_H

#include "vmx/vcpu.h"

/* Does the instruction on the VMCS that vmcs12's link pointer names. False: it became an exit for L1 instead. */
bool l2_shadow_access(struct vcpu *vcpu);

#endif
