#include "nested/ept02/ept02.h"

#include "kernel/cmdline.h"
#include "kernel/layout.h"
#include "kernel/panic.h"
#include "kernel/percpu.h"
#include "kernel/string.h"
#include "mm/page.h"
#include "nested/ept02/ept02_filter.h"
#include "nested/ept02/ept02_tree.h"
#include "nested/ept02/ept12_trace.h"
#include "vmx/vmx_bits.h"

#define EPTP_FLAGS (PUT(MEMTYPE_WB, EPTP_MEMORY_TYPE) | PUT(EPT12_TOP_LEVEL - 1, EPTP_WALK_LENGTH))
#define KEY_MASK (EP4TA | EPTP_AD)

/* --- Pages --- */

void *ept12_take_page(struct ept12 *e)
{
    void *page = NULL;

    if (e->pages_used < e->page_limit)
        page = page_alloc();
    if (page) {
        e->pages_used++;
        return page;
    }
    return e->reserved > 0 ? memset(e->reserve[--e->reserved], 0, PAGE_SIZE) : NULL;
}

void ept12_give_page(struct ept12 *e, void *page)
{
    if (e->reserved < EPT12_RESERVE) {
        e->reserve[e->reserved++] = page;
        return;
    }
    e->pages_used--;
    page_free(page);
}

/* Most entries of most tables are 0. */
static bool any_of_8(const uint64_t *entry)
{
    return entry[0] | entry[1] | entry[2] | entry[3] | entry[4] | entry[5] | entry[6] | entry[7];
}

/* Frees the tables below `table`, which is at `level`, and clears its entries; one of leaves alone goes as it is. */
void ept12_empty_table(struct ept12 *e, uint64_t *table, unsigned level)
{
    for (unsigned i = 0; level > 1 && i < EPT_ENTRIES; i++) {
        if (i % 8 == 0 && !any_of_8(&table[i])) {
            i += 7;
            continue;
        }
        uint64_t entry = table[i];
        if (!entry)
            continue;
        ept12_set_entry(&table[i], 0);
        if (ept_is_leaf(entry, level))
            continue;
        ept12_empty_table(e, ept12_table_of(entry), level - 1);
        ept12_give_page(e, ept12_table_of(entry));
    }
}

/* --- Roots --- */

void ept12_drop(struct ept12 *e, struct ept12_root *root, unsigned level, gpa_t base)
{
    uint64_t *table = root->table, *entry = NULL;

    spinlock_lock(&e->lock);
    for (unsigned at = EPT12_TOP_LEVEL; table && at > level; at--) {
        entry = &table[ept_index(base, at)];
        table = *entry && !ept_is_leaf(*entry, at) ? ept12_table_of(*entry) : NULL;
    }
    if (table) {
        ept12_empty_table(e, table, level);
        ept12_want_invept(root);
    }
    if (table && !entry)
        root->filled = false;
    if (entry && *entry) { /* a leaf there covers it all, and was made of a table above: it goes as well */
        ept12_set_entry(entry, 0);
        ept12_want_invept(root);
        if (table)
            ept12_give_page(e, table);
    }
    spinlock_unlock(&e->lock);
}

static void flush_root(struct ept12 *e, struct ept12_root *root)
{
    if (!root->filled)
        return;
    ept12_empty_table(e, root->table, EPT12_TOP_LEVEL);
    root->filled = false;
    ept12_want_invept(root);
}

static void drop_root(struct ept12 *e, struct ept12_root *root)
{
    flush_root(e, root);
    ept12_give_page(e, root->table);
    root->table = NULL;
    e->settled &= ~(uint32_t)BIT(root - e->root);
    e->roots_changed++;
}

struct ept12_root *ept12_find_root(struct ept12 *e, uint64_t eptp12)
{
    for (unsigned i = 0; i < EPT12_ROOTS; i++)
        if (e->root[i].table && e->root[i].key == (eptp12 & KEY_MASK))
            return &e->root[i];
    return NULL;
}

/* The root that was used longest ago, but not `keep`; NULL when there is no other. */
static struct ept12_root *oldest_root(struct ept12 *e, const struct ept12_root *keep)
{
    struct ept12_root *oldest = NULL;

    for (unsigned i = 0; i < EPT12_ROOTS; i++) {
        struct ept12_root *root = &e->root[i];
        if (root != keep && root->table && (!oldest || root->last_used < oldest->last_used))
            oldest = root;
    }
    return oldest;
}

