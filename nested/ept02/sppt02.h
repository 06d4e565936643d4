/* SPPT02, the sub-page permission table of the L2s that have one: what L1's tables (SPPT12, read through gmem) said
 * when L2 stored, until L1 executes INVEPT. One per processor, for one SPPT12 at a time; its own processor alone uses
 * it. Which pages it counts for is said by bit 61 of EPT02's leaves. SDM 3C 29.3.4 "Sub-Page Write Permissions"
 * nested/l2_ept and nested/prepare call it. */
#ifndef NESTED_EPT02_SPPT02_H
#define NESTED_EPT02_SPPT02_H

#include "kernel/base.h"
#include "mm/gmem.h"

#define SPPT02_PAGES 16 /* the root and fifteen more, at least three: when they are used up, all goes but the root */

struct sppt02 {
    uint64_t *page[SPPT02_PAGES]; /* page[0] is the root; NULL: L1 has no sub-page permissions */
    unsigned used;
    bool stale;       /* L1 executed INVEPT since the last entry that uses it */
    uint64_t spptp12; /* whose permissions it holds */
};

enum sppt12_result {
    SPPT12_VECTOR,    /* found: even bits permit, each for 128 bytes */
    SPPT12_MISS,      /* an entry on the way is not valid */
    SPPT12_MISCONFIG, /* a reserved bit is 1 */
};

/* 0, or -1 when pages run out. */
MUST_CHECK int sppt02_init(struct sppt02 *sppt02);
void sppt02_release(struct sppt02 *sppt02);
/* L1's permissions for the page of gpa2, as the CPU would find them. */
enum sppt12_result sppt12_look(const struct gmem *gmem, unsigned address_bits, uint64_t spptp12, gpa_t gpa2,
                               uint64_t *vector);
/* True if the vector permits a store to gpa2. */
static inline bool sppt12_permits(uint64_t vector, gpa_t gpa2)
{
    return vector >> 2 * (gpa2 % PAGE_SIZE / 128) & 1;
}

/* Before an entry: SPPT02 is spptp12's. True if something went, so that the CPU must forget. */
MUST_CHECK bool sppt02_use(struct sppt02 *sppt02, uint64_t spptp12);
/* L1 executed INVEPT. */
static inline void sppt02_invept(struct sppt02 *sppt02)
{
    sppt02->stale = true;
}
/* L1's tables have this vector for gpa2's page. True if something went, or the CPU may know the page otherwise. */
MUST_CHECK bool sppt02_set(struct sppt02 *sppt02, gpa_t gpa2, uint64_t vector);

#endif
