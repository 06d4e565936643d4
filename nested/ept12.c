#include "nested/ept12.h"

#include "kernel/layout.h"
#include "kernel/panic.h"
#include "kernel/percpu.h"
#include "kernel/string.h"
#include "mm/page.h"
#include "nested/ept12_filter.h"
#include "nested/ept12_trace.h"
#include "vmx/vmx_bits.h"

#define TOP_LEVEL 4u
#define EPTP_FLAGS (PUT(MEMTYPE_WB, EPTP_MEMORY_TYPE) | PUT(TOP_LEVEL - 1, EPTP_WALK_LENGTH))
#define KEY_MASK (EP4TA | EPTP_AD)
/* Preset: the processor then writes no EPT02 entry, whether or not the EPTP has A/D flags on. */
#define TABLE_FLAGS (EPT_RWX | EPT_A)
#define PREFETCHED 16u

/* --- Pages --- */

static void *take_page(struct ept12 *e)
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

static void give_page(struct ept12 *e, void *page)
{
    if (e->reserved < EPT12_RESERVE) {
        e->reserve[e->reserved++] = page;
        return;
    }
    e->pages_used--;
    page_free(page);
}

static uint64_t *table_of(uint64_t entry)
{
    return hpa_to_va(entry & EPT_ADDRESS);
}

static void set_entry(uint64_t *entry, uint64_t value)
{
    __atomic_store_n(entry, value, __ATOMIC_RELEASE);
}

static bool any_of_8(const uint64_t *entry)
{
    return entry[0] | entry[1] | entry[2] | entry[3] | entry[4] | entry[5] | entry[6] | entry[7];
}

/* Frees the tables below `table`, which is at `level`, and clears its entries; one of leaves alone goes as it is. */
static void empty_table(struct ept12 *e, uint64_t *table, unsigned level)
{
    for (unsigned i = 0; level > 1 && i < EPT_ENTRIES; i++) {
        if (i % 8 == 0 && !any_of_8(&table[i])) {
            i += 7; /* most entries of most tables are 0 */
            continue;
        }
        uint64_t entry = table[i];
        if (!entry)
            continue;
        set_entry(&table[i], 0);
        if (ept_is_leaf(entry, level))
            continue;
        empty_table(e, table_of(entry), level - 1);
        give_page(e, table_of(entry));
    }
}

/* --- Roots --- */

static void want_invept(struct ept12_root *root)
{
    __atomic_store_n(&root->needs_invept, true, __ATOMIC_SEQ_CST);
}

void ept12_drop(struct ept12 *e, struct ept12_root *root, unsigned level, gpa_t base)
{
    uint64_t *table = root->table, *entry = NULL;

    spinlock_lock(&e->lock);
    for (unsigned at = TOP_LEVEL; table && at > level; at--) {
        entry = &table[ept_index(base, at)];
        table = *entry && !ept_is_leaf(*entry, at) ? table_of(*entry) : NULL;
    }
    if (table) {
        empty_table(e, table, level);
        want_invept(root);
    }
    if (table && !entry)
        root->filled = false;
    if (entry && *entry) { /* a leaf there covers it all, and was made of a table above: it goes as well */
        set_entry(entry, 0);
        want_invept(root);
        if (table)
            give_page(e, table);
    }
    spinlock_unlock(&e->lock);
}

static void flush_root(struct ept12 *e, struct ept12_root *root)
{
    if (!root->filled)
        return;
    empty_table(e, root->table, TOP_LEVEL);
    root->filled = false;
    want_invept(root);
}

static void drop_root(struct ept12 *e, struct ept12_root *root)
{
    flush_root(e, root);
    give_page(e, root->table);
    root->table = NULL;
    e->roots_changed++;
}

