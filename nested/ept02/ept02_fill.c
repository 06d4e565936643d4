/* Filling EPT02: what an EPT violation of L2 asks for. */
#include "kernel/panic.h"
#include "kernel/percpu.h"
#include "nested/ept02/ept02.h"
#include "nested/ept02/ept02_around.h"
#include "nested/ept02/ept02_filter.h"
#include "nested/ept02/ept02_tree.h"
#include "nested/ept02/ept12_trace.h"
#include "vmx/vmx_bits.h"

/* The entry of gpa2 at `level`, and the one above it; tables made on the way; NULL when pages ran out. A large leaf in
 * the way goes. */
static uint64_t *descend(struct ept02s *e, struct ept02_root *root, gpa_t gpa2, unsigned level, uint64_t **above)
{
    uint64_t *table = root->table;

    *above = NULL;
    for (unsigned at = EPT02_TOP_LEVEL; at > level; at--) {
        unsigned index = ept_index(gpa2, at);
        uint64_t *entry = &table[index];
        if (!*entry || ept_is_leaf(*entry, at)) {
            uint64_t *below = ept02_take_page(e);
            if (!below)
                return NULL;
            if (*entry)
                ept02_want_invept(root);
            ept02_set_entry(entry, va_to_hpa(below) | EPT02_TABLE_FLAGS);
            ept02_tell_used(root, *above, index, index + 1);
        }
        table = ept02_table_of(*entry);
        *above = entry;
    }
    return &table[ept_index(gpa2, level)];
}

/* True if all that `old` allowed is allowed alike by `new`: then the processor need not forget the old one. */
static bool only_adds(uint64_t old, uint64_t new)
{
    uint64_t rights = EPT_RWX | EPT_XU;

    if (!(old & rights) || old == EPT02_MISCONFIGURED)
        return true;
    return (old & ~rights) == (new & ~rights) && !(old & rights & ~new);
}

/* Stores the leaf, whatever stood in its place, and owes an INVEPT where the CPU may have cached more than is allowed
 * now. Pages that run out are taken from this tree itself. */
static uint64_t *install(struct ept02s *e, struct ept02_root *root, gpa_t gpa2, unsigned level, uint64_t leaf,
                         uint64_t **above)
{
    uint64_t *entry, old;

    while (!(entry = descend(e, root, gpa2, level, above)))
        ept02_recycle(e, root);
    if (level == 1)
        ept02_tell_place(*above, gpa2, leaf);
    else
        ept02_tell_used(root, *above, ept_index(gpa2, level), ept_index(gpa2, level) + 1);
    old = *entry;
    ept02_set_entry(entry, leaf);
    /* A table becomes a large leaf: its pages are free once nothing points to them. */
    if (old && !ept_is_leaf(old, level)) {
        ept02_empty_table(e, old, level - 1);
        ept02_give_page(e, ept02_table_of(old), level - 1);
        ept02_want_invept(root);
    } else if (!only_adds(old, leaf)) {
        ept02_want_invept(root);
    }
    count(COUNT_EPT02_FILLS);
    return entry;
}

/* EPT01's leaf for gpa1; level 0 when nothing can be mapped there. */
static struct ept_leaf ept01_leaf(struct ept02s *e, gpa_t gpa1)
{
    struct ept_leaf leaf = ept_translate(e->shared->ept01, gpa1);

    if (leaf.level == 0 && ept_map_on_demand(e->shared->ept01, gpa1))
        leaf = ept_translate(e->shared->ept01, gpa1);
    return leaf;
}

/* Pages that the leaf may make writable are marked before EPT01 is looked at. ept02_protect() runs after EPT01 lost W:
 * either it sees the mark and waits for the lock, or EPT01's change is seen here. */
static void mark_writable(struct ept02s *e, const struct ept12_walk *walk, unsigned level)
{
    if (!(walk->permissions & (EPT_W | EPT_SUB_PAGE)))
        return;
    if (level == 1)
        ept02_mark_page(e->shared, walk->gpa1);
    else if (level == 2)
        ept02_mark_2m(e->shared, walk->gpa1);
    else
        ept02_mark_1g(e->shared, ALIGN_DOWN(walk->gpa1, LARGE_1G));
}

/* EPT01's leaf behind the walk's, with all marked that the two together may make writable. Its size may change between
 * two looks. */
