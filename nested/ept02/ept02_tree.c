/* Memory of the EPT02s: where their pages are from, and which tree gives way when there are none left. A processor
 * may have no more than its share, so that one cannot starve the others, and keeps a small reserve: one path of
 * tables, with which any single address can be mapped. Whatever L2 touches, then, it gets on, be it slowly. */
#include "nested/ept02/ept02_tree.h"

#include "kernel/panic.h"
#include "kernel/percpu.h"
#include "kernel/string.h"
#include "mm/page.h"
#include "vmx/vmx_bits.h"

/* The bits of an EPTP that make another EPT02: the address of the table, whether A/D flags are on, and whose X is
 * meant. */
#define KEY_MASK (EP4TA | EPTP_AD | EPTP12_MODE_BASED)

/* --- Pages --- */

/* Pages that were given back serve first, as they are clean. Then within the processor's share; the reserve last, as it
 * must serve when all else is gone. */
void *ept02_take_page(struct ept02s *e)
{
    void *page = NULL;

    if (e->clean <= EPT02_RESERVE && e->pages_used < e->page_limit)
        page = page_alloc();
    if (page) {
        e->pages_used++;
        return page;
    }
    return e->clean > 0 ? e->kept[--e->clean] : NULL;
}

/* The reserve is filled first: it must be whole before the next fill. */
void ept02_give_page(struct ept02s *e, void *page, unsigned level)
{
    if (e->clean < EPT02_KEPT) {
        e->kept[e->clean++] = level > 1 ? page : memset(page, 0, PAGE_SIZE);
        return;
    }
    e->pages_used--;
    page_free(page);
}

void ept02_empty_table(struct ept02s *e, uint64_t above, unsigned level)
{
    uint64_t *table = ept02_table_of(above), used = GET(above, EPT02_USED);

    for (unsigned i = 0; level > 1 && (i = ept02_next_used(table, used, i)) < EPT_ENTRIES; i++) {
        uint64_t entry = table[i];
        ept02_set_entry(&table[i], 0);
        if (ept_is_leaf(entry, level))
            continue;
        ept02_empty_table(e, entry, level - 1);
        ept02_give_page(e, ept02_table_of(entry), level - 1);
    }
}

/* --- Roots --- */

/* A tracker of EPT12 stands at a place, not at a table: the place is looked for again from the root, as other drops may
 * have taken it away. */
void ept02_drop(struct ept02s *e, struct ept02_root *root, unsigned level, gpa_t base)
{
    uint64_t *table = root->table, *entry = NULL, above = ept02_top_entry(root);

    spinlock_lock(&e->lock);
    for (unsigned at = EPT02_TOP_LEVEL; table && at > level; at--) {
        entry = &table[ept_index(base, at)];
        above = *entry;
        table = above && !ept_is_leaf(above, at) ? ept02_table_of(above) : NULL;
    }
    if (table) {
        ept02_empty_table(e, above, level);
        ept02_want_invept(root);
    }
    if (table && !entry)
        root->used = 0;
    if (entry && *entry) { /* a leaf there covers it all, and was made of a table above: it goes as well */
        ept02_set_entry(entry, 0);
        ept02_want_invept(root);
        if (table)
            ept02_give_page(e, table, level);
    }
    spinlock_unlock(&e->lock);
}

void ept02_stop_repeating(struct ept02s *e, const struct ept02_root *root, gpa_t base)
{
    spinlock_lock(&e->lock);
    uint64_t *table = root->table;
    for (unsigned at = EPT02_TOP_LEVEL; table && at > 1; at--) {
        uint64_t entry = table[ept_index(base, at)];
        table = entry && !ept_is_leaf(entry, at) ? ept02_table_of(entry) : NULL;
    }
    for (unsigned i = 0; table && i < EPT_ENTRIES; i++)
        if (table[i] == EPT02_MISCONFIGURED)
            ept02_set_entry(&table[i], 0);
    spinlock_unlock(&e->lock);
}

/* An empty tree has nothing to drop; the mappings that it had have asked for their INVEPT. */
void ept02_clear(struct ept02s *e, struct ept02_root *root)
{
    if (!root->used)
        return;
    ept02_empty_table(e, ept02_top_entry(root), EPT02_TOP_LEVEL);
    root->used = 0;
    ept02_want_invept(root);
}

void ept02_free(struct ept02s *e, struct ept02_root *root)
{
    ept02_clear(e, root);
    ept02_give_page(e, root->table, EPT02_TOP_LEVEL);
    root->table = NULL;
    e->settled &= ~(uint32_t)BIT(root - e->root);
    e->roots_changed++;
}

/* Few enough to be looked at one by one; `latest` spares most look-ups this. */
struct ept02_root *ept02_find_root(struct ept02s *e, uint64_t eptp12)
{
    for (unsigned i = 0; i < EPT02_ROOTS; i++)
        if (e->root[i].table && e->root[i].key == (eptp12 & KEY_MASK))
            return &e->root[i];
    return NULL;
}

/* The root that was used longest ago, but not `keep`; NULL when there is no other. */
static struct ept02_root *oldest_root(struct ept02s *e, const struct ept02_root *keep)
{
    struct ept02_root *oldest = NULL;

    for (unsigned i = 0; i < EPT02_ROOTS; i++) {
        struct ept02_root *root = &e->root[i];
        if (root != keep && root->table && (!oldest || root->last_used < oldest->last_used))
            oldest = root;
    }
    return oldest;
}

/* Pages ran out: another root goes, or else all that `keep` maps. Its own table stays, as vmcs02 names it. */
void ept02_recycle(struct ept02s *e, struct ept02_root *keep)
{
    struct ept02_root *victim = oldest_root(e, keep);

    ASSERT(victim || keep);
    if (victim)
        ept02_free(e, victim);
    else
        ept02_clear(e, keep);
    count(COUNT_EPT02_RECYCLED);
}

/* A root that has no tree, or NULL. */
static struct ept02_root *free_slot(struct ept02s *e)
{
    for (unsigned i = 0; i < EPT02_ROOTS; i++)
        if (!e->root[i].table)
            return &e->root[i];
    return NULL;
}

/* The address of an earlier root's table may come back: INVEPT is wanted before the first use. */
static struct ept02_root *make_root(struct ept02s *e, uint64_t eptp12)
{
    struct ept02_root *root;

    /* Another root makes room, with its pages. */
    while (!(root = free_slot(e)) || !(root->table = ept02_take_page(e)))
        ept02_recycle(e, NULL);
    root->key = eptp12 & KEY_MASK;
    root->used = 0;
    /* Untraced until its first INVEPT: L1 builds its tables now, and an earlier root may have left trackers here. */
    root->overflow = true;
    root->partly = false;
    ept02_set_dirty(root, true);
    e->covered.size = 0;
    e->settled |= (uint32_t)BIT(root - e->root);
    e->roots_changed++;
    ept02_want_invept(root);
    return root;
}

struct ept02_root *ept02_get_root(struct ept02s *e, uint64_t eptp12)
{
    /* Nearly always the same as last time: no search. */
    struct ept02_root *root = e->latest;

    if (!root || !root->table || root->key != (eptp12 & KEY_MASK))
        root = ept02_find_root(e, eptp12);
    if (!root)
        root = make_root(e, eptp12);
    root->last_used = ++e->clock;
    return e->latest = root;
}
