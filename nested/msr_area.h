/* L1's lists of MSRs that VM entries and exits load and store (SDM 3C 25.7.2, 25.8.2, 27.4, 28.4, 28.6).
 * Nestor walks them itself: each entry is read into a copy once, each MSR judged, nothing given to the hardware.
 * nested/enter uses it. */
#ifndef NESTED_MSR_AREA_H
#define NESTED_MSR_AREA_H

#include "vmx/vcpu.h"

/* Loads `count` MSRs from L1's list. Current: the VMCS of the level that gets them. Returns 0, or the number (from 1)
 * of the entry that failed. */
MUST_CHECK uint32_t msr_area_load_list(struct vcpu *vcpu, gpa_t list, uint32_t count);
/* Stores MSRs of the level whose VMCS is current into L1's list. Returns as above. */
MUST_CHECK uint32_t msr_area_store_list(struct vcpu *vcpu, gpa_t list, uint32_t count);

/* The same; most lists are empty. */
static inline uint32_t msr_area_load(struct vcpu *vcpu, gpa_t list, uint32_t count)
{
    return count ? msr_area_load_list(vcpu, list, count) : 0;
}
static inline uint32_t msr_area_store(struct vcpu *vcpu, gpa_t list, uint32_t count)
{
    return count ? msr_area_store_list(vcpu, list, count) : 0;
}

#endif
