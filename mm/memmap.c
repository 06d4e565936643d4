#include "mm/memmap.h"

#include "boot/bootinfo.h"
#include "kernel/string.h"

static hpa_t region_end(const struct memmap_region *region)
{
    return region->base + region->size;
}

/* Index of the first region that ends above `address`; count when there is none. */
static unsigned find_at_or_above(const struct memmap *map, hpa_t address)
{
    unsigned low = 0, high = map->count;

    while (low < high) {
        unsigned middle = (low + high) / 2;
        if (region_end(&map->region[middle]) > address)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* Appends to a list made in rising order, joined with its last region when that touches and has the same type. */
static bool append(struct memmap *map, hpa_t base, hpa_t end, uint32_t type)
{
    if (base >= end)
        return true;
    if (map->count > 0) {
        struct memmap_region *last = &map->region[map->count - 1];
        if (region_end(last) == base && last->type == type) {
            last->size += end - base;
            return true;
        }
    }
    if (map->count == MEMMAP_MAX)
        return false;
    map->region[map->count++] = (struct memmap_region){base, end - base, type};
    return true;
}

/* The list is written anew: what lies below, the new region, what lies above. */
int memmap_set(struct memmap *map, hpa_t base, uint64_t size, uint32_t type)
{
    struct memmap result = {0};
    hpa_t end = base + size;
    unsigned i = 0;
    bool fits = true;

    if (size == 0)
        return 0;
    /* A region that ends at or beyond 2^64 is cut: nothing can be there. */
    if (end < base)
        end = ~0ull;
    for (; i < map->count && map->region[i].base < base; i++)
        fits &= append(&result, map->region[i].base, MIN(region_end(&map->region[i]), base), map->region[i].type);
    fits &= append(&result, base, end, type);
    /* The last one looked at may reach over the whole new region. */
    for (i -= i > 0; i < map->count; i++)
        fits &= append(&result, MAX(map->region[i].base, end), region_end(&map->region[i]), map->region[i].type);
    if (!fits)
        return -1;
    *map = result;
    return 0;
}

uint32_t memmap_type(const struct memmap *map, hpa_t address)
{
    unsigned i = find_at_or_above(map, address);

    return i < map->count && map->region[i].base <= address ? map->region[i].type : 0;
}

bool memmap_is(const struct memmap *map, hpa_t base, uint64_t size, uint32_t type)
{
    unsigned i = find_at_or_above(map, base);

    if (base + size < base)
        return false;
    /* Neighbours of one type are joined, so one region must hold all of it. */
    return i < map->count && map->region[i].type == type && map->region[i].base <= base &&
           base + size <= region_end(&map->region[i]);
}

/* Highest aligned base of `size` bytes in [low, high) that overlap no busy range; 0 when none. */
static hpa_t find_in(hpa_t low, hpa_t high, uint64_t size, uint64_t align, const struct memmap_region *busy,
                     unsigned busy_count)
{
    while (high >= low && high - low >= size) {
        hpa_t base = ALIGN_DOWN(high - size, align);
        unsigned i = 0;
        if (base < low)
            return 0;
        while (i < busy_count && (busy[i].size == 0 || busy[i].base >= base + size || region_end(&busy[i]) <= base))
            i++;
        if (i == busy_count)
            return base;
        high = busy[i].base; /* lower than before: the range overlapped */
    }
    return 0;
}

hpa_t memmap_find_top(const struct memmap *map, uint64_t size, uint64_t align, hpa_t limit,
                      const struct memmap_region *busy, unsigned busy_count)
{
    for (unsigned i = map->count; i-- > 0;) {
        const struct memmap_region *region = &map->region[i];
        hpa_t found = 0;
        if (region->type == REGION_RAM && region->base < limit)
            found = find_in(region->base, MIN(region_end(region), limit), size, align, busy, busy_count);
        if (found)
            return found;
    }
    return 0;
}

hpa_t memmap_ram_end(const struct memmap *map)
{
    for (unsigned i = map->count; i-- > 0;)
        if (map->region[i].type == REGION_RAM)
            return region_end(&map->region[i]);
    return 0;
}

uint64_t memmap_ram_size(const struct memmap *map)
{
    uint64_t size = 0;

    for (unsigned i = 0; i < map->count; i++)
        if (map->region[i].type == REGION_RAM)
            size += map->region[i].size;
    return size;
}
