/* A tracker is a watch on one table of EPT12, at a place in the tree of one EPT02. L1's store to the table faults
 * once, and leaves `dirty`; the look before an entry drops what hangs below dirty places and keeps everything else.
 * Without trackers an INVEPT of L1 would empty the whole tree, and L2 would fault it in again page by page.
 *
 * Two limits keep this cheap. A table of the last level that is stored to between most looks costs more by its
 * faults than it saves, so it rests, longer each time; and if there are more tables than trackers, each look drops what
 * was made of those that have none. */
#include "nested/ept02/ept12_trace.h"

#include "kernel/cmdline.h"
#include "kernel/panic.h"
#include "kernel/percpu.h"
#include "kernel/string.h"
#include "mm/page.h"
#include "nested/ept02/ept02_tree.h"
#include "vmx/vmx_bits.h"

#define TOP_LEVEL 4u
#define NO_PAGE (~0ull) /* of a tracker that watches nothing */
#define HEAT_MAX 3u     /* a table that is rewritten all the time rests for up to 2^3 - 1 looks */
#define TRACE_PAGES ((sizeof(struct ept12_trace) + PAGE_SIZE - 1) / PAGE_SIZE)
#define SHORT_LOOKS 64u /* looks at too few trackers, before all are given to those who ask first */

int ept12_trace_init(struct ept02s *e)
{
    e->trace = page_alloc_run(TRACE_PAGES);
    return e->trace ? 0 : -1;
}

/* Watches first: after that nobody writes to a tracker. */
void ept12_trace_forget(struct ept02s *e)
{
    struct ept12_trace *trace = e->trace;

    if (!trace || !trace->used)
        return;
    for (unsigned i = 0; i < trace->used; i++)
        ept_watch_remove(e->shared->gmem->watch, &trace->tracker[i].watcher);
    memset(trace->bucket, 0, sizeof(trace->bucket));
    trace->used = 0;
    trace->latest = NULL;
}

void ept12_trace_release(struct ept02s *e)
{
    ept12_trace_forget(e);
    for (unsigned i = 0; e->trace && i < TRACE_PAGES; i++)
        page_free((uint8_t *)e->trace + i * PAGE_SIZE);
    e->trace = NULL;
}

/* Runs on the processor that stored, under the lock of ept_watch. */
static void tracker_stale(struct watcher *watcher)
{
    struct ept12_tracker *t = (struct ept12_tracker *)watcher;
    _Static_assert(offsetof(struct ept12_tracker, watcher) == 0, "tracker_stale() converts the pointer");

    __atomic_store_n(&t->dirty, true, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&t->repeats, __ATOMIC_SEQ_CST) && options.fault != FAULT_KEEP_MISCONFIGURED)
        ept02_stop_repeating(t->ept02s, t->root, t->base);
    ept02_set_dirty(t->root, true); /* last: a look takes it first */
}

/* The first gpa2 that a table of this level translates. */
static gpa_t base_of(gpa_t gpa2, unsigned level)
{
    return level == TOP_LEVEL ? 0 : ALIGN_DOWN(gpa2, ept_level_size(level + 1));
}

/* True if the tracker stands at this place of this tree. */
static bool is_at(const struct ept12_tracker *t, const struct ept02_root *root, unsigned level, gpa_t base)
{
    return t->root == root && t->level == level && t->base == base;
}

/* Hash chains by place; numbers start at 1, as 0 ends a chain. */
static uint16_t *bucket_of(struct ept12_trace *trace, unsigned level, gpa_t base)
{
    return &trace->bucket[(base / LARGE_2M + base / LARGE_1G + 64 * level) % EPT12_TRACKER_BUCKETS];
}

/* The tracker of a place, or NULL. */
static struct ept12_tracker *find_tracker(struct ept12_trace *trace, const struct ept02_root *root, unsigned level,
                                          gpa_t base)
{
    for (unsigned number = *bucket_of(trace, level, base); number; number = trace->tracker[number - 1].next)
        if (is_at(&trace->tracker[number - 1], root, level, base))
            return &trace->tracker[number - 1];
    return NULL;
}