static inline void look_at_ept01(struct ept02s *e, const struct ept12_walk *walk, struct ept_leaf *leaf)
{
    unsigned level = MIN(walk->level, 2), marked = 0;

    do {
        mark_writable(e, walk, level);
        marked |= 1u << level;
        *leaf = ept01_leaf(e, walk->gpa1);
        level = MIN(walk->level, leaf->level);
    } while (level && !(marked >> level & 1));
}

/* The walk allowed the access; what EPT01 says is the rest. The lock is held from the look at EPT01 to the store. */
static enum ept02_result fill_allowed(struct ept02s *e, uint64_t eptp12, gpa_t gpa2, uint64_t access,
                                      const struct ept12_walk *walk, struct ept02_exit *out)
{
    struct ept_leaf ept01;
    look_at_ept01(e, walk, &ept01);
    unsigned level = MIN(walk->level, ept01.level);
    bool carveout = ept_is_carveout(e->shared->ept01, walk->gpa1);
    struct ept02_root *root;
    uint64_t leaf, *above;

    if (carveout) /* EPT01's leaf has W while some processor makes a step with it */
        ept01.permissions &= ~EPT_W;
    bool refused = (access & (EPT_W | EPT_SUB_PAGE)) && !(ept01.permissions & EPT_W);

    if (level == 0)
        return EPT02_VIOLATION;
    out->gpa1 = walk->gpa1;
    /* A store to a page that somebody watches: the caller hits the watch and comes again. */
    if (refused && !carveout)
        return EPT02_WATCH;
    leaf = ept12_leaf(walk, &ept01);
    root = ept02_get_root(e, eptp12);
    out->entry = install(e, root, gpa2, level, leaf, &above);
    if (!carveout && level == walk->level && level < 3)
        ept02_fill_around(e, root, above, out->entry, walk->table, level, walk->above);
    return refused ? EPT02_CARVEOUT : EPT02_FILLED;
}

static inline void reflect_violation(const struct ept02s *e, uint64_t eptp12, uint64_t hardware, uint64_t access,
                                     const struct ept12_walk *walk, struct ept02_exit *out)
{
    uint64_t asked = access;

    if (__builtin_expect((access & EPT_SUB_PAGE) != 0, 0))
        asked ^= EPT_SUB_PAGE | EPT_W;
    out->qualification = ept12_qualification(eptp12, hardware, asked, walk->permissions, e->rules[0].page_rights);
    out->sub_page = ept12_is_sub_page(walk, access);
}

bool ept02_find_cover(struct ept02s *e, uint64_t eptp12, gpa_t gpa2, gpa_t table12, unsigned level)
{
    const struct ept02_root *root = ept02_find_root(e, eptp12);

    if (!root || (!root->overflow && !ept12_trace_covers(e, root, gpa2, table12, level)))
        return false;
    e->covered.eptp12 = eptp12;
    e->covered.table = table12;
    e->covered.size = ept_level_size(level + 1);
    e->covered.base = ALIGN_DOWN(gpa2, e->covered.size);
    return true;
}

/* True if INVEPT knows what the walk has read. */
static inline bool is_covered(struct ept02s *e, uint64_t eptp12, gpa_t gpa2, const struct ept12_walk *walk)
{
    return (gpa2 - e->covered.base < e->covered.size && e->covered.table == walk->table &&
            e->covered.eptp12 == eptp12) ||
           ept02_find_cover(e, eptp12, gpa2, walk->table, walk->level);
}

/* Traces the tables on the way and walks again. One that L1 put in the way meanwhile stays unknown, and with it all. */
static NOINLINE struct ept12_walk walk_traced(struct ept02s *e, uint64_t eptp12, gpa_t gpa2, uint64_t access,
                                              bool log_full)
{
    struct ept02_root *root = ept02_root(e, eptp12);
    struct ept12_walk walk;

    e->covered.size = 0;
    bool traced = ept12_trace_path(e, root, eptp12, gpa2);
    walk = ept12_walk(e->shared->gmem, ept02_rules(e, eptp12), eptp12, gpa2, access, log_full);
    if (traced && walk.kind == EPT12_WALK_OK && !ept02_find_cover(e, eptp12, gpa2, walk.table, walk.level)) {
        root->overflow = true;
        ept02_set_dirty(root, true);
    }
    return walk;
}

