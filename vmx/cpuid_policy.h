/* CPUID as L1 sees it: the CPU itself, less what Nestor cannot give it.
 * Pure: the caller executes CPUID and says what L1's registers hold.
 * vmx/ calls it for each CPUID exit of L1, and of L2 where L0 answers. */
#ifndef VMX_CPUID_POLICY_H
#define VMX_CPUID_POLICY_H

#include "kernel/x86.h"

struct cpuid_context {
    uint64_t cr4;       /* of the guest that asks */
    bool apic_off;      /* its APIC is disabled, and only it may know: option apic-disable=0 */
    uint32_t proc2;     /* PROC2_CONTROLS of vmcs01 */
    uint64_t proc3;     /* PROC3_CONTROLS of vmcs01; 0: none */
    uint32_t max_basic; /* CPUID.0H:EAX and CPUID.80000000H:EAX of the CPU */
    uint32_t max_extended;
    bool monitor_broken;   /* a machine quirk: MONITOR does not wake */
    bool x2apic_broken;    /* option x2apic=0 */
    bool la57_broken;      /* a machine quirk: see probe_wide_bases() */
    bool hyperv;           /* option evmcs=1: vmx/hyperv.h */
    uint16_t inspect_port; /* of the option inspect=: where L1 reads Nestor; 0: L1 is not told of Nestor */
    uint32_t processors;
    uint64_t plain_leaves; /* one bit per basic leaf from 0: cpuid_find_plain() */
};

/* True if cpuid_filter() changes nothing for the leaf, whatever the subleaf and CR4: cpuid_find_plain() found that. */
static inline bool cpuid_is_plain(uint32_t leaf, const struct cpuid_context *context)
{
    return leaf < 64 && (context->plain_leaves >> leaf & 1);
}
/* Fills context->plain_leaves from the other members. */
void cpuid_find_plain(struct cpuid_context *context);
/* Changes *result from what the CPU said to what L1 sees. */
void cpuid_filter(uint32_t leaf, uint32_t subleaf, const struct cpuid_context *context, struct cpuid_result *result);

#endif
