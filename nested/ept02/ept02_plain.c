/* One look at each table and one test of each entry: an exit for one page costs L2 little more than the exit itself.
 * Nothing is kept between two calls, so nothing can be out of date. */
#include "nested/ept02/ept02_plain.h"

#include "kernel/cmdline.h"
#include "kernel/panic.h"
#include "kernel/percpu.h"
#include "nested/ept02/ept02_around.h"
#include "nested/ept02/ept02_filter.h"
#include "nested/ept02/ept02_tree.h"
#include "nested/ept02/ept12_trace.h"
#include "vmx/vmx_bits.h"

/* True if the page is an ordinary one, has the flags that the access sets, and INVEPT knows the table: see
 * is_covered() of nested/ept02/ept02_fill. */
static ALWAYS_INLINE bool is_plain(struct ept02s *e, const struct ept02_root *root, uint64_t eptp12, gpa_t gpa2,
                                   uint64_t access, const struct ept02_plain *end)
{
    const struct ept12_rules *rules = e->rules;
    const uint64_t may_lack = EPT_W | EPT_X;

    if (end->level != 1 || (end->entry & rules->page_judged & ~may_lack) != (rules->page & ~may_lack) ||
        (access & ~end->entry & EPT_RWX))
        return false;
    if ((eptp12 & EPTP_AD) && (!(end->common & EPT_A) || ((access & EPT_W) && !(end->entry & EPT_D))))
        return false;
    return root->overflow || !e->trace ||
           (gpa2 - e->covered.base < e->covered.size && e->covered.table == end->table &&
            e->covered.eptp12 == eptp12) ||
           ept02_find_cover(e, eptp12, gpa2, end->table, 1);
}

/* EPT02's entry for the page, if its table is there and has nothing in the place; and the one above it. The trees are
 * this processor's own: no other makes or frees a table. */
static ALWAYS_INLINE uint64_t *free_place(const struct ept02_root *root, gpa_t gpa2, uint64_t **above)
{
    uint64_t *table = root->table, *entry;

#pragma GCC unroll 3
    for (unsigned level = EPT02_TOP_LEVEL; level > 1; level--) {
        entry = &table[ept_index(gpa2, level)];
        if (!*entry || (*entry & EPT_LARGE))
            return NULL;
        table = ept02_table_of(*entry);
    }
    *above = entry;
    entry = &table[ept_index(gpa2, 1)];
    return *entry ? NULL : entry;
}

void ept02_plain_expect(const struct ept02s *e, uint64_t eptp12, gpa_t gpa2, uint64_t access,
                        const struct ept02_plain *end, uint64_t leaf)
{
#if defined(CHECKED) || defined(MUTANTS)
    struct ept12_walk walk = ept12_walk(e->shared->gmem, e->rules, eptp12, gpa2, access, true);
    struct ept_leaf ept01 = {0};
    if (leaf && walk.kind == EPT12_WALK_OK)
        ept01 = ept_translate(e->shared->ept01, walk.gpa1);
    ept01.permissions = (ept01.permissions & ~EPT_W) | (leaf & EPT_W); /* another processor may take it this moment */
    struct ept02_plain again;
    if (!ept02_plain_walk(e, eptp12, gpa2, &again) || again.table != end->table || again.entry != end->entry ||
        again.common != end->common)
        return;
    ASSERT(leaf ? walk.kind == EPT12_WALK_OK && ept12_leaf(&walk, &ept01) == leaf
                : walk.kind == EPT12_WALK_VIOLATION && !walk.permissions);
#endif
    (void)e, (void)eptp12, (void)gpa2, (void)access, (void)end, (void)leaf;
}

/* Under the lock, from the mark on: as fill_allowed() and look_at_ept01() of nested/ept02/ept02_fill. RAM of L1 is
 * never of the carve-out, and EPT01 has it where it is. 0: EPT01 allows less. */
static ALWAYS_INLINE uint64_t leaf_of(struct ept02s *e, uint64_t eptp12, uint64_t access, uint64_t entry)
{
    gpa_t gpa1 = entry & EPT_ADDRESS;
    uint64_t rights = entry & EPT_RWX;

    if ((eptp12 & EPTP_AD) && !(entry & EPT_D))
        rights &= ~EPT_W;
    if ((rights & EPT_W) && !MUTANT(UNMARKED))
        ept02_mark_page(e->shared, gpa1);
    uint64_t ept01 = ept_ram_leaf(e->shared->ept01, gpa1);
    rights &= ept01;
    if (access & ~rights)
        return 0;
    return gpa1 | rights | EPT_A | EPT_D | (ept01 & EPT_MEMTYPE) | (entry & EPT_IGNORE_PAT);
}

enum ept02_plain_result ept02_plain_fill(struct ept02s *e, struct ept02_root *root, uint64_t eptp12, gpa_t gpa2,
                                         uint64_t access)
{
    const struct gmem *gmem = e->shared->gmem;
    uint64_t *place, *above, leaf;
    struct ept02_plain end;

    if (!ept02_plain_walk(e, eptp12, gpa2, &end))
        return PLAIN_OTHER;
    if (ept02_plain_is_absent(e, &end))
        return PLAIN_ABSENT;
    if (!is_plain(e, root, eptp12, gpa2, access, &end) ||
        (end.entry & EPT_ADDRESS) - gmem->main_base >= gmem->main_size || !(place = free_place(root, gpa2, &above)))
        return PLAIN_OTHER;
    spinlock_lock(&e->lock);
    leaf = leaf_of(e, eptp12, access, end.entry);
    if (leaf) {
        ept02_plain_expect(e, eptp12, gpa2, access, &end, leaf);
        ept02_set_entry(place, leaf);
        count(COUNT_EPT02_FILLS);
        ept02_fill_around(e, root, above, place, end.table, 1, e->rules[0].rights);
    }
    spinlock_unlock(&e->lock);
    return leaf ? PLAIN_FILLED : PLAIN_OTHER;
}