bool ept12_trace_covers(struct ept02s *e, const struct ept02_root *root, gpa_t gpa2, gpa_t table12, unsigned level)
{
    gpa_t base = base_of(gpa2, level);
    struct ept12_tracker *t = e->trace->latest;

    /* L2 mostly faults below the table where it did last. */
    if (!t || !is_at(t, root, level, base))
        t = find_tracker(e->trace, root, level, base);
    if (!t || t->watcher.page != table12)
        return false;
    e->trace->latest = t;
    return true;
}

bool ept12_trace_may_repeat(struct ept02s *e, const struct ept02_root *root, gpa_t gpa2, const struct ept12_walk *walk)
{
    struct ept12_tracker *t = find_tracker(e->trace, root, 1, base_of(gpa2, 1));

    if (!t || t->watcher.page != walk->table)
        return false;
    __atomic_store_n(&t->repeats, true, __ATOMIC_SEQ_CST); /* before the look: a store looks the other way round */
    return !__atomic_load_n(&t->dirty, __ATOMIC_SEQ_CST);
}

/* NULL when none is left. */
static struct ept12_tracker *make_tracker(struct ept02s *e, struct ept02_root *root, unsigned level, gpa_t base)
{
    struct ept12_trace *trace = e->trace;
    uint16_t *bucket = bucket_of(trace, level, base);
    struct ept12_tracker *t = &trace->tracker[trace->used];

    if (trace->used == EPT12_TRACKERS)
        return NULL;
    *t = (struct ept12_tracker){.watcher = {.page = NO_PAGE, .stale = tracker_stale, .flags_are_nothing = true},
                                .ept02s = e,
                                .root = root,
                                .level = level,
                                .base = base,
                                .next = *bucket};
    *bucket = (uint16_t)++trace->used;
    return t;
}

/* The next look at this root drops what was made of the table. */
static void set_dirty(struct ept12_tracker *t)
{
    t->dirty = true;
    ept02_set_dirty(t->root, true);
}

/* The table at the tracker's place is now the one at `page`. */
static void arm(struct ept02s *e, struct ept12_tracker *t, gpa_t page)
{
    ept_watch_remove(e->shared->gmem->watch, &t->watcher);
    if (t->repeats) /* a store to the old one is no longer heard of */
        ept02_stop_repeating(e, t->root, t->base);
    t->watcher.page = page;
    t->dirty = t->untraceable = t->repeats = false;
    t->armed_at = e->looks;
    if (t->rest == 0 && ept_watch_add(e->shared->gmem->watch, page, &t->watcher) == 0)
        return;
    /* It rests, or the CPU writes that page past EPT: each look drops what was made of it. */
    t->untraceable = t->rest == 0;
    set_dirty(t);
}

/* Each table is watched before its entry is read. A store that comes between is seen by the watch, one that came before
 * is read. */
bool ept12_trace_path(struct ept02s *e, struct ept02_root *root, uint64_t eptp12, gpa_t gpa2)
{
    gpa_t table = eptp12 & EP4TA;

    for (unsigned level = TOP_LEVEL; level > 0; level--) {
        gpa_t base = base_of(gpa2, level);
        struct ept12_tracker *t = find_tracker(e->trace, root, level, base);
        uint64_t entry;
        if (!t && !(t = make_tracker(e, root, level, base))) {
            root->partly = true;
            ept02_set_dirty(root, true);
            return false;
        }
        /* L1 hung another table in the place: the new one is traced from here on. */
        if (t->watcher.page != table)
            arm(e, t, table);
        (void)gmem_read64(e->shared->gmem, table + 8 * ept_index(gpa2, level), &entry);
        /* The walk ends here, and so does what EPT02 was made of. */
        if (!(entry & ept12_rights(eptp12)) || (entry & EPT_LARGE))
            return true;
        table = entry & EPT_ADDRESS;
    }
    return true;
}

