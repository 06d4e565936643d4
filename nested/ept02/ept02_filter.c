/* One bit for each page of RAM: may some EPT02 map it writable? Watching a page of L1 means taking W from it in all
 * EPT02s of all processors, which is a scan of their trees under locks. Nearly always the page was never mapped
 * writable for any L2, as bitmaps and page tables are L1's own, and then this one bit says so without any lock. */
#include "nested/ept02/ept02_filter.h"

#define WORD_BITS 64u

void ept02_mark_writable(struct ept02_shared *shared, hpa_t hpa, uint64_t size)
{
    uint64_t first = hpa / PAGE_SIZE, end = MIN(first + size / PAGE_SIZE, shared->page_limit);

    while (first < end) {
        /* A word at a time: a page of 1 GiB is 4096 of them. */
        uint64_t bits = MIN(end - first, WORD_BITS - first % WORD_BITS);
        uint64_t mask = BITS(bits - 1, 0) << first % WORD_BITS, *word = &shared->writable[first / WORD_BITS];
        if ((__atomic_load_n(word, __ATOMIC_RELAXED) & mask) != mask)
            __atomic_fetch_or(word, mask, __ATOMIC_SEQ_CST);
        first += bits;
    }
    /* The bit must be seen before EPT01 is looked at again: see look_at_ept01(). */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* Read and cleared in one step: of two processors that protect the page, one makes the scan, and a fill that comes
 * behind it marks the page anew. */
bool ept02_take_mark(struct ept02_shared *shared, gpa_t page)
{
    uint64_t index = page / PAGE_SIZE, bit = BIT(index % WORD_BITS);

    if (index >= shared->page_limit)
        return false;
    return __atomic_fetch_and(&shared->writable[index / WORD_BITS], ~bit, __ATOMIC_SEQ_CST) & bit;
}
