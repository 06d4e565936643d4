/* The VMX that Nestor offers to L1: the CPU's capabilities AND what Nestor virtualises.
 * Pure.
 * vmx/msr_guest answers L1's RDMSR of 480H to 493H through it; nested/rules/check judges vmcs12 by it. */
#ifndef NESTED_RULES_CAPS12_H
#define NESTED_RULES_CAPS12_H

#include "vmx/caps.h"

#define VMCS12_REVISION 0x4e737431u /* "Nst1" with bit 31 clear */

/* Computes the set offered from the CPU's. The result is what L1's capability MSRs say. A feature that the machine has
 * but that does not work there (a quirk) is hidden by clearing its bit in *cpu beforehand. */
void caps12_compute(const struct vmx_caps *cpu, struct vmx_caps *offered);
/* Value of the capability MSR 0x480..0x492; false when the offered CPU has no such MSR (#GP). */
bool caps12_msr(const struct vmx_caps *offered, uint32_t msr, uint64_t *value);

#endif
