/* Filling more of EPT02 than was asked for. An exit costs as much as some dozens of entries, and an L2 that touches one
 * page touches its neighbours: the first fill in a table of EPT02 takes the 16 entries around it, the second 128, the
 * third all of it; of large pages each of the first three twice as many as the one before. Only what L1 cannot tell is
 * taken: entries of the same table of EPT12, which is traced or not as a whole, that set no flag and are of the usual
 * kind. */
#include "nested/ept02/ept02_around.h"

#include "kernel/percpu.h"
#include "nested/ept02/ept02_filter.h"
#include "nested/ept02/ept02_tree.h"
#include "vmx/vmx_bits.h"

#define BLOCK 16u /* a power of two */
#define RUN 512u  /* places that are filled before EPT01 is looked at again */
#define TURNS 48u /* runs, and leaves of EPT01 that they come to, in one call */
#define ROW 64u   /* pages of one word of nested/ept02/ept02_filter */
/* Bits that the CPU ignores in an entry that leads to a table: how often that was filled. */
#define TIMES BITS(55, 52)
#define TIMES_SMALL 2u /* of 4 KiB pages: BLOCK, 128, all of it */
#define TIMES_LARGE 2u /* of 2 MiB ones: BLOCK << this at the most */

struct around {
    struct ept02s *e;
    struct ept02_root *root;
    const uint64_t *table12; /* EPT12's table */
    uint64_t *table;         /* EPT02's */
    unsigned level;
    bool flags;              /* EPT12 has A and D */
    uint64_t judged, usual;  /* what must be what in an entry */
    uint64_t above;          /* the rights that the tables above leave */
    struct ept_leaf ept01;   /* behind the entries last looked at */
    uint64_t behind, within; /* its address, and the bits of an entry that must be the same to lie in it */
    uint64_t keep, fixed;    /* bits of the entry that EPT02's has, too, and those that it has beside */
};

/* All that decides in ept12_walk() for an entry that is readable, write-back and has no reserved bit. */
static void judge(struct around *a, const struct ept12_rules *rules)
{
    uint64_t more = EPT_R | (a->flags ? EPT_A : 0) | (a->level > 1 ? EPT_LARGE : 0);

    a->judged = (rules->page_judged & ~rules->rights) | more | (BITS(51, 12) & (ept_level_size(a->level) - 1));
    a->usual = (rules->page & ~rules->rights) | more;
    a->behind = ~0ull;
    a->within = EPT_ADDRESS;
}

/* EPT01's leaf behind the entry, if it is as large and leads where EPT12 says. Large pages are looked at one by one:
 * each is marked before. */
static bool look_behind(struct around *a, uint64_t entry)
{
    gpa_t gpa1 = entry & EPT_ADDRESS;
    const struct ept12_walk whole = {.level = a->level, .memtype = MEMTYPE_WB, .dirty = true};
    struct ept_leaf ept01;

    if (a->level > 1)
        ept02_mark_writable(a->e->shared, gpa1, ept_level_size(a->level));
    ept01 = ept_translate(a->e->shared->ept01, gpa1);
    if (ept01.level < a->level || ept01.hpa != gpa1 || ept_is_carveout(a->e->shared->ept01, gpa1))
        return false;
    a->ept01 = ept01;
    a->behind = gpa1;
    a->within = EPT_ADDRESS & ~(ept_level_size(a->level > 1 ? a->level : ept01.level) - 1);
    a->keep = EPT_ADDRESS | EPT_IGNORE_PAT | (a->above & ept01.permissions);
    a->fixed = ept12_leaf(&whole, &(struct ept_leaf){.level = ept01.level, .memtype = ept01.memtype});
    return true;
}

/* EPT01 may have lost W while places were filled, without a mark having been seen. */
static bool still_stands(const struct around *a)
{
    struct ept_leaf again = ept_translate(a->e->shared->ept01, a->ept01.hpa);

    return again.level == a->ept01.level && again.permissions == a->ept01.permissions;
}

/* The place behind those that lead to one page after the other from the entry on, as memory of guests mostly lies: they
 * get leaves like its own. Up to a multiple of 64 pages, so that EPT01's leaf, if it is a large one, is behind all. */
static inline unsigned fill_row(const struct around *a, unsigned i, unsigned end, uint64_t entry, uint64_t leaf)
{
    uint64_t first = (entry & EPT_ADDRESS) + PAGE_SIZE;
    unsigned from = i + 1, to = from, last = MIN(end, from + (ROW - (unsigned)(first / PAGE_SIZE) % ROW) % ROW);

    for (; to < last; to++) {
        entry += PAGE_SIZE;
        if (__atomic_load_n(&a->table12[to], __ATOMIC_RELAXED) != entry || a->table[to])
            break;
    }
    if ((leaf & EPT_W) && to > from)
        ept02_mark_writable(a->e->shared, first, (to - from) * PAGE_SIZE);
#pragma GCC unroll 8
    for (unsigned n = from; n < to; n++)
        ept02_set_entry(&a->table[n], leaf += PAGE_SIZE);
    return to;
}

