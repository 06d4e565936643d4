/* EPT violations of L2 on the straight way (vmx/straight.asm; docs/FLOWS.md, flow 10): those of a page that is neither
 * in EPT02 nor in EPT12, which are L1's, or that EPT12 has. Whatever is another takes the long way, as if nothing had
 * been tried. vmx/straight.asm calls it, with the guest's registers put aside. */
#ifndef NESTED_STRAIGHT_EPT_H
#define NESTED_STRAIGHT_EPT_H

#include "vmx/vcpu.h"

/* A violation of L2 while all is quiet. Current: vmcs02. */
enum straight_violation straight_ept_exit(struct vcpu *vcpu);
/* L1's VMRESUME behind a violation that it was told of, while all else is quiet: fills EPT02 with what L1 has mapped.
 * True: all is quiet. Current: vmcs01. */
bool straight_ept_enter(struct vcpu *vcpu);

#endif
