#include "mm/ept.h"

#include "boot/bootinfo.h"
#include "kernel/layout.h"
#include "kernel/ledger.h"
#include "kernel/panic.h"
#include "kernel/percpu.h"
#include "kernel/string.h"
#include "mm/page.h"

/* A and D are set from the start: the processor then never writes EPT01, and parts of a split page stay alike. */
#define TABLE_FLAGS (EPT_RWX | EPT_A)
#define LEAF_FLAGS (EPT_RWX | EPT_XU | EPT_A | EPT_D) /* EPT_XU for those who merge it: it is not in force here */
/* Pages that L1 cannot use up by touching far addresses. */
#define ON_DEMAND_RESERVE 64u

/* SDM 3C 25.6.11 "Extended-Page-Table Pointer (EPTP)" */
#define POINTER_WRITE_BACK 6u
#define POINTER_WALK_4 PUT(3, BITS(5, 3))
#define POINTER_AD BIT(6)

/* A processor may walk the tables at any time: an entry changes by one store, and only after what it leads to. */
static void set_entry(uint64_t *entry, uint64_t value)
{
    __atomic_store_n(entry, value, __ATOMIC_RELEASE);
}

static uint64_t table_entry(const uint64_t *table)
{
    return va_to_hpa(table) | TABLE_FLAGS;
}

static uint64_t leaf_entry(hpa_t hpa, unsigned level, unsigned memtype)
{
    return hpa | LEAF_FLAGS | PUT(memtype, EPT_MEMTYPE) | (level > 1 ? EPT_LARGE : 0);
}

/* The entry that maps gpa: a leaf, or the first one on the way that is not present. Its level in *level. */
static uint64_t *find_entry(const struct ept *ept, gpa_t gpa, unsigned *level)
{
    uint64_t *table = ept->root;
    uint64_t *entry;

#pragma GCC unroll 4
    for (unsigned at = EPT_TOP_LEVEL; at > 0; at--) {
        uint64_t value = *(entry = &table[ept_index(gpa, at)]);
        *level = at;
        if (!(value & EPT_RWX) || (value & EPT_LARGE)) /* ours have bit 7 in leaves alone */
            break;
        table = ept_table_of(value);
    }
    return entry;
}

static bool overlaps_carveout(const struct ept *ept, gpa_t base, uint64_t size)
{
    return base < ept->carveout_base + ept->carveout_size && ept->carveout_base < base + size;
}

/* The value of the entry at `level` that maps [base, base + its size): a leaf if one memory type and no carve-out lies
 * in it, else a table made for it. 0 when pages run out. */
static uint64_t build_entry(struct ept *ept, gpa_t base, unsigned level)
{
    uint64_t size = ept_level_size(level), *table;
    bool carved = overlaps_carveout(ept, base, size);
    unsigned memtype;

    if (level == 2 && carved)
        return table_entry(ept->carveout_table);
    if (level < 3 || ept->features.pages_1g)
        if (!carved && mtrr_uniform(&ept->mtrr, base, size, &memtype))
            return leaf_entry(base, level, memtype);
    table = page_alloc();
    for (unsigned i = 0; table && i < EPT_ENTRIES; i++) {
        table[i] = build_entry(ept, base + i * ept_level_size(level - 1), level - 1);
        if (!table[i])
            return 0; /* Nestor stops: what was built needs no freeing */
    }
    return table ? table_entry(table) : 0;
}

static int map_gigabyte(struct ept *ept, gpa_t base)
{
    uint64_t *top = &ept->root[ept_index(base, 4)], *entry, value;

    if (!*top) {
        uint64_t *table = page_alloc();
        if (!table)
            return -1;
        set_entry(top, table_entry(table));
    }
    entry = &ept_table_of(*top)[ept_index(base, 3)];
    if (*entry)
        return 0;
    value = build_entry(ept, base, 3);
    if (!value)
        return -1;
    set_entry(entry, value);
    return 0;
}

void ept_fill_ones(struct ept *ept)
{
    memset(hpa_to_va(ept->ones_page), 0xff, PAGE_SIZE);
}

static int build_carveout_table(struct ept *ept)
{
    void *ones = page_alloc();

    ept->carveout_table = page_alloc();
    if (!ones || !ept->carveout_table)
        return -1;
    ept->ones_page = va_to_hpa(ones);
    ept_fill_ones(ept);
    for (unsigned i = 0; i < EPT_ENTRIES; i++)
        ept->carveout_table[i] = leaf_entry(ept->ones_page, 1, MEMTYPE_WB) & ~EPT_W;
    return 0;
}

int ept_build(struct ept *ept)
{
    hpa_t end = MAX(memmap_ram_end(ept->map), ept->carveout_base + ept->carveout_size);

    ASSERT(IS_ALIGNED(ept->carveout_base | ept->carveout_size, LARGE_2M));
    spinlock_init(&ept->lock, LOCK_EPT01);
    ept->root = page_alloc();
    if (!ept->root || build_carveout_table(ept))
        return -1;
    ept->mapped_end = MAX(4 * GIB, ALIGN_UP(end, GIB));
    for (gpa_t base = 0; base < ept->mapped_end; base += GIB)
        if (map_gigabyte(ept, base))
            return -1;
    return 0;
}

