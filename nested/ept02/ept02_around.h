/* The neighbours of a leaf that EPT02 was just given. nested/ept02/ept02_fill and
 * nested/ept02/ept02_plain call it. */
#ifndef NESTED_EPT02_EPT02_AROUND_H
#define NESTED_EPT02_EPT02_AROUND_H

#include "kernel/layout.h"
#include "nested/ept02/ept02.h"
#include "nested/ept02/ept12_walk.h"

struct ept02_around {
    struct ept02s *e;
    struct ept02_root *root;
    uint64_t *above;         /* EPT02's entry that leads to the table of ... */
    uint64_t *entry;         /* ... the leaf */
    const uint64_t *table12; /* of EPT12, in RAM, with the entry that the leaf was made of */
    unsigned level;          /* 4 KiB or 2 MiB */
    uint64_t rights;         /* that the tables above EPT12's allow */
};

/* The lock of e is held. */
void ept02_fill_neighbours(const struct ept02_around *in);

/* The same. An L1 that maps page by page has nothing behind the one just filled, and costs no more than this. */
static ALWAYS_INLINE void ept02_fill_around(struct ept02s *e, struct ept02_root *root, uint64_t *above, uint64_t *entry,
                                            gpa_t table12, unsigned level, uint64_t rights)
{
    uintptr_t offset = (uintptr_t)entry % PAGE_SIZE;
    const uint64_t *entry12 = hpa_to_va(table12 + offset); /* RAM: nothing else has a leaf */
    bool next = offset < PAGE_SIZE - sizeof(*entry) && (entry12[1] & EPT_R) && !entry[1];

    if (next || (offset && (entry12[-1] & EPT_R) && !entry[-1]))
        ept02_fill_neighbours(&(struct ept02_around){.e = e,
                                                     .root = root,
                                                     .above = above,
                                                     .entry = entry,
                                                     .table12 = hpa_to_va(table12),
                                                     .level = level,
                                                     .rights = rights});
}

#endif