/* Makes EPT02's leaf as misconfigured as EPT12's, where a store of L1 to that will be seen. Without the lock. */
static NOINLINE void repeat_misconfigured(struct ept02s *e, uint64_t eptp12, gpa_t gpa2, const struct ept12_walk *walk)
{
    struct ept02_root *root = ept02_root(e, eptp12);
    uint64_t entry, *above;

    if (!ept12_trace_may_repeat(e, root, gpa2, walk)) {
        e->covered.size = 0;
        (void)ept12_trace_path(e, root, eptp12, gpa2);
    }
    spinlock_lock(&e->lock);
    (void)gmem_read64(e->shared->gmem, walk->table + 8 * ept_index(gpa2, 1), &entry);
    if (entry == walk->entry && ept12_trace_may_repeat(e, root, gpa2, walk))
        (void)install(e, root, gpa2, 1, EPT02_MISCONFIGURED, &above);
    spinlock_unlock(&e->lock);
}

/* The right that a fetch asks for. Whether its address was user-mode the CPU says with advanced information only; else
 * it is one that EPT02 has not, and each of these that EPT12 has is worth filling. */
static NOINLINE uint64_t fetch_right(const struct ept02s *e, uint64_t eptp12, gpa_t gpa2, uint64_t qualification)
{
    if (e->rules[0].page_rights && (qualification & EPT_QUAL_NOT_WALK))
        return qualification & EPT_QUAL_USER_PAGE ? EPT_XU : EPT_X;
    if (qualification & EPT_QUAL_ALLOWED_EXEC)
        return EPT_XU;
    if (qualification & EPT_QUAL_ALLOWED_USER_EXEC)
        return EPT_X;
    /* Said to be full, the log keeps the walk from setting flags. */
    struct ept12_walk walk = ept12_walk(e->shared->gmem, ept02_rules(e, eptp12), eptp12, gpa2, EPT_X, true);
    return walk.kind == EPT12_WALK_VIOLATION ? EPT_XU : EPT_X;
}

enum ept02_result ept02_fill(struct ept02s *ept02s, uint64_t eptp12, gpa_t gpa2, uint64_t access,
                             uint64_t qualification, bool log_full, struct ept02_exit *out)
{
    const struct ept12_rules *rules = ept02s->rules;
    uint64_t rights = access;
    if (__builtin_expect((eptp12 & EPTP12_MODE_BASED) != 0, 0)) {
        rules = ept02_rules(ept02s, eptp12);
        if (access & EPT_QUAL_FETCH)
            rights = fetch_right(ept02s, eptp12, gpa2, qualification);
    }
    /* Without the lock: tracing, and setting A/D flags, may take that of ept_watch, which comes before ours. */
    struct ept12_walk walk = ept12_walk(ept02s->shared->gmem, rules, eptp12, gpa2, rights, log_full);
    if (ept02s->trace && walk.kind == EPT12_WALK_OK && !is_covered(ept02s, eptp12, gpa2, &walk)) {
        bool dirtied = walk.sets_dirty; /* the second walk finds the flag set */
        walk = walk_traced(ept02s, eptp12, gpa2, rights, log_full);
        walk.sets_dirty |= dirtied;
    }
    enum ept02_result result = EPT02_VIOLATION;

    out->suppress_ve = walk.suppress_ve; /* the rest by result: struct ept02_exit */
    out->dirtied = walk.sets_dirty;
    if (walk.kind == EPT12_WALK_LOG_FULL)
        return EPT02_LOG_FULL;
    if (walk.kind == EPT12_WALK_MISCONFIG) {
        out->gpa1 = walk.table;
        out->level = walk.level;
        out->entry12 = walk.entry;
        if (walk.level == 1 && ept02s->trace)
            repeat_misconfigured(ept02s, eptp12, gpa2, &walk);
        return EPT02_MISCONFIG;
    }
    if (walk.kind == EPT12_WALK_RACED)
        return EPT02_FILLED;
    if (walk.kind == EPT12_WALK_OK) {
        spinlock_lock(&ept02s->lock);
        result = fill_allowed(ept02s, eptp12, gpa2, access, &walk, out);
        spinlock_unlock(&ept02s->lock);
    }
    if (result == EPT02_VIOLATION)
        reflect_violation(ept02s, eptp12, qualification, access, &walk, out);
    return result;
}