/* Tables below the place hang on one that may name others now: known again when a walk comes by. */
static void forget_below(struct ept02s *e, const struct ept02_root *root, unsigned level, gpa_t base)
{
    for (unsigned i = 0; i < e->trace->used; i++) {
        struct ept12_tracker *t = &e->trace->tracker[i];
        if (t->root != root || t->level >= level || t->base - base >= ept_level_size(level + 1))
            continue;
        ept_watch_remove(e->shared->gmem->watch, &t->watcher);
        t->watcher.page = NO_PAGE;
        t->dirty = t->untraceable = false;
    }
}

/* All that was made of the table has gone. Whether it is traced from the next fill on, or rests for some INVEPTs. One
 * above the last level never rests: all below it would go each time, for a store that is rare there. */
static void settle(const struct ept02s *e, struct ept12_tracker *t)
{
    if (t->untraceable) {
        set_dirty(t);
        return;
    }
    if (t->rest > 0) {
        t->rest--;
    } else {
        /* Dropped at the look right after it was armed: each such time doubles how long it rests next. */
        bool at_once = t->level == 1 && t->armed_at + 1 == e->looks;
        t->heat = (uint8_t)(at_once ? MIN(t->heat + 1u, HEAT_MAX) : 0);
        t->rest = (uint8_t)(BIT(t->heat) - 1);
    }
    if (t->rest > 0)
        set_dirty(t);
    else
        t->watcher.page = NO_PAGE;
}

/* Below the table of EPT02 of the entry `above`, which is of `level` and whose entry 0 maps `base`: whatever stands
 * where no tracker does goes. A table that was made of a large page of EPT12's has none either. */
static void drop_unknown(struct ept02s *e, struct ept02_root *root, uint64_t above, unsigned level, gpa_t base)
{
    const uint64_t *table = ept02_table_of(above);

    if (!find_tracker(e->trace, root, level, base)) {
        ept02_drop(e, root, level, base);
        return;
    }
    for (unsigned i = 0; level > 1 && (i = ept02_next_used(table, GET(above, EPT02_USED), i)) < EPT_ENTRIES; i++)
        if (!ept_is_leaf(table[i], level))
            drop_unknown(e, root, table[i], level - 1, base + i * ept_level_size(level));
}

/* The trackers of tables that are no longer in use are for others. */
static void start_anew(struct ept02s *e)
{
    for (unsigned i = 0; i < EPT02_ROOTS; i++)
        if (e->root[i].table) {
            ept02_drop(e, &e->root[i], TOP_LEVEL, 0);
            e->root[i].partly = false;
        }
    ept12_trace_forget(e);
    e->trace->short_looks = 0;
}

/* Some tables are not known: what was made of them goes. */
static void look_at_unknown(struct ept02s *e, struct ept02_root *root)
{
    if (root->overflow) {
        ept02_drop(e, root, TOP_LEVEL, 0);
        forget_below(e, root, TOP_LEVEL, 0);
    } else if (++e->trace->short_looks == SHORT_LOOKS) {
        start_anew(e);
    } else {
        drop_unknown(e, root, ept02_top_entry(root), TOP_LEVEL, 0);
    }
    root->overflow = root->partly = false;
}

/* Dirty trackers one after the other; each drop is a search from the root, so their order does not matter. */
void ept12_trace_look(struct ept02s *e, struct ept02_root *root)
{
    struct ept12_trace *trace = e->trace;

    /* First, as tracker_stale() sets it last: a store that comes now makes it true again. */
    ept02_set_dirty(root, false);
    if (root->overflow || root->partly)
        look_at_unknown(e, root);
    for (unsigned i = 0; i < trace->used; i++) {
        struct ept12_tracker *t = &trace->tracker[i];
        if (t->root != root || !__atomic_load_n(&t->dirty, __ATOMIC_SEQ_CST))
            continue;
        ept02_drop(e, root, t->level, t->base);
        if (t->level > 1)
            forget_below(e, root, t->level, t->base);
        t->dirty = false;
        settle(e, t);
    }
    count(COUNT_EPT02_FLUSHES);
}
