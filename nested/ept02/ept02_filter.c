/* A bit for each page of RAM, and one for each 2 MiB: may some EPT02 map it writable? Watching a page of L1 means
 * taking W from it in all EPT02s of all processors, which is a scan of their trees under locks. Nearly always the page
 * was never mapped writable for any L2, as bitmaps and page tables are L1's own, and then two bits say so without any
 * lock. */
#include "nested/ept02/ept02_filter.h"

void ept02_mark_pages(struct ept02_shared *shared, hpa_t page, unsigned count)
{
    uint64_t number = page / PAGE_SIZE, end = MIN(number + count, shared->page_limit);

    while (number < end) {
        uint64_t bits = MIN(end - number, EPT02_WORD - number % EPT02_WORD);
        ept02_mark_bits(&shared->writable[number / EPT02_WORD], ~0ull >> (EPT02_WORD - bits) << number % EPT02_WORD);
        number += bits;
    }
}

void ept02_mark_1g(struct ept02_shared *shared, hpa_t hpa)
{
    for (uint64_t offset = 0; offset < LARGE_1G; offset += LARGE_2M)
        ept02_mark_2m(shared, hpa + offset);
}

/* Read and cleared in one step: of two processors that protect the page, one makes the scan, and a fill that comes
 * behind it marks the page anew. A large leaf loses W as a whole, so its mark goes, too. */
static bool take_bit(uint64_t *bits, uint64_t number)
{
    uint64_t *word = &bits[number / EPT02_WORD], bit = BIT(number % EPT02_WORD);

    return (__atomic_load_n(word, __ATOMIC_SEQ_CST) & bit) && (__atomic_fetch_and(word, ~bit, __ATOMIC_SEQ_CST) & bit);
}

bool ept02_take_mark(struct ept02_shared *shared, gpa_t page)
{
    if (page / PAGE_SIZE >= shared->page_limit)
        return false;
    bool small = take_bit(shared->writable, page / PAGE_SIZE);
    return take_bit(shared->writable_large, page / LARGE_2M) || small;
}