static struct ept12_root *find_root(struct ept12 *e, uint64_t eptp12)
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
static void recycle(struct ept12 *e, struct ept12_root *keep)
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

    while (!(root = free_slot(e)) || !(root->table = take_page(e)))
        recycle(e, NULL);
    root->key = eptp12 & KEY_MASK;
    root->filled = false;
    /* Untraced until its first INVEPT: L1 builds its tables now, and an earlier root may have left trackers here. */
    root->dirty = root->overflow = true;
    e->covered.size = 0;
    e->roots_end = MAX(e->roots_end, (unsigned)(root - e->root) + 1);
    e->roots_changed++;
    want_invept(root);
    return root;
}

static struct ept12_root *get_root(struct ept12 *e, uint64_t eptp12)
{
    struct ept12_root *root = e->latest;

    if (!root || !root->table || root->key != (eptp12 & KEY_MASK))
        root = find_root(e, eptp12);
    if (!root)
        root = make_root(e, eptp12);
    root->last_used = ++e->clock;
    return e->latest = root;
}

struct ept12_root *ept12_root(struct ept12 *ept12, uint64_t eptp12)
{
    struct ept12_root *root;

    spinlock_lock(&ept12->lock);
    root = get_root(ept12, eptp12);
    spinlock_unlock(&ept12->lock);
    return root;
}

uint64_t ept12_eptp(const struct ept12_root *root)
{
    /* A/D flags exactly as L1 has them: with them on, the CPU's walks of L2's page tables count as writes, which L1's
     * EPT12 must then allow. */
    return va_to_hpa(root->table) | EPTP_FLAGS | (root->key & EPTP_AD);
}

static bool is_named(const struct ept12_root *root, uint64_t eptp12, uint64_t mask)
{
    return root->table && !((root->key ^ eptp12) & mask);
}

static NOINLINE void flush_dirty(struct ept12 *e, uint64_t eptp12, uint64_t mask)
{
    e->covered.size = 0;
    for (struct ept12_root *root = e->root; root < e->root + e->roots_end; root++)
        if (root->dirty && is_named(root, eptp12, mask))
            ept12_trace_invept(e, root);
}

static inline void flush_traced(struct ept12 *e, uint64_t eptp12, uint64_t mask)
{
    e->invepts++;
    for (struct ept12_root *root = e->root; root < e->root + e->roots_end; root++) {
        if (!__atomic_load_n(&root->dirty, __ATOMIC_SEQ_CST) || !is_named(root, eptp12, mask))
            continue;
        flush_dirty(e, eptp12, mask);
        return;
    }
}

static NOINLINE void flush_filled(struct ept12 *e, uint64_t eptp12, uint64_t mask)
{
    spinlock_lock(&e->lock);
    for (struct ept12_root *root = e->root; root < e->root + e->roots_end; root++) {
        if (!root->filled || !is_named(root, eptp12, mask))
            continue;
        flush_root(e, root);
        count(COUNT_EPT02_FLUSHES);
    }
    spinlock_unlock(&e->lock);
}

/* Only this processor fills a tree: what is empty needs no lock. */
static inline void flush_matching(struct ept12 *e, uint64_t eptp12, uint64_t mask)
{
    if (e->trace) {
        flush_traced(e, eptp12, mask);
        return;
    }
    for (struct ept12_root *root = e->root; root < e->root + e->roots_end; root++) {
        if (!root->filled || !is_named(root, eptp12, mask))
            continue;
        flush_filled(e, eptp12, mask);
        return;
    }
}

/* SDM 3C 29.4.3.1 "Operations that Invalidate Cached Mappings": bits 51:12 of the EPTP tell which. */
void ept12_invept_single(struct ept12 *ept12, uint64_t eptp12)
{
    flush_matching(ept12, eptp12, EP4TA);
}

void ept12_invept_all(struct ept12 *ept12)
{
    flush_matching(ept12, 0, 0);
}

void ept12_forget_all(struct ept12 *ept12)
{
    flush_filled(ept12, 0, 0);
    ept12->covered.size = 0;
    ept12_trace_forget(ept12);
}

