/* EPT tables: the entry format, and EPT01, the identity map under which L1 runs.
 * EPT01 maps all physical addresses one to one but Nestor's carve-out, whose pages all lead to one page of ones
 * (read and execute only), and pages that are write-protected for tracing.
 * vmx/ gives EPT01 to the hardware and executes INVEPT when ept->generation moved; mm never executes it. */
#ifndef MM_EPT_H
#define MM_EPT_H

#include "kernel/base.h"
#include "kernel/spinlock.h"
#include "mm/memmap.h"
#include "mm/mtrr.h"

/* SDM 3C 29.3.2 "EPT Translation Mechanism" */
#define EPT_R BIT(0)
#define EPT_W BIT(1)
#define EPT_X BIT(2)
#define EPT_RWX (EPT_R | EPT_W | EPT_X)
#define EPT_MEMTYPE BITS(5, 3)
#define EPT_IGNORE_PAT BIT(6)
#define EPT_LARGE BIT(7)
#define EPT_A BIT(8)
#define EPT_D BIT(9)
#define EPT_SUPPRESS_VE BIT(63)
#define EPT_ADDRESS BITS(51, 12)

struct ept_features {
    bool pages_1g;      /* IA32_VMX_EPT_VPID_CAP */
    bool access_dirty;
    unsigned address_bits; /* MAXPHYADDR, at most 48 */
};

struct ept {
    struct ept_features features;
    struct mtrr mtrr;
    const struct memmap *map; /* L1's view: the carve-out is REGION_RESERVED in it */
    hpa_t carveout_base;
    uint64_t carveout_size;
    hpa_t ones_page;
    uint64_t *root;
    /* Moves when a permission was taken away or a mapping changed: each processor that runs on this EPT passes an
     * INVEPT before its next entry (vmx/run.c compares). */
    uint64_t generation;
    struct spinlock lock; /* guards the tables and generation */
};

/* One translation. level 1: 4 KiB, 2: 2 MiB, 3: 1 GiB; 0: not mapped. */
struct ept_leaf {
    hpa_t hpa;          /* of the page that holds the address, low bits included */
    unsigned level;
    uint64_t permissions; /* EPT_R | EPT_W | EPT_X */
    unsigned memtype;
};

/* Builds the identity map. Returns 0, or -1 when the pool is empty. Carve-out fields, map, mtrr, features are set. */
MUST_CHECK int ept_build(struct ept *ept);
/* The EPTP for the hardware. */
uint64_t ept_pointer(const struct ept *ept);
/* What gpa translates to. Pure reading of the tables. */
struct ept_leaf ept_translate(const struct ept *ept, gpa_t gpa);
/* Takes W from / gives W back to the 4 KiB page of gpa1; the first splits large pages down to it and moves the
 * generation; the second joins the large page again when all its parts are alike. 0, or -1 when the pool is empty
 * (protect) or the page is no RAM of L1's. */
MUST_CHECK int ept_write_protect(struct ept *ept, gpa_t gpa);
void ept_write_allow(struct ept *ept, gpa_t gpa);
/* Maps gpa on demand (addresses beyond what ept_build mapped, e.g. high MMIO): true when it added a mapping and the
 * access can be repeated. */
bool ept_map_on_demand(struct ept *ept, gpa_t gpa);
/* Whether gpa lies in Nestor's carve-out. */
bool ept_is_carveout(const struct ept *ept, gpa_t gpa);

#endif
