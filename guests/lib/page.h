/* Pages of an L1 image: handed out upwards from one region of RAM and taken back together.
 * page_init() first, after multiboot_init(). What page_release() takes back is filled with junk: dangling uses show. */
#ifndef GUESTS_LIB_PAGE_H
#define GUESTS_LIB_PAGE_H

#include "kernel/base.h"

void page_init(void);
/* Zeroed memory below 4 GiB, where linear and physical addresses are the same; ends the run when there is none. */
void *page_alloc(void);
void *page_alloc_run(size_t pages, uint64_t alignment);
/* Everything allocated after page_mark() goes back with page_release(). */
uint64_t page_mark(void);
void page_release(uint64_t mark);
/* The region that pages come from. */
uint64_t page_region_end(void);

#endif
