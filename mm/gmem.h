/* The only way by which Nestor touches L1's memory: bounds-checked against L1's RAM, tells ept_watch of writes.
 * gpa1 is identity-mapped, so a gpa1 that is RAM of L1 is read through the direct map. Nestor's carve-out, holes
 * and MMIO are not RAM: reads of them give all-ones, writes are dropped, both say so by their result.
 * Any layer above mm/ may call it; values must be copied before they are checked. */
#ifndef MM_GMEM_H
#define MM_GMEM_H

#include "kernel/base.h"
#include "kernel/layout.h"
#include "mm/ept_watch.h"
#include "mm/memmap.h"

struct gmem {
    const struct memmap *map; /* L1's view */
    struct ept_watch *watch;
    /* Whole pages of the largest piece of RAM, which is looked at first; size 0: none. */
    gpa_t main_base;
    uint64_t main_size;
};

/* `map` is complete. */
void gmem_init(struct gmem *gmem, const struct memmap *map, struct ept_watch *watch);

/* Copies len bytes, page borders allowed. False when any part was no RAM: those bytes read as 0xff. */
bool gmem_read(const struct gmem *gmem, gpa_t gpa, void *buffer, uint64_t len);
/* Four bytes that cross no page. */
static inline uint32_t gmem_read32(const struct gmem *gmem, gpa_t gpa)
{
    uint32_t value;
    if (gpa - gmem->main_base < gmem->main_size)
        return __atomic_load_n((const uint32_t *)hpa_to_va(gpa), __ATOMIC_RELAXED);
    gmem_read(gmem, gpa, &value, sizeof(value));
    return value;
}
/* Copies len bytes and hits the watches of the pages. False when any part was no RAM: those bytes were dropped. */
bool gmem_write(const struct gmem *gmem, gpa_t gpa, const void *buffer, uint64_t len);
/* The same of one aligned 64-bit word. */
void gmem_write64(const struct gmem *gmem, gpa_t gpa, uint64_t value);
/* For several stores to a page that is RAM: the page itself, and the watches are hit when all are done. */
static inline void *gmem_write_begin(const struct gmem *gmem, gpa_t page)
{
    (void)gmem;
    return hpa_to_va(page);
}
void gmem_write_end(const struct gmem *gmem, gpa_t page);
/* False: there are none, of either page. */
static inline bool gmem_may_be_watched(const struct gmem *gmem, gpa_t first, gpa_t last)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return ept_watch_may_hit(gmem->watch, first) || ept_watch_may_hit(gmem->watch, last);
}
/* The page itself for reading, or NULL when not RAM; gpa page-aligned. */
const void *gmem_page(const struct gmem *gmem, gpa_t gpa);
/* True if the page that holds gpa is RAM of L1. */
bool gmem_search_ram(const struct gmem *gmem, gpa_t gpa);
static inline bool gmem_is_ram(const struct gmem *gmem, gpa_t gpa)
{
    return gpa - gmem->main_base < gmem->main_size || gmem_search_ram(gmem, gpa);
}
/* One aligned 64-bit word by one load, for tables that other processors change. False and all-ones when not RAM. */
bool gmem_read64_anywhere(const struct gmem *gmem, gpa_t gpa, uint64_t *value);
static inline bool gmem_read64(const struct gmem *gmem, gpa_t gpa, uint64_t *value)
{
    if (gpa - gmem->main_base >= gmem->main_size)
        return gmem_read64_anywhere(gmem, gpa, value);
    *value = __atomic_load_n((const uint64_t *)hpa_to_va(gpa), __ATOMIC_ACQUIRE);
    return true;
}
/* Compare-and-swap of one aligned 64-bit word, as a page walker does for A/D flags: true when it was `old` and is
 * now `value`. Hits the watch. */
bool gmem_cas64(const struct gmem *gmem, gpa_t gpa, uint64_t old, uint64_t value);
/* The same where `value` has flags A and D of an EPT12 entry more: ept_watch_flags_set(). */
bool gmem_set_flags64(const struct gmem *gmem, gpa_t gpa, uint64_t old, uint64_t value);

#endif
