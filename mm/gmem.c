#include "mm/gmem.h"

#include "boot/bootinfo.h"
#include "kernel/layout.h"
#include "kernel/panic.h"
#include "kernel/string.h"

void gmem_init(struct gmem *gmem, const struct memmap *map, struct ept_watch *watch)
{
    *gmem = (struct gmem){.map = map, .watch = watch};
    for (unsigned i = 0; i < map->count; i++) {
        const struct memmap_region *region = &map->region[i];
        gpa_t base = ALIGN_UP(region->base, PAGE_SIZE), end = ALIGN_DOWN(region->base + region->size, PAGE_SIZE);
        if (region->type != REGION_RAM || end < base || end - base <= gmem->main_size)
            continue;
        gmem->main_base = base;
        gmem->main_size = end - base;
    }
}

bool gmem_search_ram(const struct gmem *gmem, gpa_t gpa)
{
    return memmap_is(gmem->map, ALIGN_DOWN(gpa, PAGE_SIZE), PAGE_SIZE, REGION_RAM);
}

const void *gmem_page(const struct gmem *gmem, gpa_t gpa)
{
    ASSERT(IS_ALIGNED(gpa, PAGE_SIZE));
    return gmem_is_ram(gmem, gpa) ? hpa_to_va(gpa) : NULL;
}

/* Bytes from gpa to the end of its page, at most len. */
static uint64_t part_in_page(gpa_t gpa, uint64_t len)
{
    return MIN(PAGE_SIZE - (gpa & PAGE_MASK), len);
}

/* Words, pointers and descriptors, which most reads are, without a call. */
static inline void copy_short(void *to, const void *from, uint64_t len)
{
    switch (len) {
    case 4:
        memcpy(to, from, 4);
        break;
    case 8:
        memcpy(to, from, 8);
        break;
    case 16:
        memcpy(to, from, 16);
        break;
    default:
        memcpy(to, from, len);
    }
}

bool gmem_read(const struct gmem *gmem, gpa_t gpa, void *buffer, uint64_t len)
{
    uint8_t *to = buffer;
    bool all_ram = true;

    if ((gpa & PAGE_MASK) + len <= PAGE_SIZE && gmem_is_ram(gmem, gpa)) { /* the usual case */
        copy_short(buffer, hpa_to_va(gpa), len);
        return true;
    }
    while (len > 0) {
        uint64_t part = part_in_page(gpa, len);
        bool ram = gmem_is_ram(gmem, gpa);
        if (ram)
            memcpy(to, hpa_to_va(gpa), part);
        else
            memset(to, 0xff, part);
        all_ram &= ram;
        gpa += part;
        to += part;
        len -= part;
    }
    return all_ram;
}

/* The store comes before the hit: who traces the page again after the hit must read what was stored. The other way
 * round, a copy made between the two would miss the store and still count as fresh. */
static void tell_watchers(const struct gmem *gmem, gpa_t gpa)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    (void)ept_watch_hit(gmem->watch, gpa);
}

bool gmem_write(const struct gmem *gmem, gpa_t gpa, const void *buffer, uint64_t len)
{
    const uint8_t *from = buffer;
    bool all_ram = true;

    while (len > 0) {
        uint64_t part = part_in_page(gpa, len);
        bool ram = gmem_is_ram(gmem, gpa);
        if (ram) {
            memcpy(hpa_to_va(gpa), from, part);
            tell_watchers(gmem, gpa);
        }
        all_ram &= ram;
        gpa += part;
        from += part;
        len -= part;
    }
    return all_ram;
}

void gmem_write_end(const struct gmem *gmem, gpa_t page)
{
    tell_watchers(gmem, page);
}

void gmem_write64(const struct gmem *gmem, gpa_t gpa, uint64_t value)
{
    ASSERT(IS_ALIGNED(gpa, sizeof value));
    if (!gmem_is_ram(gmem, gpa))
        return;
    __atomic_store_n((uint64_t *)hpa_to_va(gpa), value, __ATOMIC_RELAXED);
    tell_watchers(gmem, gpa);
}

bool gmem_read64_anywhere(const struct gmem *gmem, gpa_t gpa, uint64_t *value)
{
    bool ram = gmem_is_ram(gmem, gpa);

    ASSERT(IS_ALIGNED(gpa, sizeof *value));
    *value = ram ? __atomic_load_n((const uint64_t *)hpa_to_va(gpa), __ATOMIC_ACQUIRE) : ~0ull;
    return ram;
}

static bool exchange(const struct gmem *gmem, gpa_t gpa, uint64_t old, uint64_t value)
{
    ASSERT(IS_ALIGNED(gpa, sizeof value));
    return gmem_is_ram(gmem, gpa) && __atomic_compare_exchange_n((uint64_t *)hpa_to_va(gpa), &old, value, false,
                                                                 __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

bool gmem_cas64(const struct gmem *gmem, gpa_t gpa, uint64_t old, uint64_t value)
{
    if (!exchange(gmem, gpa, old, value))
        return false;
    tell_watchers(gmem, gpa);
    return true;
}

bool gmem_set_flags64(const struct gmem *gmem, gpa_t gpa, uint64_t old, uint64_t value)
{
    if (!exchange(gmem, gpa, old, value))
        return false;
    if (gmem->watch)
        ept_watch_flags_set(gmem->watch, gpa);
    return true;
}
