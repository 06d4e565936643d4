#include "l1/l1_image.h"

#include "kernel/panic.h"
#include "kernel/string.h"

/* Interrupt vectors and BIOS data; what lies below the EBDA's usual place is free. */
#define LOW_END 0x90000u
#define REACH_32 (4 * GIB)

/* Selectors as Linux demands them: __BOOT_CS and __BOOT_DS. Multiboot leaves them open. */
#define START_CS 0x10
#define START_DS 0x18
static const uint64_t start_gdt[] = {0, 0, 0x00cf9b000000ffff, 0x00cf93000000ffff};

bool l1_take(const struct l1_input *in, uint64_t offset, void *to, uint64_t size)
{
    if (offset > in->module[0].size || size > in->module[0].size - offset)
        return false;
    memcpy(to, in->image + offset, size);
    return true;
}

bool l1_is_usable(const struct memmap *map, const struct l1_plan *plan, hpa_t base, uint64_t size)
{
    if (base >= REACH_32 || size > REACH_32 - base || !memmap_is(map, base, size, REGION_RAM))
        return false;
    for (unsigned i = 0; i < plan->busy_count; i++)
        if (base < plan->busy[i].base + plan->busy[i].size && plan->busy[i].base < base + size)
            return false;
    return true;
}

void l1_reserve(struct l1_plan *plan, hpa_t base, uint64_t size)
{
    ASSERT(plan->busy_count < ARRAY_SIZE(plan->busy));
    plan->busy[plan->busy_count++] = (struct memmap_region){base, size, REGION_RAM};
}

const char *l1_add_copy(const struct l1_input *in, struct l1_plan *plan, struct l1_copy copy)
{
    if (plan->copies == L1_COPIES_MAX)
        return "the kernel has too many segments";
    if (copy.length + copy.zeros < copy.length)
        return "a segment of the kernel is larger than the address space";
    if (!l1_is_usable(in->map, plan, copy.to, copy.length + copy.zeros))
        return "the kernel does not fit into RAM at the address that it asks for";
    l1_reserve(plan, copy.to, copy.length + copy.zeros);
    plan->copy[plan->copies++] = copy;
    return NULL;
}

void *l1_blob(struct l1_plan *plan, uint64_t size)
{
    void *blob = plan->blob + plan->blob_used;

    if (size > L1_BLOB_SIZE - plan->blob_used)
        return NULL;
    plan->blob_used += (unsigned)ALIGN_UP(size, 8);
    return blob;
}

const char *l1_place_low(const struct l1_input *in, struct l1_plan *plan, const void *blob, uint64_t size, hpa_t *where)
{
    *where = memmap_find_top(in->free, size, PAGE_SIZE, LOW_END, plan->busy, plan->busy_count);
    if (*where == 0)
        *where = memmap_find_top(in->free, size, PAGE_SIZE, REACH_32, plan->busy, plan->busy_count);
    if (*where == 0)
        return "too little memory below 4 GiB for the boot information";
    return l1_add_copy(in, plan, (struct l1_copy){.to = *where, .from = blob, .length = size});
}

const char *l1_place_gdt(const struct l1_input *in, struct l1_plan *plan)
{
    plan->start.cs = START_CS;
    plan->start.ds = START_DS;
    plan->start.gdt_limit = sizeof start_gdt - 1;
    return l1_place_low(in, plan, start_gdt, sizeof start_gdt, &plan->start.gdt);
}
