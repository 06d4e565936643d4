/* The filter of writable pages of L1 (ept02_shared.writable): which may be mapped with W by some EPT02.
 * No lock; any processor may call. nested/ept02/ept02 uses it. */
#ifndef NESTED_EPT02_EPT02_FILTER_H
#define NESTED_EPT02_EPT02_FILTER_H

#include "nested/ept02/ept02.h"

/* Leaves with W may map [hpa, hpa+size) from now on. On return the mark is seen by whoever takes it. */
void ept02_mark_writable(struct ept02_shared *shared, hpa_t hpa, uint64_t size);
/* The same for one page of 4 KiB. Where it is marked already, its protection waits for the lock that the caller
 * holds. */
static inline void ept02_mark_page(struct ept02_shared *shared, hpa_t page)
{
    uint64_t number = page / PAGE_SIZE, *word = &shared->writable[number / 64];

    if (number < shared->page_limit && !((__atomic_load_n(word, __ATOMIC_ACQUIRE) >> number % 64) & 1))
        __atomic_fetch_or(word, BIT(number % 64), __ATOMIC_SEQ_CST);
}
/* Clears the page's mark; whether it was set. */
bool ept02_take_mark(struct ept02_shared *shared, gpa_t page);

#endif
