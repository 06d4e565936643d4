/* The CPUID leaves of the interface of vmx/hyperv.h.
 * Pure. vmx/cpuid_policy calls it. TLFS, "Feature Discovery" */
#ifndef VMX_HYPERV_CPUID_H
#define VMX_HYPERV_CPUID_H

#include "kernel/x86.h"

/* Leaves 40000000H to 400000FFH. False: it is another, and *result is as before. */
bool hyperv_cpuid(uint32_t leaf, unsigned processors, struct cpuid_result *result);

#endif
