/* L1's lists of MSRs that VM entries and exits load and store (SDM 3C 25.7.2, 25.8.2, 27.4, 28.4, 28.6).
 * Nestor walks them itself: each entry is read into a copy once, each MSR judged, nothing given to the hardware.
 * nested/enter uses it. */
#ifndef NESTED_MSR_AREA_H
#define NESTED_MSR_AREA_H

#include "vmx/vcpu.h"

/* Why an entry of a list is refused. MSR_RULE(name, text for the log) */
#define MSR_RULE_LIST                                                                                                  \
    MSR_RULE(MSR_TOO_MANY, "more entries than IA32_VMX_MISC recommends")                                               \
    MSR_RULE(MSR_RESERVED, "reserved bits 63:32 of the entry")                                                         \
    MSR_RULE(MSR_OF_X2APIC, "MSR of the local APIC, 800H to 8FFH")                                                     \
    MSR_RULE(MSR_NEVER, "MSR that no such list may name")                                                              \
    MSR_RULE(MSR_FAULTS, "RDMSR or WRMSR would fault")

enum msr_rule {
#define MSR_RULE(name, text) name,
    MSR_RULE_LIST
#undef MSR_RULE
        MSR_RULES
};

/* The entry that ended a list. */
struct msr_refusal {
    enum msr_rule rule;
    uint32_t number; /* in the list, from 1 */
    uint32_t index;  /* of the MSR */
    uint64_t value;
};

/* As in memory. SDM 3C 25.7.2 "VM-Exit Controls for MSRs" */
struct msr_entry {
    uint32_t index;
    uint32_t reserved;
    uint64_t value;
};

/* Longer lists take the long way. */
#define STRAIGHT_LIST_MAX 64

/* The old values of the registers that a list has changed, in its order. */
struct msr_undo {
    uint64_t count;
    struct {
        uint64_t index, value;
    } was[STRAIGHT_LIST_MAX];
};

/* Loads `count` MSRs from L1's list. Current: the VMCS of the level that gets them. Returns 0, or the number (from 1)
 * of the entry that failed, and why in vcpu->nested->refusal. */
MUST_CHECK uint32_t msr_area_load_list(struct vcpu *vcpu, gpa_t list, uint32_t count);
/* Stores MSRs of the level whose VMCS is current into L1's list. Returns as above. */
MUST_CHECK uint32_t msr_area_store_list(struct vcpu *vcpu, gpa_t list, uint32_t count);

#ifdef CHECKED
/* Of an entry that the straight way has loaded or stored: the long way would have done the same. */
void msr_area_check_load(struct vcpu *vcpu, uint64_t head, uint64_t value);
void msr_area_check_store(struct vcpu *vcpu, uint64_t head, uint64_t value);
#endif

/* msr_area_load_list() of a list that may be empty, as most are. */
static inline uint32_t msr_area_load(struct vcpu *vcpu, gpa_t list, uint32_t count)
{
    return count ? msr_area_load_list(vcpu, list, count) : 0;
}
static inline uint32_t msr_area_store(struct vcpu *vcpu, gpa_t list, uint32_t count)
{
    return count ? msr_area_store_list(vcpu, list, count) : 0;
}

#endif
