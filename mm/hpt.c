#include "mm/hpt.h"

#include "kernel/layout.h"
#include "kernel/x86.h"
#include "mm/page.h"

#define PTE_ADDRESS BITS(51, 12)
#define LEVELS 4
#define TABLE_ENTRIES 512

#define RIGHTS_TEXT PTE_P
#define RIGHTS_RODATA (PTE_P | PTE_NX)
#define RIGHTS_DATA (PTE_P | PTE_W | PTE_NX)

#define REACHED_MAX 16
#define EARLY_TABLES 16 /* before there is a page pool: a table for each GiB, and for each 512 GiB */

#define CPUID_EXTENDED_FEATURES 0x80000001u
#define CPUID_EDX_1G_PAGES BIT(26)

/* Section borders, page-aligned; from linker.ld. */
extern uint8_t image_text_start[], image_text_end[];
extern uint8_t image_rodata_start[], image_rodata_end[];
extern uint8_t image_data_start[], image_stack_guard[], image_end[];
/* boot/entry.asm */
extern uint8_t boot_pml4[];

hpa_t layout_image_hpa = IMAGE_LOAD_BASE, layout_load_base = IMAGE_LOAD_BASE;

static hpa_t mapped_end;
static uint64_t *root; /* NULL: the tables of boot/entry.asm are in use */
/* Ranges that were asked for beyond the direct map's end; the final tables have them, too. */
static struct {
    unsigned count;
    struct reached {
        hpa_t start, end;
    } range[REACHED_MAX];
} reached;

/* The mapping of one run of adjoining pages. */
struct mapping {
    uint64_t va;
    hpa_t hpa;
    uint64_t size;
    uint64_t rights;
};

/* Bytes that one entry of a table of this level maps; level 1 tables map 4 KiB pages. */
static uint64_t level_size(unsigned level)
{
    return PAGE_SIZE << (9 * (level - 1));
}

static uint64_t *level_entry(uint64_t *table, unsigned level, uint64_t va)
{
    return &table[va / level_size(level) % TABLE_ENTRIES];
}

/* The largest level whose page fits at the start of `m`. */
static unsigned leaf_level(const struct mapping *m, unsigned largest)
{
    unsigned level = largest;

    while (level > 1 && (!IS_ALIGNED(m->va | m->hpa, level_size(level)) || m->size < level_size(level)))
        level--;
    return level;
}

static uint64_t *alloc_table(void)
{
    static uint64_t tables[EARLY_TABLES][TABLE_ENTRIES] __attribute__((aligned(PAGE_SIZE)));
    static unsigned used;

    if (root)
        return page_alloc();
    return used < EARLY_TABLES ? tables[used++] : NULL;
}

/* The table that the entry leads to, made when there is none. NULL when pages run out. */
static uint64_t *next_table(uint64_t *entry)
{
    if (*entry & PTE_P)
        return hpa_to_va(*entry & PTE_ADDRESS);
    uint64_t *table = alloc_table();
    if (table)
        *entry = va_to_hpa(table) | PTE_P | PTE_W;
    return table;
}

static uint64_t *top_table(void)
{
    return root ? root : hpa_to_va(low_to_hpa(boot_pml4));
}

static int map(struct mapping m, unsigned largest)
{
    while (m.size) {
        unsigned leaf = leaf_level(&m, largest);
        uint64_t *table = top_table();
        for (unsigned level = LEVELS; level > leaf && table; level--)
            table = next_table(level_entry(table, level, m.va));
        if (!table)
            return -1;
        *level_entry(table, leaf, m.va) = m.hpa | m.rights | PTE_A | PTE_D | (leaf > 1 ? PTE_PS : 0);
        m.va += level_size(leaf);
        m.hpa += level_size(leaf);
        m.size -= level_size(leaf);
    }
    return 0;
}

static int map_image(hpa_t image_hpa, const uint8_t *start, const uint8_t *end, uint64_t rights)
{
    struct mapping m = {(uint64_t)start, image_hpa + ((uint64_t)start - IMAGE_LINK_BASE), (uint64_t)(end - start),
                        rights};
    return map(m, 1);
}