/* Pages ran out: another root goes, or else all that `keep` maps. Its own table stays, as vmcs02 names it. */
void ept12_recycle(struct ept12 *e, struct ept12_root *keep)
{
    struct ept12_root *victim = oldest_root(e, keep);

    ASSERT(victim || keep);
    if (victim)
        drop_root(e, victim);
    else
        flush_root(e, keep);
    count(COUNT_EPT02_RECYCLED);
}

static struct ept12_root *free_slot(struct ept12 *e)
{
    for (unsigned i = 0; i < EPT12_ROOTS; i++)
        if (!e->root[i].table)
            return &e->root[i];
    return NULL;
}

/* The address of an earlier root's table may come back: INVEPT is wanted before the first use. */
static struct ept12_root *make_root(struct ept12 *e, uint64_t eptp12)
{
    struct ept12_root *root;

    while (!(root = free_slot(e)) || !(root->table = ept12_take_page(e)))
        ept12_recycle(e, NULL);
    root->key = eptp12 & KEY_MASK;
    root->filled = false;
    /* Untraced until its first INVEPT: L1 builds its tables now, and an earlier root may have left trackers here. */
    root->overflow = true;
    ept12_set_dirty(root, true);
    e->covered.size = 0;
    e->settled |= (uint32_t)BIT(root - e->root);
    e->roots_changed++;
    ept12_want_invept(root);
    return root;
}

struct ept12_root *ept12_get_root(struct ept12 *e, uint64_t eptp12)
{
    struct ept12_root *root = e->latest;

    if (!root || !root->table || root->key != (eptp12 & KEY_MASK))
        root = ept12_find_root(e, eptp12);
    if (!root)
        root = make_root(e, eptp12);
    root->last_used = ++e->clock;
    return e->latest = root;
}

struct ept12_root *ept12_root(struct ept12 *ept12, uint64_t eptp12)
{
    struct ept12_root *root;

    spinlock_lock(&ept12->lock);
    root = ept12_get_root(ept12, eptp12);
    spinlock_unlock(&ept12->lock);
    return root;
}

uint64_t ept12_eptp(const struct ept12_root *root)
{
    /* A/D flags exactly as L1 has them: with them on, the CPU's walks of L2's page tables count as writes, which L1's
     * EPT12 must then allow. */
    return va_to_hpa(root->table) | EPTP_FLAGS | (root->key & EPTP_AD);
}

static void flush_tree(struct ept12 *e, struct ept12_root *root)
{
    spinlock_lock(&e->lock);
    if (root->filled) {
        flush_root(e, root);
        count(COUNT_EPT02_FLUSHES);
    }
    spinlock_unlock(&e->lock);
}

void ept12_look(struct ept12 *e, struct ept12_root *root)
{
    if (!(__atomic_load_n(&root->owes, __ATOMIC_RELAXED) & EPT12_OWES_LOOK))
        return;
    (void)__atomic_fetch_and(&root->owes, (uint8_t)~EPT12_OWES_LOOK, __ATOMIC_SEQ_CST);
    e->settled |= (uint32_t)BIT(root - e->root);
    e->looks++;
    if (!__atomic_load_n(&root->dirty, __ATOMIC_SEQ_CST))
        return;
    e->covered.size = 0;
    if (e->trace)
        ept12_trace_look(e, root);
    else
        flush_tree(e, root); /* and it stays dirty */
}

/* What another processor takes away from here on is told of by EPT01's generation. */
void ept12_settle_debt(struct ept12 *e, struct ept12_root *root)
{
    ept12_look(e, root);
    __atomic_store_n(&root->owes, 0, __ATOMIC_SEQ_CST);
}

/* Root operation caches nothing for an EPT02, and L1's next entry may be far: nothing is due before that. One that owes a
 * look already cannot owe more. */
static inline void owe_matching(struct ept12 *e, uint64_t eptp12, uint64_t mask)
{
    for (uint32_t settled = e->settled; settled; settled &= settled - 1) {
        struct ept12_root *root = &e->root[__builtin_ctz(settled)];
        if (((root->key ^ eptp12) & mask) || options.fault == FAULT_SKIP_INVEPT)
            continue;
        e->settled &= ~(settled & -settled);
        __atomic_fetch_or(&root->owes, EPT12_OWES_LOOK | EPT12_OWES_INVEPT, __ATOMIC_SEQ_CST);
        if (options.fault == FAULT_INVEPT_AT_ONCE)
            ept12_look(e, root);
    }
}