/* Free places from `first` on, as long as EPT01 has the same leaf behind them; the first that was not looked at. The
 * processor that uses the table is here, and others that scan it wait for the lock: so what is stored too early can be
 * taken back. Whatever else there was goes with it. */
static unsigned fill_run(const struct around *a, unsigned first, unsigned end)
{
    const uint64_t judged = a->judged, usual = a->usual, behind = a->behind, within = a->within, keep = a->keep;
    const uint64_t fixed = a->fixed, dirty = a->flags ? EPT_D : 0;
    const uint64_t *table12 = a->table12;
    uint64_t *table = a->table;
    const bool row = !(within & (ROW * PAGE_SIZE - 1)); /* EPT01's leaf is a large one */
    unsigned i = first, filled = 0, next;

    for (end = MIN(end, first + RUN); i < end; i = next) {
        next = i + 1;
        if (row && i % 8 == 0 && i + 8 <= end && !ept02_any_of_8(&table12[i])) {
            next = i + 8;
            continue;
        }
        uint64_t entry = __atomic_load_n(&table12[i], __ATOMIC_ACQUIRE), leaf = (entry & keep) | fixed;
        if ((entry & judged) != usual || table[i])
            continue;
        if ((entry ^ behind) & within)
            break;
        if (dirty & ~entry)
            leaf &= ~EPT_W;
        if (leaf & EPT_W)
            ept02_mark_page(a->e->shared, entry & EPT_ADDRESS);
        ept02_set_entry(&table[i], leaf);
        if (row)
            next = fill_row(a, i, end, entry, leaf);
        filled += next - i;
    }
    if (filled && !still_stands(a)) {
        for (unsigned n = first; n < i; n++)
            ept02_set_entry(&table[n], 0);
        ept02_want_invept(a->root);
        return EPT_ENTRIES;
    }
    count_add(COUNT_EPT02_FILLS, filled);
    return i;
}

/* Pages of 2 MiB: each has an EPT01 of its own behind it, which was looked at after the page was marked. */
static void fill_large(struct around *a, unsigned i, unsigned end)
{
    for (unsigned turns = 0; turns < TURNS && i < end; i++) {
        uint64_t entry = __atomic_load_n(&a->table12[i], __ATOMIC_ACQUIRE), leaf;
        if ((entry & a->judged) != a->usual || a->table[i])
            continue;
        turns++;
        if (((entry ^ a->behind) & a->within) && !look_behind(a, entry))
            continue;
        leaf = (entry & a->keep) | a->fixed;
        if (a->flags && !(entry & EPT_D))
            leaf &= ~EPT_W;
        ept02_set_entry(&a->table[i], leaf);
        count(COUNT_EPT02_FILLS);
    }
}

static void fill_range(struct around *a, unsigned i, unsigned end)
{
    for (unsigned turns = 0; turns < TURNS && i < end; turns++) {
        uint64_t entry = __atomic_load_n(&a->table12[i], __ATOMIC_ACQUIRE);
        if (((entry ^ a->behind) & a->within) && (entry & a->judged) == a->usual && !a->table[i] &&
            !look_behind(a, entry))
            i++;
        else
            i = fill_run(a, i, end);
    }
}

/* Which places are worth a look; true if any. */
static inline bool choose_range(uint64_t *above, const uint64_t *entry, const uint64_t *table12, unsigned level,
                                unsigned *first, unsigned *end)
{
    unsigned index = (unsigned)((uintptr_t)entry % PAGE_SIZE / sizeof(*entry)), times = (unsigned)GET(*above, TIMES);

    if (times <= (level > 1 ? TIMES_LARGE : TIMES_SMALL)) {
        unsigned count = MIN(BLOCK << (level > 1 ? times : 3 * times), EPT_ENTRIES);
        *first = index & ~(count - 1);
        *end = *first + count;
        ept02_set_entry(above, (*above & ~TIMES) | PUT(times + 1, TIMES));
        return true;
    }
    *first = index + 1;
    *end = MIN(*first + BLOCK, EPT_ENTRIES);
    return *first < EPT_ENTRIES && (table12[*first] & EPT_R) && !entry[1] && (level > 1 || (index && entry[-1]));
}

void ept02_fill_neighbours(struct ept02s *e, struct ept02_root *root, uint64_t *above, uint64_t *entry, gpa_t table,
                           unsigned level, uint64_t rights)
{
    const uint64_t *table12 = hpa_to_va(table); /* RAM: nothing else has a leaf */
    unsigned first, end;

    if (!choose_range(above, entry, table12, level, &first, &end))
        return;
    struct around a = {.e = e,
                       .root = root,
                       .table12 = table12,
                       .table = (uint64_t *)ALIGN_DOWN((uintptr_t)entry, PAGE_SIZE),
                       .level = level,
                       .above = rights,
                       .flags = root->key & EPTP_AD};
    judge(&a, ept02_rules(e, root->key));
    if (level > 1)
        fill_large(&a, first, end);
    else
        fill_range(&a, first, end);
}
