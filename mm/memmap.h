/* Sorted list of memory regions: what the loader reported, less what Nestor keeps.
 * Pure; no allocation; a full list is an error, never a silent loss.
 * start/ builds one at start; ept, gmem and the L1 loaders read it. */
#ifndef MM_MEMMAP_H
#define MM_MEMMAP_H

#include "kernel/base.h"

#define MEMMAP_MAX 512

struct memmap_region {
    hpa_t base;
    uint64_t size;
    uint32_t type; /* REGION_RAM ... as in boot/bootinfo.h */
};

struct memmap {
    unsigned count;
    struct memmap_region region[MEMMAP_MAX]; /* sorted by base, not overlapping, neighbours of one type joined */
};

/* Sets [base, base+size) to `type`, splitting and joining what is there. Where regions of the loader overlap, the
 * less usable type must be set last. Returns 0 or -1 when the list is full. */
MUST_CHECK int memmap_set(struct memmap *map, hpa_t base, uint64_t size, uint32_t type);
/* Type of the byte at `address`; 0 where nothing is known (a hole). */
uint32_t memmap_type(const struct memmap *map, hpa_t address);
/* True if all of [base, base+size) has `type`; false on wrap-around. */
bool memmap_is(const struct memmap *map, hpa_t base, uint64_t size, uint32_t type);
/* Highest `align`ed base below `limit` of `size` bytes of RAM that overlap none of the `busy` ranges; 0 when none. */
hpa_t memmap_find_top(const struct memmap *map, uint64_t size, uint64_t align, hpa_t limit,
                      const struct memmap_region *busy, unsigned busy_count);
/* First byte above the last RAM region; RAM bytes in total. */
hpa_t memmap_ram_end(const struct memmap *map);
uint64_t memmap_ram_size(const struct memmap *map);

#endif