uint64_t ept_pointer(const struct ept *ept)
{
    return va_to_hpa(ept->root) | POINTER_WRITE_BACK | POINTER_WALK_4 | (ept->features.access_dirty ? POINTER_AD : 0);
}

struct ept_leaf ept_translate(struct ept *ept, gpa_t gpa)
{
    struct ept_leaf leaf = {0};
    unsigned level;
    uint64_t entry;

    if (gpa >> ept->features.address_bits)
        return leaf;
    spinlock_lock(&ept->lock);
    entry = *find_entry(ept, gpa, &level);
    if (entry)
        leaf = ept_leaf_of(entry, gpa, level);
    spinlock_unlock(&ept->lock);
    return leaf;
}

const uint64_t *ept_find_held(const struct ept *ept, gpa_t gpa, unsigned *level)
{
    const uint64_t *entry = gpa >> ept->features.address_bits ? NULL : find_entry(ept, gpa, level);

    return entry && *entry ? entry : NULL;
}

/* Replaces the leaf `*entry` at `level` by a table of smaller leaves that map the same. */
static int split(uint64_t *entry, unsigned level)
{
    uint64_t *table = page_alloc(), part = *entry & ~(level == 2 ? EPT_LARGE : 0);

    if (!table)
        return -1;
    for (unsigned i = 0; i < EPT_ENTRIES; i++)
        table[i] = part + i * ept_level_size(level - 1);
    set_entry(entry, table_entry(table));
    count(COUNT_EPT01_SPLITS);
    return 0;
}

uint64_t ept_next_generation(struct ept *ept)
{
    return __atomic_add_fetch(&ept->generation, 1, __ATOMIC_SEQ_CST);
}

static bool is_pinned(const struct ept *ept, gpa_t base, uint64_t size)
{
    for (const struct ept_pin *pin = ept->pins; pin; pin = pin->next)
        if (pin->page - base < size)
            return true;
    return false;
}

/* Makes `*entry` at `level`, which leads to a table, the leaf that it was before the split, if all parts are alike.
 * Other processors may walk the table until they pass an INVEPT, so it waits in ept->retired. */
static bool join(struct ept *ept, uint64_t *entry, unsigned level)
{
    uint64_t *table = ept_table_of(*entry), step = ept_level_size(level - 1);

    if (ept->keep_split || ept->retired_count == EPT_RETIRED_MAX || (level == 3 && !ept->features.pages_1g))
        return false;
    if (!ept_is_leaf(table[0], level - 1) || !IS_ALIGNED(table[0] & EPT_ADDRESS, ept_level_size(level)))
        return false;
    if (is_pinned(ept, table[0] & EPT_ADDRESS, ept_level_size(level)))
        return false;
    for (unsigned i = 1; i < EPT_ENTRIES; i++)
        if (table[i] != table[0] + i * step)
            return false;
    set_entry(entry, table[0] | EPT_LARGE);
    ledger_owe_others(va_to_hpa(ept->root), "a table of EPT01 that a large page took the place of");
    ept->retired[ept->retired_count++] = (struct ept_retired){table, ept_next_generation(ept)};
    count(COUNT_EPT01_JOINS);
    return true;
}

static void join_around(struct ept *ept, gpa_t gpa)
{
    uint64_t *directory_pointer = &ept_table_of(ept->root[ept_index(gpa, 4)])[ept_index(gpa, 3)], *entry;

    if (ept_is_leaf(*directory_pointer, 3))
        return;
    entry = &ept_table_of(*directory_pointer)[ept_index(gpa, 2)];
    if (ept_is_leaf(*entry, 2) || join(ept, entry, 2))
        (void)join(ept, directory_pointer, 3);
}

static bool is_traceable(const struct ept *ept, gpa_t gpa)
{
    return memmap_is(ept->map, ALIGN_DOWN(gpa, PAGE_SIZE), PAGE_SIZE, REGION_RAM);
}

/* The 4 KiB entry of gpa, large pages split down to it; NULL when pages run out. */
static uint64_t *split_to_page(struct ept *ept, gpa_t gpa)
{
    unsigned level;
    uint64_t *entry = find_entry(ept, gpa, &level);

    ASSERT(*entry); /* all RAM was mapped at the start */
    while (level > 1) {
        if (split(entry, level)) {
            join_around(ept, gpa);
            return NULL;
        }
        entry = find_entry(ept, gpa, &level);
    }
    return entry;
}