void ept12_forget(struct ept12 *ept12, uint64_t eptp12, gpa_t gpa2)
{
    struct ept12_root *root;
    uint64_t *table;

    spinlock_lock(&ept12->lock);
    root = find_root(ept12, eptp12);
    table = root ? root->table : NULL;
    for (unsigned level = TOP_LEVEL; table; level--) {
        uint64_t *entry = &table[ept_index(gpa2, level)], value = *entry;
        table = value && !ept_is_leaf(value, level) ? table_of(value) : NULL;
        if (value && !table) {
            set_entry(entry, 0);
            want_invept(root);
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
        uint64_t entry = table[i];
        if (!ept_is_leaf(entry, level)) {
            found |= entry && protect_below(table_of(entry), level - 1, page);
        } else if ((entry & EPT_W) && ((entry ^ page) & EPT_ADDRESS & ~(ept_level_size(level) - 1)) == 0) {
            set_entry(&table[i], entry & ~EPT_W);
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
            if (e->root[i].table && protect_below(e->root[i].table, TOP_LEVEL, page))
                want_invept(&e->root[i]);
        spinlock_unlock(&e->lock);
    }
    spinlock_unlock(&shared->lock);
}

/* --- Filling --- */

/* The entry of gpa2 at `level`, tables made on the way; NULL when pages ran out. A large leaf in the way goes. */
static uint64_t *descend(struct ept12 *e, struct ept12_root *root, gpa_t gpa2, unsigned level)
{
    uint64_t *table = root->table;

    for (unsigned at = TOP_LEVEL; at > level; at--) {
        uint64_t *entry = &table[ept_index(gpa2, at)];
        if (!*entry || ept_is_leaf(*entry, at)) {
            uint64_t *below = take_page(e);
            if (!below)
                return NULL;
            if (*entry)
                want_invept(root);
            set_entry(entry, va_to_hpa(below) | TABLE_FLAGS);
            root->filled = true;
        }
        table = table_of(*entry);
    }
    return &table[ept_index(gpa2, level)];
}

/* Whether all that `old` allowed is allowed alike by `new`: then the processor need not forget the old one. */
static bool only_adds(uint64_t old, uint64_t new)
{
    return !(old & EPT_RWX) || ((old & ~EPT_RWX) == (new & ~EPT_RWX) && !(old & EPT_RWX & ~new));
}

static uint64_t *install(struct ept12 *e, struct ept12_root *root, gpa_t gpa2, unsigned level, uint64_t leaf)
{
    uint64_t *entry, old;

    while (!(entry = descend(e, root, gpa2, level)))
        recycle(e, root);
    root->filled = true;
    old = *entry;
    set_entry(entry, leaf);
    if (old && !ept_is_leaf(old, level)) {
        empty_table(e, table_of(old), level - 1);
        give_page(e, table_of(old));
        want_invept(root);
    } else if (!only_adds(old, leaf)) {
        want_invept(root);
    }
    count(COUNT_EPT02_FILLS);
    return entry;
}

/* EPT01's leaf for gpa1; level 0 when nothing can be mapped there. */
static struct ept_leaf ept01_leaf(struct ept12 *e, gpa_t gpa1)
{
    struct ept_leaf leaf = ept_translate(e->shared->ept01, gpa1);

    if (leaf.level == 0 && ept_map_on_demand(e->shared->ept01, gpa1))
        leaf = ept_translate(e->shared->ept01, gpa1);
    return leaf;
}

/* What the walk may make writable is marked before EPT01 is looked at. ept12_protect() runs after EPT01 lost W: either
 * it sees the mark and waits for the lock, or EPT01's change is seen here. */
static void mark_writable(struct ept12 *e, const struct ept12_walk *walk, unsigned level)
{
    uint64_t size = ept_level_size(level);

    if (walk->permissions & EPT_W)
        ept12_mark_writable(e->shared, walk->gpa1 & ~(size - 1), size);
}

/* EPT01's leaf behind the walk's, with all marked that the two together may make writable. */
static inline void look_at_ept01(struct ept12 *e, const struct ept12_walk *walk, struct ept_leaf *leaf)
{
    mark_writable(e, walk, MIN(walk->level, 2));
    *leaf = ept01_leaf(e, walk->gpa1);
    if (MIN(walk->level, leaf->level) < 3)
        return;
    mark_writable(e, walk, 3); /* rare, and dear */
    *leaf = ept01_leaf(e, walk->gpa1);
}

/* L2 goes through its memory page by page, as the entry before `entry` shows: maps the next ones too, as far as L1's
 * table has them, EPT01 has one large page behind them, and no flag of EPT12 is to be set. */
static void prefetch(struct ept12 *e, uint64_t eptp12, uint64_t *entry, const struct ept12_walk *walk,
                     const struct ept_leaf *ept01)
{
    uint64_t *table = (uint64_t *)ALIGN_DOWN((uintptr_t)entry, PAGE_SIZE), leaf[PREFETCHED];
    unsigned index = (unsigned)(entry - table), found = 0;

    if (walk->level != 1 || ept01->level == 1 || index == 0 || !table[index - 1])
        return;
    while (found < PREFETCHED && index + 1 + found < EPT_ENTRIES && !table[index + 1 + found]) {
        struct ept12_walk next = ept12_next(e->shared->gmem, &e->rules, eptp12, walk, index + 1 + found);
        struct ept_leaf next01 = *ept01;
        if (next.kind != EPT12_WALK_OK || (next.gpa1 ^ walk->gpa1) & ~(ept_level_size(ept01->level) - 1))
            break;
        next01.hpa = next.gpa1; /* EPT01 is an identity map */
        leaf[found] = ept12_leaf(&next, &next01);
        if (leaf[found] & EPT_W)
            ept12_mark_writable(e->shared, next.gpa1, PAGE_SIZE);
        found++;
    }
    if (!found)
        return;
    struct ept_leaf again = ept_translate(e->shared->ept01, walk->gpa1);
    if (again.level != ept01->level || again.permissions != ept01->permissions)
        return;
    for (unsigned i = 0; i < found; i++)
        set_entry(&table[index + 1 + i], leaf[i]);
    count_add(COUNT_EPT02_FILLS, found);
}

/* The walk allowed the access; what EPT01 says is the rest. The lock is held from the look at EPT01 to the store. */
static enum ept12_result fill_allowed(struct ept12 *e, uint64_t eptp12, gpa_t gpa2, uint64_t access,
                                      const struct ept12_walk *walk, struct ept12_exit *out)
{
    struct ept_leaf ept01;
    look_at_ept01(e, walk, &ept01);
    unsigned level = MIN(walk->level, ept01.level);
    bool refused = (access & EPT_W) && !(ept01.permissions & EPT_W);
    bool carveout = ept_is_carveout(e->shared->ept01, walk->gpa1);
    uint64_t leaf;

    if (level == 0)
        return EPT12_VIOLATION;
    out->gpa1 = walk->gpa1;
    if (refused && !carveout)
        return EPT12_WATCH;
    leaf = ept12_leaf(walk, &ept01);
    out->entry = install(e, get_root(e, eptp12), gpa2, level, leaf);
    if (!carveout && level == 1)
        prefetch(e, eptp12, out->entry, walk, &ept01);
    return refused ? EPT12_CARVEOUT : EPT12_FILLED;
}

/* The hardware's word on the access, L1's tables' on what they allow. SDM 3C table "Exit Qualification for EPT
 * Violations": bits 5:3 are the AND along the walk. With A/D flags on, a page walk of L2's counts as read and write;
 * not every CPU says both. */
static uint64_t reflected_qualification(uint64_t eptp12, uint64_t hardware, uint64_t access, uint64_t permissions)
{
    uint64_t kept = EPT_QUAL_GLA_VALID | EPT_QUAL_NOT_WALK | EPT_QUAL_NMI_UNBLOCKING;
    bool page_walk = (hardware & (EPT_QUAL_GLA_VALID | EPT_QUAL_NOT_WALK)) == EPT_QUAL_GLA_VALID;

    if ((eptp12 & EPTP_AD) && page_walk && (access & EPT_QUAL_WRITE))
        access |= EPT_QUAL_READ;
    return access | (hardware & kept) | (permissions & EPT_RWX) * EPT_QUAL_ALLOWED_READ;
}

static NOINLINE bool find_cover(struct ept12 *e, uint64_t eptp12, gpa_t gpa2, const struct ept12_walk *walk)
{
    const struct ept12_root *root = find_root(e, eptp12);

    if (!root || (!root->overflow && !ept12_trace_covers(e, root, gpa2, walk)))
        return false;
    e->covered.eptp12 = eptp12;
    e->covered.table = walk->table;
    e->covered.size = ept_level_size(walk->level + 1);
    e->covered.base = ALIGN_DOWN(gpa2, e->covered.size);
    return true;
}

/* Whether INVEPT knows what the walk has read. */
static inline bool is_covered(struct ept12 *e, uint64_t eptp12, gpa_t gpa2, const struct ept12_walk *walk)
{
    return (gpa2 - e->covered.base < e->covered.size && e->covered.table == walk->table &&
            e->covered.eptp12 == eptp12) ||
           find_cover(e, eptp12, gpa2, walk);
}

/* Traces the tables on the way and walks again. One that L1 put in the way meanwhile stays unknown. */
static NOINLINE struct ept12_walk walk_traced(struct ept12 *e, uint64_t eptp12, gpa_t gpa2, uint64_t access,
                                              bool log_full)
{
    struct ept12_root *root = ept12_root(e, eptp12);
    struct ept12_walk walk;

    e->covered.size = 0;
    ept12_trace_path(e, root, eptp12, gpa2);
    walk = ept12_walk(e->shared->gmem, &e->rules, eptp12, gpa2, access, log_full);
    if (walk.kind == EPT12_WALK_OK && !ept12_trace_covers(e, root, gpa2, &walk)) {
        root->overflow = true;
        __atomic_store_n(&root->dirty, true, __ATOMIC_SEQ_CST);
    }
    return walk;
}

enum ept12_result ept12_fill(struct ept12 *ept12, uint64_t eptp12, gpa_t gpa2, uint64_t access, uint64_t qualification,
                             bool log_full, struct ept12_exit *out)
{
    /* Without the lock: tracing, and setting A/D flags, may take that of ept_watch, which comes before ours. */
    struct ept12_walk walk = ept12_walk(ept12->shared->gmem, &ept12->rules, eptp12, gpa2, access, log_full);
    if (ept12->trace && walk.kind == EPT12_WALK_OK && !is_covered(ept12, eptp12, gpa2, &walk)) {
        bool dirtied = walk.sets_dirty; /* the second walk finds the flag set */
        walk = walk_traced(ept12, eptp12, gpa2, access, log_full);
        walk.sets_dirty |= dirtied;
    }
    enum ept12_result result = EPT12_VIOLATION;

    *out = (struct ept12_exit){.suppress_ve = walk.suppress_ve, .dirtied = walk.sets_dirty};
    if (walk.kind == EPT12_WALK_LOG_FULL)
        return EPT12_LOG_FULL;
    if (walk.kind == EPT12_WALK_MISCONFIG)
        return EPT12_MISCONFIG;
    if (walk.kind == EPT12_WALK_RACED)
        return EPT12_FILLED;
    if (walk.kind == EPT12_WALK_OK) {
        spinlock_lock(&ept12->lock);
        result = fill_allowed(ept12, eptp12, gpa2, access, &walk, out);
        spinlock_unlock(&ept12->lock);
    }
    if (result == EPT12_VIOLATION)
        out->qualification = reflected_qualification(eptp12, qualification, access, walk.permissions);
    return result;
}

struct ept_leaf ept12_translate(struct ept12 *ept12, uint64_t eptp12, gpa_t gpa2)
{
    struct ept12_root *root = find_root(ept12, eptp12);
    const uint64_t *table = root ? root->table : NULL;

    for (unsigned level = TOP_LEVEL; table; level--) {
        uint64_t entry = table[ept_index(gpa2, level)];
        if (!entry)
            break;
        if (ept_is_leaf(entry, level))
            return ept_leaf_of(entry, gpa2, level);
        table = table_of(entry);
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
