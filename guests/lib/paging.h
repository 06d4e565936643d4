/* Four-level tables: page tables and extended page tables are built alike, only the flags of their entries differ.
 * Tables come from page_alloc(). Nothing here flushes a TLB: that is the caller's decision. */
#ifndef GUESTS_LIB_PAGING_H
#define GUESTS_LIB_PAGING_H

#include "kernel/x86_bits.h"

/* Of page tables and extended page tables. */
#define PAGING_LARGE BIT(7)
#define PAGING_ADDRESS BITS(51, 12)
/* Of extended page tables. */
#define EPT_R BIT(0)
#define EPT_W BIT(1)
#define EPT_X BIT(2)
#define EPT_RWX (EPT_R | EPT_W | EPT_X)
#define EPT_MEMORY_TYPE BITS(5, 3)
#define EPT_WB PUT(6, EPT_MEMORY_TYPE)
#define EPT_ACCESSED BIT(8)
#define EPT_DIRTY BIT(9)
#define EPT_XU BIT(10)       /* with mode-based execute control */
#define EPT_SUB_PAGE BIT(61) /* with sub-page write permissions */

/* The lower 4 GiB one to one by leaves of 2 MiB or 1 GiB: as EPT with all rights, or as page tables for everybody. */
uint64_t *ept_alloc_identity(uint64_t leaf_size);
uint64_t *paging_alloc_identity(void);
/* For mode-based execute control: all that is mapped may be executed at user-mode addresses, as L2's own code is, since
 * L1's page tables are for everybody. */
void ept_open_to_users(uint64_t *root);
/* The entry for an address at this level, by what it spans: 4 KiB, 2 MiB, 1 GiB, 512 GiB. Larger leaves above are
 * split. */
uint64_t *paging_entry(uint64_t *root, uint64_t address, uint64_t span);
/* The EPTP for a root: write-back, 4 levels, and A/D flags if wanted. */
uint64_t ept_pointer(const uint64_t *root, bool accessed_dirty);

#endif