int ept_pin(struct ept *ept, gpa_t page, struct ept_pin *pin)
{
    bool done;
    unsigned level;

    ASSERT(IS_ALIGNED(page, PAGE_SIZE) && !pin->listed);
    spinlock_lock(&ept->lock);
    done = *find_entry(ept, page, &level) && split_to_page(ept, page);
    if (done) {
        *pin = (struct ept_pin){.page = page, .listed = true, .next = ept->pins};
        ept->pins = pin;
    }
    spinlock_unlock(&ept->lock);
    return done ? 0 : -1;
}

void ept_unpin(struct ept *ept, struct ept_pin *pin)
{
    struct ept_pin **link = &ept->pins;

    if (!pin->listed)
        return;
    spinlock_lock(&ept->lock);
    while (*link != pin)
        link = &(*link)->next;
    *link = pin->next;
    pin->listed = false;
    join_around(ept, pin->page);
    spinlock_unlock(&ept->lock);
}

static int take_write(struct ept *ept, gpa_t gpa)
{
    uint64_t *entry;

    spinlock_lock(&ept->lock);
    entry = split_to_page(ept, gpa);
    if (entry)
        set_entry(entry, *entry & ~EPT_W);
    ledger_owe_others(va_to_hpa(ept->root), "a page of EPT01 that lost W");
    spinlock_unlock(&ept->lock);
    return entry ? 0 : -1;
}

int ept_write_protect(struct ept *ept, gpa_t gpa)
{
    return is_traceable(ept, gpa) ? take_write(ept, gpa) : -1;
}

int ept_trap_writes(struct ept *ept, gpa_t gpa)
{
    return take_write(ept, gpa);
}

/* More is allowed than before: a processor that still knows the old entry faults once more, so no INVEPT for that. */
void ept_write_allow(struct ept *ept, gpa_t gpa)
{
    unsigned level;
    uint64_t *entry;

    if (!is_traceable(ept, gpa))
        return;
    spinlock_lock(&ept->lock);
    entry = find_entry(ept, gpa, &level);
    set_entry(entry, *entry | EPT_W);
    join_around(ept, gpa);
    spinlock_unlock(&ept->lock);
}

int ept_hide(struct ept *ept, gpa_t page)
{
    unsigned level;
    uint64_t *entry = NULL;

    ASSERT(IS_ALIGNED(page, PAGE_SIZE) && !ept->hidden);
    spinlock_lock(&ept->lock);
    if (!is_traceable(ept, page) && *find_entry(ept, page, &level))
        entry = split_to_page(ept, page);
    if (entry) {
        ept->hidden = entry;
        ept->hidden_page = page;
        ept->hidden_was = *entry;
        set_entry(entry, leaf_entry(ept->ones_page, 1, MEMTYPE_WB) & ~EPT_W);
        ledger_owe_others(va_to_hpa(ept->root), "a page of EPT01 that was hidden");
    }
    spinlock_unlock(&ept->lock);
    return entry ? 0 : -1;
}

void ept_show(struct ept *ept)
{
    spinlock_lock(&ept->lock);
    if (ept->hidden) {
        set_entry(ept->hidden, ept->hidden_was);
        ledger_owe_others(va_to_hpa(ept->root), "a page of EPT01 that was hidden no more");
        ept->hidden = NULL;
        join_around(ept, ept->hidden_page);
    }
    spinlock_unlock(&ept->lock);
}

void ept_retire_done(struct ept *ept, uint64_t generation)
{
    unsigned kept = 0;

    if (__atomic_load_n(&ept->retired_count, __ATOMIC_RELAXED) == 0)
        return;
    spinlock_lock(&ept->lock);
    for (unsigned i = 0; i < ept->retired_count; i++) {
        if (ept->retired[i].generation <= generation)
            page_free(ept->retired[i].table);
        else
            ept->retired[kept++] = ept->retired[i];
    }
    ept->retired_count = kept;
    spinlock_unlock(&ept->lock);
}

bool ept_map_on_demand(struct ept *ept, gpa_t gpa)
{
    bool mapped;

    if (gpa < ept->mapped_end || gpa >> ept->features.address_bits || page_count_free() < ON_DEMAND_RESERVE)
        return false;
    spinlock_lock(&ept->lock);
    mapped = map_gigabyte(ept, ALIGN_DOWN(gpa, GIB)) == 0;
    spinlock_unlock(&ept->lock);
    return mapped;
}

bool ept_is_carveout(const struct ept *ept, gpa_t gpa)
{
    bool hidden = ept->hidden && ALIGN_DOWN(gpa, PAGE_SIZE) == ept->hidden_page;
    return hidden || (gpa >= ept->carveout_base && gpa - ept->carveout_base < ept->carveout_size);
}

uint64_t *ept_carveout_entry(struct ept *ept, gpa_t gpa)
{
    if (ept->hidden && ALIGN_DOWN(gpa, PAGE_SIZE) == ept->hidden_page)
        return ept->hidden;
    return ept_is_carveout(ept, gpa) ? &ept->carveout_table[ept_index(gpa, 1)] : NULL;
}
