/* The filter of writable pages of L1: which may be mapped with W by some EPT02, by a leaf of 4 KiB
 * (ept02_shared.writable) or by a larger one (ept02_shared.writable_large). A page is marked before EPT01 is looked at,
 * or while it is held; its protection asks when EPT01 has lost W. The lock of the EPT02 is held from the mark to the
 * store of the leaf. Any processor may call. nested/ept02/ uses it. */
#ifndef NESTED_EPT02_EPT02_FILTER_H
#define NESTED_EPT02_EPT02_FILTER_H

#include "kernel/layout.h"
#include "nested/ept02/ept02.h"

/* Pages of one word of the filter. */
#define EPT02_WORD 64u

static ALWAYS_INLINE void ept02_mark_bits(uint64_t *word, uint64_t bits)
{
    if (~__atomic_load_n(word, __ATOMIC_ACQUIRE) & bits)
        __atomic_fetch_or(word, bits, __ATOMIC_SEQ_CST);
}
static ALWAYS_INLINE void ept02_mark_bit(uint64_t *word, unsigned bit)
{
    if (!((__atomic_load_n(word, __ATOMIC_ACQUIRE) >> bit) & 1))
        __atomic_fetch_or(word, BIT(bit), __ATOMIC_SEQ_CST);
}
/* One page of 4 KiB, and `count` from one on. */
static ALWAYS_INLINE void ept02_mark_page(struct ept02_shared *shared, hpa_t page)
{
    uint64_t number = page / PAGE_SIZE;

    if (number < shared->page_limit)
        ept02_mark_bit(&shared->writable[number / EPT02_WORD], number % EPT02_WORD);
}
void ept02_mark_pages(struct ept02_shared *shared, hpa_t page, unsigned count);
/* 2 MiB that one leaf maps. */
static ALWAYS_INLINE void ept02_mark_2m(struct ept02_shared *shared, hpa_t hpa)
{
    uint64_t number = hpa / LARGE_2M;

    if (hpa / PAGE_SIZE < shared->page_limit)
        ept02_mark_bit(&shared->writable_large[number / EPT02_WORD], number % EPT02_WORD);
}
/* The marks of such, of all 2 MiB of this gigabyte; NULL: it has no RAM. */
static inline uint64_t *ept02_marks_of_1g(const struct ept02_shared *shared, hpa_t hpa)
{
    return hpa / PAGE_SIZE < shared->page_limit ? &shared->writable_large[hpa / LARGE_2M / EPT02_WORD] : NULL;
}
/* 1 GiB that one leaf maps. */
void ept02_mark_1g(struct ept02_shared *shared, hpa_t hpa);
/* Clears the marks of the page: whether there was one. All leaves that map it then lose W. */
bool ept02_take_mark(struct ept02_shared *shared, gpa_t page);

#endif