/* SDM 3C 29.4.3.1 "Operations that Invalidate Cached Mappings": bits 51:12 of the EPTP tell which. */
void ept12_invept_single(struct ept12 *ept12, uint64_t eptp12)
{
    owe_matching(ept12, eptp12, EP4TA);
}

void ept12_invept_all(struct ept12 *ept12)
{
    owe_matching(ept12, 0, 0);
}

void ept12_forget_all(struct ept12 *ept12)
{
    for (unsigned i = 0; i < EPT12_ROOTS; i++)
        if (ept12->root[i].table)
            flush_tree(ept12, &ept12->root[i]);
    ept12->covered.size = 0;
    ept12_trace_forget(ept12);
}

void ept12_forget(struct ept12 *ept12, uint64_t eptp12, gpa_t gpa2)
{
    struct ept12_root *root;
    uint64_t *table;

    spinlock_lock(&ept12->lock);
    root = ept12_find_root(ept12, eptp12);
    table = root ? root->table : NULL;
    for (unsigned level = EPT12_TOP_LEVEL; table; level--) {
        uint64_t *entry = &table[ept_index(gpa2, level)], value = *entry;
        table = value && !ept_is_leaf(value, level) ? ept12_table_of(value) : NULL;
        if (value && !table) {
            ept12_set_entry(entry, 0);
            ept12_want_invept(root);
        }
    }
    spinlock_unlock(&ept12->lock);
}

/* --- Write protection --- */

/* Takes W from every leaf below `table` that maps the page; true when there was one. */
static bool protect_below(uint64_t *table, unsigned level, gpa_t page)
{
    bool found = false;

    for (unsigned i = 0; i < EPT_ENTRIES; i++) {
        if (i % 8 == 0 && !any_of_8(&table[i])) {
            i += 7;
            continue;
        }
        uint64_t entry = table[i];
        if (!ept_is_leaf(entry, level)) {
            found |= entry && protect_below(ept12_table_of(entry), level - 1, page);
        } else if ((entry & EPT_W) && ((entry ^ page) & EPT_ADDRESS & ~(ept_level_size(level) - 1)) == 0) {
            ept12_set_entry(&table[i], entry & ~EPT_W);
            found = true;
        }
    }
    return found;
}

void ept12_protect(void *context, gpa_t page)
{
    struct ept12_shared *shared = context;

    if (!ept12_take_mark(shared, page))
        return;
    spinlock_lock(&shared->lock);
    for (struct ept12 *e = shared->list; e; e = e->next) {
        spinlock_lock(&e->lock);
        for (unsigned i = 0; i < EPT12_ROOTS; i++)
            if (e->root[i].table && protect_below(e->root[i].table, EPT12_TOP_LEVEL, page))
                ept12_want_invept(&e->root[i]);
        spinlock_unlock(&e->lock);
    }
    spinlock_unlock(&shared->lock);
}

struct ept_leaf ept12_translate(struct ept12 *ept12, uint64_t eptp12, gpa_t gpa2)
{
    struct ept12_root *root = ept12_find_root(ept12, eptp12);
    const uint64_t *table = root ? root->table : NULL;

    for (unsigned level = EPT12_TOP_LEVEL; table; level--) {
        uint64_t entry = table[ept_index(gpa2, level)];
        if (!entry)
            break;
        if (ept_is_leaf(entry, level))
            return ept_leaf_of(entry, gpa2, level);
        table = ept12_table_of(entry);
    }
    return (struct ept_leaf){0};
}

/* --- The end --- */

void ept12_release(struct ept12 *ept12)
{
    struct ept12 **link = &ept12->shared->list;

    spinlock_lock(&ept12->shared->lock);
    while (*link && *link != ept12)
        link = &(*link)->next;
    ASSERT(*link);
    *link = ept12->next;
    spinlock_unlock(&ept12->shared->lock);
    for (unsigned i = 0; i < EPT12_ROOTS; i++)
        if (ept12->root[i].table)
            drop_root(ept12, &ept12->root[i]);
    ept12_trace_release(ept12);
    ept12_free_reserve(ept12);
    ASSERT(ept12->pages_used == EPT12_RESERVE);
}
