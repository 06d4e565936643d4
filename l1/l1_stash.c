#include "l1/l1_stash.h"

#include "kernel/panic.h"

#define KEEP_MAX 16

static uint64_t pages_of(const struct boot_module *module)
{
    return ALIGN_UP(MAX(module->size, 1), PAGE_SIZE);
}

/* Index of the module with the highest start among those not yet moved. */
static unsigned pick_highest(const struct boot_module *module, unsigned count, const bool *moved)
{
    unsigned best = count;

    for (unsigned i = 0; i < count; i++)
        if (!moved[i] && (best == count || module[i].start > module[best].start))
            best = i;
    return best;
}

/* The highest goes first, so that what moves up makes room for what lies below it. A module may overlap its own old
 * place, but no other one that still has to move. */
const char *l1_stash_plan(const struct memmap *map, hpa_t limit, const struct boot_module *module, unsigned count,
                          const struct memmap_region *keep, unsigned keep_count, struct l1_move *move)
{
    struct memmap_region busy[KEEP_MAX + BOOTINFO_MAX_MODULES];
    bool moved[BOOTINFO_MAX_MODULES] = {false};

    ASSERT(keep_count <= KEEP_MAX && count <= BOOTINFO_MAX_MODULES);
    for (unsigned i = 0; i < keep_count; i++)
        busy[i] = keep[i];
    for (unsigned i = 0; i < count; i++)
        busy[keep_count + i] = (struct memmap_region){module[i].start, pages_of(&module[i]), REGION_RAM};
    for (unsigned done = 0; done < count; done++) {
        unsigned i = pick_highest(module, count, moved);
        struct memmap_region *own = &busy[keep_count + i];
        hpa_t to;
        own->size = 0;
        to = memmap_find_top(map, pages_of(&module[i]), PAGE_SIZE, limit, busy, keep_count + count);
        if (to == 0)
            return "too little memory for the boot modules";
        *own = (struct memmap_region){to, pages_of(&module[i]), REGION_RAM};
        move[done] = (struct l1_move){i, module[i].start, to, module[i].size};
        moved[i] = true;
    }
    return NULL;
}
