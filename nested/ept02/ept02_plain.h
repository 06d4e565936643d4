/* The fill of EPT02 that nearly all violations ask for, made short: a present page of 4 KiB, or an entry of EPT12 that
 * allows nothing, behind tables of EPT12 and EPT02 of the usual kind. Whatever is another is left to ept02_fill(), of
 * which this is a part: with the same state before it, it does the same or nothing.
 * nested/straight_ept calls it. */
#ifndef NESTED_EPT02_EPT02_PLAIN_H
#define NESTED_EPT02_EPT02_PLAIN_H

#include "kernel/layout.h"
#include "nested/ept02/ept02.h"

#define EPT02_PLAIN_LEVELS 4u
#define EPT02_PLAIN_BITS 48u /* what they translate */

/* Where a walk of EPT12 ended. */
struct ept02_plain {
    gpa_t table;
    const uint64_t *at;
    uint64_t entry, common; /* the entry there, and what it has in common with those above */
    unsigned level;
};

enum ept02_plain_result { PLAIN_OTHER, PLAIN_ABSENT, PLAIN_FILLED };

/* False, or PLAIN_OTHER below: ept02_fill() must say, nothing has changed. True: the tables above the entry restrict
 * nothing. Without mode-based execute control. */
static ALWAYS_INLINE bool ept02_plain_walk(const struct ept02s *e, uint64_t eptp12, gpa_t gpa2, struct ept02_plain *end)
{
    const struct gmem *gmem = e->shared->gmem;
    const uint64_t judged = e->rules[0].table_judged, rights = e->rules[0].rights;
    gpa_t table = eptp12 & EP4TA;
    uint64_t common = ~0ull, entry;

    if (gpa2 >> EPT02_PLAIN_BITS)
        return false;
#pragma GCC unroll 4
    for (unsigned level = EPT02_PLAIN_LEVELS; level > 0; level--) {
        if (table - gmem->main_base >= gmem->main_size)
            return false;
        const uint64_t *at = (const uint64_t *)hpa_to_va(table) + ept_index(gpa2, level);
        entry = __atomic_load_n(at, __ATOMIC_ACQUIRE);
        common &= entry;
        if (level == 1 || (entry & judged) != rights) {
            *end = (struct ept02_plain){.table = table, .at = at, .entry = entry, .common = common, .level = level};
            return true;
        }
        table = entry & EPT_ADDRESS;
    }
    return false; /* never */
}
/* EPT12 allows nothing there: a violation without permissions. */
static inline bool ept02_plain_is_absent(const struct ept02s *e, const struct ept02_plain *end)
{
    return !(end->entry & e->rules[0].rights);
}
/* All of it, as ept02_fill() of the root that eptp12 has, while L1 has no sub-page permissions. It sets no flag A or D
 * of EPT12, and takes no mapping away. */
enum ept02_plain_result ept02_plain_fill(struct ept02s *e, struct ept02_root *root, uint64_t eptp12, gpa_t gpa2,
                                         uint64_t access);
/* In the build CHECKED=1: ept12_walk() says the same, unless L1 has changed EPT12 meanwhile. `leaf`: what EPT02 gets,
 * 0 for an absent one. */
void ept02_plain_expect(const struct ept02s *e, uint64_t eptp12, gpa_t gpa2, uint64_t access,
                        const struct ept02_plain *end, uint64_t leaf);

#endif
