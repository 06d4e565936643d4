/* Where the loader's modules go until L1's image is built: the top of RAM.
 * Pure: a plan of moves.
 * start/ plans, l1/l1_load moves. */
#ifndef L1_L1_STASH_H
#define L1_L1_STASH_H

#include "boot/bootinfo.h"
#include "kernel/base.h"
#include "mm/memmap.h"

/* Where the stash must lie below: a 32-bit entry reaches no further, and older Linux kernels take their initrd there
 * only (initrd_addr_max). */
#define L1_STASH_LIMIT (2 * GIB)

struct l1_move {
    unsigned module; /* index in the loader's list */
    hpa_t from, to;
    uint64_t size;
};

/* Plans to move each module to the top of RAM of `map` below `limit`, page-aligned. The moves are to be done in the
 * order given, each with memmove: then none overwrites a module that has not moved yet. `keep`: more memory that must
 * not be written (Nestor's image, the loader's information). NULL, or what is wrong in one line. */
MUST_CHECK const char *l1_stash_plan(const struct memmap *map, hpa_t limit, const struct boot_module *module,
                                     unsigned count, const struct memmap_region *keep, unsigned keep_count,
                                     struct l1_move *move);

#endif