/* The page below the boot processor's stack stays out, so that a stack that grew too far faults. */
static int map_sections(hpa_t image_hpa)
{
    if (map_image(image_hpa, image_text_start, image_text_end, RIGHTS_TEXT) ||
        map_image(image_hpa, image_rodata_start, image_rodata_end, RIGHTS_RODATA) ||
        map_image(image_hpa, image_data_start, image_stack_guard, RIGHTS_DATA))
        return -1;
    return map_image(image_hpa, image_stack_guard + PAGE_SIZE, image_end, RIGHTS_DATA);
}

static unsigned largest_page_level(void)
{
    if (cpuid(CPUID_EXTENDED_FEATURES & 0xffff0000u, 0).eax < CPUID_EXTENDED_FEATURES)
        return 2;
    return cpuid(CPUID_EXTENDED_FEATURES, 0).edx & CPUID_EDX_1G_PAGES ? 3 : 2;
}

static int map_direct(hpa_t start, hpa_t end)
{
    struct mapping m = {DIRECT_MAP_BASE + start, start, end - start, RIGHTS_DATA};
    return map(m, largest_page_level());
}

/* All physical memory but the image's text and read-only data: they must have no second, writable address. */
static int map_physical(hpa_t image_hpa, hpa_t end)
{
    hpa_t hole_start = image_hpa + ((uint64_t)image_text_start - IMAGE_LINK_BASE);
    hpa_t hole_end = image_hpa + ((uint64_t)image_rodata_end - IMAGE_LINK_BASE);

    return map_direct(0, hole_start) || map_direct(hole_end, end) ? -1 : 0;
}

/* True if the direct map has the GiB at `start`: its entry of level 3 is there. */
static bool is_mapped(hpa_t start)
{
    uint64_t va = DIRECT_MAP_BASE + start, entry = *level_entry(top_table(), LEVELS, va);

    return (entry & PTE_P) && (*level_entry(hpa_to_va(entry & PTE_ADDRESS), 3, va) & PTE_P);
}

static int map_gigabytes(hpa_t start, hpa_t end)
{
    for (hpa_t at = start; at < end; at += LARGE_1G)
        if (!is_mapped(at) && map_direct(at, at + LARGE_1G))
            return -1;
    return 0;
}

int hpt_reach(hpa_t start, uint64_t size)
{
    hpa_t first = ALIGN_DOWN(start, LARGE_1G), end = ALIGN_UP(start + size, LARGE_1G);

    if (start + size < start || end > DIRECT_MAP_SIZE || end <= first)
        return -1;
    for (unsigned i = 0; i < reached.count; i++)
        if (first >= reached.range[i].start && end <= reached.range[i].end)
            return 0;
    if (map_gigabytes(first, end))
        return -1;
    if (end > 4 * GIB && !root) {
        if (reached.count == REACHED_MAX)
            return -1;
        reached.range[reached.count++] = (struct reached){first, end};
    }
    return 0;
}

static int map_reached(void)
{
    for (unsigned i = 0; i < reached.count; i++)
        if (map_gigabytes(reached.range[i].start, reached.range[i].end))
            return -1;
    return 0;
}

/* Copies the image and switches to the tables under which the copy is what runs. The stack is part of what is copied:
 * between the first byte copied and the load of CR3 nothing may be written to memory. */
static void copy_and_switch(hpa_t image_hpa, uint64_t cr3)
{
    void *to = hpa_to_va(image_hpa);
    const void *from = (const void *)IMAGE_LINK_BASE;
    uint64_t size = (uint64_t)image_end - IMAGE_LINK_BASE;

    __asm__ volatile("rep movsb\n\t"
                     "movq %[cr3], %%cr3"
                     : "+D"(to), "+S"(from), "+c"(size)
                     : [cr3] "r"(cr3)
                     : "memory");
}

void hpt_start(hpa_t load_base)
{
    layout_image_hpa = layout_load_base = load_base;
}

int hpt_relocate(hpa_t image_hpa, hpa_t direct_end)
{
    mapped_end = ALIGN_UP(direct_end, LARGE_1G);
    root = page_alloc();
    if (!root || map_sections(image_hpa) || map_physical(image_hpa, mapped_end) || map_reached())
        return -1;
    copy_and_switch(image_hpa, va_to_hpa(root));
    layout_image_hpa = image_hpa;
    return 0;
}

bool hpt_maps(hpa_t hpa, uint64_t len)
{
    return hpa < mapped_end && len <= mapped_end - hpa;
}

void hpt_load(void)
{
    write_cr3(va_to_hpa(root));
}
