/* Extended page tables of L1 for its L2: an identity map that a scenario then changes entry by entry.
 * Tables come from page_alloc(). Nothing here executes INVEPT: that is the scenario's decision. */
#ifndef GUESTS_LIB_EPT_H
#define GUESTS_LIB_EPT_H

#include "kernel/base.h"

#define EPT_R BIT(0)
#define EPT_W BIT(1)
#define EPT_X BIT(2)
#define EPT_RWX (EPT_R | EPT_W | EPT_X)
#define EPT_WB PUT(6, BITS(5, 3))
#define EPT_LARGE BIT(7)
#define EPT_ACCESSED BIT(8)
#define EPT_DIRTY BIT(9)
#define EPT_ADDRESS BITS(51, 12)

/* The lower 4 GiB one to one, readable, writable and executable, by leaves of 2 MiB or 1 GiB. */
uint64_t *ept_alloc_identity(uint64_t leaf_size);
/* The entry that maps gpa at this size (4 KiB, 2 MiB or 1 GiB). Larger leaves above it are split for that. */
uint64_t *ept_entry(uint64_t *root, uint64_t gpa, uint64_t leaf_size);
/* The EPTP for a root: write-back, 4 levels, and A/D flags if wanted. */
uint64_t ept_pointer(const uint64_t *root, bool accessed_dirty);

#endif
