/* Memory types as the MTRRs say (SDM 3A 12.11 "Memory Type Range Registers (MTRRs)").
 * mtrr_type() and mtrr_uniform() are pure over struct mtrr; mtrr_read() fills it from this processor.
 * mm/ept uses it for EPT01's memory types. */
#ifndef MM_MTRR_H
#define MM_MTRR_H

#include "kernel/base.h"

#define MEMTYPE_UC 0u
#define MEMTYPE_WC 1u
#define MEMTYPE_WT 4u
#define MEMTYPE_WP 5u
#define MEMTYPE_WB 6u
#define MTRR_MAX_VARIABLE 32

struct mtrr {
    uint64_t default_type; /* IA32_MTRR_DEF_TYPE */
    bool fixed_supported, wc_supported;
    unsigned variable_count;
    struct {
        uint64_t base, mask;
    } variable[MTRR_MAX_VARIABLE];
    uint64_t fixed[11];    /* FIX64K_00000, FIX16K_80000, FIX16K_A0000, FIX4K_C0000.. F8000 */
    uint64_t address_mask; /* BITS(MAXPHYADDR-1, 12) */
};

void mtrr_read(struct mtrr *mtrr);
/* An MTRR by its MSR number: RDMSR and WRMSR of a CPU whose registers are *mtrr. False: #GP(0). Pure.
 * SDM 3A 12.11 "Memory Type Range Registers (MTRRs)" */
MUST_CHECK bool mtrr_msr_read(const struct mtrr *mtrr, uint32_t msr, uint64_t *value);
MUST_CHECK bool mtrr_msr_write(struct mtrr *mtrr, uint32_t msr, uint64_t value);
/* Type of the page at hpa (4 KiB granularity). */
unsigned mtrr_type(const struct mtrr *mtrr, hpa_t hpa);
/* True if [base, base+size) has one type; that type in *type. */
bool mtrr_uniform(const struct mtrr *mtrr, hpa_t base, uint64_t size, unsigned *type);

#endif
