/* The page allocator of the carve-out: 4 KiB pages, zeroed when given, filled with junk when taken back.
 * page_init() first; then any processor may call; one lock inside, a leaf in the lock order.
 * Every upper layer may call it. */
#ifndef MM_PAGE_H
#define MM_PAGE_H

#include "kernel/base.h"

/* Gives the allocator [start, end) of the direct map (page-aligned). Once, before any other call. */
void page_init(void *start, void *end);
/* A zeroed page, or NULL when there is none. */
MUST_CHECK void *page_alloc(void);
/* `count` adjoining zeroed pages (for start-up: searches), or NULL. */
MUST_CHECK void *page_alloc_run(unsigned count);
/* Takes back a page that page_alloc gave. ASSERTs that it is one and that it is not free already. */
void page_free(void *page);
/* Free pages now. */
uint64_t page_count_free(void);

#endif
