/* A comparison of two trees, leaf by leaf of EPT02. More rights, and a mapping where there was none, need no INVEPT:
 * the violation that L2 would meet invalidates what is cached for the address. */
#include "nested/ept02/ept02_stale.h"

#include "nested/ept02/ept02_tree.h"
#include "vmx/vmx_bits.h"

struct search {
    struct ept02s *e;
    uint64_t eptp12;
    gpa_t from;
    unsigned leaves; /* to be looked at */
    struct ept02_stale *out;
};

/* The changes after which software has to execute INVEPT; NULL: none. SDM 3C 29.4.3.4 "Guidelines for Use of the INVEPT
 * Instruction" */
static const char *change_of(const struct ept12_walk *walk, const struct ept_leaf *ept01, uint64_t leaf,
                             const struct ept_leaf *old)
{
    if (walk->kind == EPT12_WALK_MISCONFIG)
        return "is misconfigured now";
    if (walk->kind != EPT12_WALK_OK)
        return "is not present any more";
    if (walk->level < old->level)
        return "has smaller pages than before";
    if (ept01->level && ept01->hpa != old->hpa)
        return "has another address than before";
    if (old->permissions & ~walk->permissions)
        return "has fewer rights than before";
    if (ept01->level && ((leaf ^ ept12_leaf(walk, ept01)) & (EPT_MEMTYPE | EPT_IGNORE_PAT)))
        return "has another memory type than before";
    return NULL;
}

/* True if EPT12 says something else of gpa2 than this leaf of EPT02. No flag A or D is set. */
static bool is_stale(struct search *s, gpa_t gpa2, uint64_t leaf, unsigned level)
{
    struct ept_leaf old = ept_leaf_of(leaf, gpa2, level), ept01 = {0};
    struct ept02_shared *shared = s->e->shared;

    if (leaf == EPT02_MISCONFIGURED || (leaf & EPT_ADDRESS) == shared->ept01->ones_page)
        return false;
    struct ept12_walk walk =
        ept12_walk(shared->gmem, ept02_rules(s->e, s->eptp12), s->eptp12 & ~(uint64_t)EPTP_AD, gpa2, 0, false);
    if (walk.kind == EPT12_WALK_OK)
        ept01 = ept_translate(shared->ept01, walk.gpa1);
    const char *what = change_of(&walk, &ept01, leaf, &old);
    if (!what)
        return false;
    *s->out = (struct ept02_stale){
        .gpa2 = gpa2, .where = walk.table + 8 * ept_index(gpa2, walk.level), .level = walk.level, .what = what};
    (void)gmem_read64(shared->gmem, s->out->where, &s->out->entry);
    return true;
}

/* Below a table of EPT02. True ends the search: something was found, or enough was looked at. */
static bool search_below(struct search *s, const uint64_t *table, unsigned level, gpa_t base)
{
    unsigned first = s->from > base ? ept_index(s->from, level) : 0;

    for (unsigned i = first; i < EPT_ENTRIES; i++) {
        gpa_t gpa2 = base + i * ept_level_size(level);
        if (!table[i])
            continue;
        if (!ept_is_leaf(table[i], level)) {
            if (search_below(s, ept02_table_of(table[i]), level - 1, gpa2))
                return true;
        } else {
            s->from = gpa2;
            if (s->leaves == 0)
                return true;
            s->leaves--;
            if (is_stale(s, gpa2, table[i], level))
                return true;
        }
    }
    return false;
}

bool ept02_find_stale(struct ept02s *ept02s, const struct ept02_root *root, uint64_t eptp12, gpa_t *from,
                      unsigned *leaves, struct ept02_stale *out)
{
    struct search s = {.e = ept02s, .eptp12 = eptp12, .from = *from, .leaves = *leaves, .out = out};

    out->what = NULL;
    spinlock_lock(&ept02s->lock);
    *from = search_below(&s, root->table, EPT02_TOP_LEVEL, 0) ? s.from : 0;
    spinlock_unlock(&ept02s->lock);
    *leaves = s.leaves;
    return out->what;
}
