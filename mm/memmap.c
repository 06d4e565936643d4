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

#define PIECES_MAX 5

/* Adds a piece to a short list made in rising order, joined with its last one when that touches and has the same
 * type. */
static void add_piece(struct memmap_region *piece, unsigned *count, hpa_t base, hpa_t end, uint32_t type)
{
    if (base >= end)
        return;
    if (*count && region_end(&piece[*count - 1]) == base && piece[*count - 1].type == type)
        piece[*count - 1].size += end - base;
    else
        piece[(*count)++] = (struct memmap_region){base, end - base, type};
}

/* Puts the pieces in the place of the regions [first, behind). */
static int replace(struct memmap *map, unsigned first, unsigned behind, const struct memmap_region *piece,
                   unsigned count)
{
    struct memmap_region *at = &map->region[first];

    if (map->count - (behind - first) + count > MEMMAP_MAX)
        return -1;
    memmove(at + count, at + (behind - first), (map->count - behind) * sizeof *at);
    memcpy(at, piece, count * sizeof *at);
    map->count += count - (behind - first);
    return 0;
}

/* The regions in the way, and a neighbour on each side, become: neighbour, rest, new region, rest, neighbour. */
int memmap_set(struct memmap *map, hpa_t base, uint64_t size, uint32_t type)
{
    struct memmap_region piece[PIECES_MAX], *region = map->region;
    unsigned first = find_at_or_above(map, base), behind = first, count = 0;
    /* A region that ends at or beyond 2^64 is cut: nothing can be there. */
    hpa_t end = base + size < base ? ~0ull : base + size;

    if (size == 0)
        return 0;
    while (behind < map->count && region[behind].base < end)
        behind++;
    bool in_the_way = behind > first;
    if (first > 0)
        add_piece(piece, &count, region[first - 1].base, region_end(&region[first - 1]), region[first - 1].type);
    if (in_the_way)
        add_piece(piece, &count, region[first].base, base, region[first].type);
    add_piece(piece, &count, base, end, type);
    if (in_the_way)
        add_piece(piece, &count, end, region_end(&region[behind - 1]), region[behind - 1].type);
    if (behind < map->count)
        add_piece(piece, &count, region[behind].base, region_end(&region[behind]), region[behind].type);
    return replace(map, first - (first > 0), behind + (behind < map->count), piece, count);
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
