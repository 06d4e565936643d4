/* Which MSRs L0 keeps, made from msr_policy.def.
 * Pure.
 * vmx/ builds L0's bitmap from it and finds the handler of an MSR exit of L1 by it. */
#ifndef VMX_MSR_POLICY_H
#define VMX_MSR_POLICY_H

#include "vmx/msr_bitmap.h"

/* How L1's access to a kept MSR is answered: vmx/msr_guest.c has a case for each. */
enum msr_policy_handler {
    MSR_POLICY_ABSENT,
    MSR_POLICY_IGNORED,
    MSR_POLICY_APIC_BASE,
    MSR_POLICY_FEATURE_CONTROL,
    MSR_POLICY_MISC_ENABLE,
    MSR_POLICY_MTRR,
    MSR_POLICY_PERF_CAPABILITIES,
    MSR_POLICY_VMX_CAPABILITY,
    MSR_POLICY_XSS,
};
/* The effect of an MSR on root operation; see msr_policy.def. */
enum msr_root { MSR_ROOT_NONE, MSR_ROOT_KEPT, MSR_ROOT_SWITCHED, MSR_ROOT_HARMLESS };

struct msr_policy_row {
    uint32_t first, last;
    bool read, write; /* what exits */
    enum msr_policy_handler handler;
    enum msr_root root;
    const char *reason;
};

struct msr_passed_row {
    uint32_t first, last;
    enum msr_root root;
    const char *reason;
};

/* Makes the page L0's bitmap: the bits of all rows, no others. */
void msr_policy_build(uint8_t *bitmap);
/* True if L1's writes exit although L0 passes them; and the page for L1 itself: `l0` and those. */
bool msr_policy_watches(uint32_t msr);
void msr_policy_build_l1(uint8_t *bitmap, const uint8_t *l0);
/* True if a list of MSRs may name it on the straight way. */
bool msr_policy_is_plain(uint32_t msr);
/* The row that keeps this access, or NULL: L0 does not care, the access is the CPU's. */
const struct msr_policy_row *msr_policy_find(uint32_t msr, enum msr_access access);
/* All rows, for tests and listings; and those of MSRs that are passed. */
const struct msr_policy_row *msr_policy_rows(unsigned *count);
const struct msr_passed_row *msr_passed_rows(unsigned *count);

#endif
