#include "nested/ept12_filter.h"

#define WORD_BITS 64u

void ept12_mark_writable(struct ept12_shared *shared, hpa_t hpa, uint64_t size)
{
    uint64_t first = hpa / PAGE_SIZE, end = MIN(first + size / PAGE_SIZE, shared->page_limit);

    while (first < end) {
        uint64_t bits = MIN(end - first, WORD_BITS - first % WORD_BITS);
        uint64_t mask = BITS(bits - 1, 0) << first % WORD_BITS, *word = &shared->writable[first / WORD_BITS];
        if ((__atomic_load_n(word, __ATOMIC_RELAXED) & mask) != mask)
            __atomic_fetch_or(word, mask, __ATOMIC_SEQ_CST);
        first += bits;
    }
    /* The bit must be seen before EPT01 is looked at again: see ept01_leaf(). */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

bool ept12_take_mark(struct ept12_shared *shared, gpa_t page)
{
    uint64_t index = page / PAGE_SIZE, bit = BIT(index % WORD_BITS);

    if (index >= shared->page_limit)
        return false;
    return __atomic_fetch_and(&shared->writable[index / WORD_BITS], ~bit, __ATOMIC_SEQ_CST) & bit;
}
