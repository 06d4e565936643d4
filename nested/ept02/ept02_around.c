/* Filling more of EPT02 than was asked for. An exit costs as much as some hundred entries, and an L2 that touches one
 * page touches its neighbours: the first fill in a table of EPT02 takes the 32 pages around it, the second 128, the
 * third all. Only what L1 cannot tell is taken: entries of the same table of EPT12, which is traced or not as a whole,
 * that set no flag and are of the usual kind.
 *
 * EPT01 is held meanwhile. So one look at it is good for as much as one of its tables maps, and the marks of writable
 * pages may come at any time before it is let go: who takes W from it looks for them later. */
#include "nested/ept02/ept02_around.h"

#include "kernel/percpu.h"
#include "nested/ept02/ept02_filter.h"
#include "nested/ept02/ept02_tree.h"
#include "vmx/vmx_bits.h"

#define BLOCK 16u       /* behind a page whose table was filled before */
#define LOOKS 64u       /* at EPT01, in one call */
#define NOTHING BIT(63) /* no address is behind it */
/* Bits that the CPU ignores in an entry that leads to a table: how often that was filled. */
#define TIMES BITS(53, 52)
/* How many are taken then, powers of two; 0: BLOCK from the next one on. */
static const uint16_t counts[GET(TIMES, TIMES) + 1] = {32, 128, EPT_ENTRIES};

struct around {
    const struct ept02_around *in;
    uint64_t *table;        /* EPT02's */
    uint64_t judged, usual; /* what must be what in an entry */
    uint64_t dirty;         /* EPT_D if EPT12 has A and D */
    unsigned looks, filled;
    bool mixed; /* a page has another place than its leaf: EPT02_MIXED */
    /* EPT01 behind the entry last looked at: */
    gpa_t behind;          /* what its table there begins with; NOTHING at first */
    const uint64_t *parts; /* that table, of the level of EPT12's; NULL: one larger leaf is behind all, ... */
    uint64_t leaf01;       /* ... this one */
};

/* All that decides in ept12_walk() for an entry that is readable, write-back and has no reserved bit. */
static inline void judge(struct around *a, const struct ept12_rules *rules, unsigned level)
{
    bool flags = a->in->root->key & EPTP_AD;
    uint64_t more = EPT_R | (flags ? EPT_A : 0) | (level > 1 ? EPT_LARGE : 0);

    a->judged = (rules->page_judged & ~rules->rights) | more | (BITS(51, 12) & (ept_level_size(level) - 1));
    a->usual = (rules->page & ~rules->rights) | more;
    a->dirty = flags ? EPT_D : 0;
    a->behind = NOTHING;
}

/* True if EPT01 has leaves of this level or a larger one there, none of Nestor's memory. */
static NOINLINE bool look_behind(struct around *a, gpa_t gpa1, unsigned level)
{
    const struct ept *ept01 = a->in->e->shared->ept01;
    const uint64_t *entry;
    unsigned level01;

    if (a->looks == LOOKS)
        return false;
    a->looks++;
    if (ept_is_carveout(ept01, gpa1) || !(entry = ept_find_held(ept01, gpa1, &level01)) || level01 < level)
        return false;
    a->behind = ALIGN_DOWN(gpa1, ept_level_size(level + 1));
    a->parts = level01 == level ? (const uint64_t *)ALIGN_DOWN((uintptr_t)entry, PAGE_SIZE) : NULL;
    a->leaf01 = *entry;
    return true;
}

/* EPT02's leaf on EPT01's, as ept12_leaf() makes it. */
static ALWAYS_INLINE uint64_t leaf_on(const struct around *a, uint64_t entry, uint64_t leaf01, unsigned level)
{
    uint64_t leaf = (entry & (EPT_ADDRESS | EPT_IGNORE_PAT | (a->in->rights & leaf01))) | (leaf01 & EPT_MEMTYPE);

    if (a->dirty & ~entry)
        leaf &= ~EPT_W;
    return leaf | EPT_A | EPT_D | (level > 1 ? EPT_LARGE : 0);
}

/* True if the 8 entries lead to one page after the other, the first to that of `entry`. */
static ALWAYS_INLINE bool is_row_of_8(const uint64_t *table12, uint64_t entry)
{
#pragma GCC unroll 8
    for (unsigned i = 0; i < 8; i++)
        if (table12[i] != entry + i * PAGE_SIZE)
            return false;
    return true;
}

/* True if each of the 8 places is free or has the leaf that it is to get; those that have it count less. */
static bool may_hold_row_of_8(const uint64_t *table, uint64_t leaf, unsigned *filled)
{
    unsigned taken = 0;

    for (unsigned i = 0; i < 8; i++) {
        if (table[i] && table[i] != leaf + i * PAGE_SIZE)
            return false;
        taken += table[i] != 0;
    }
    *filled -= taken;
    return true;
}

static ALWAYS_INLINE bool all_of_8(const uint64_t *entry)
{
#pragma GCC unroll 8
    for (unsigned i = 0; i < 8; i++)
        if (!entry[i])
            return false;
    return true;
}

/* Entries that lead to one page after the other, the first to that of `entry`, as memory of guests mostly lies: they
 * get leaves like the first one's. By eight, and not beyond the large page of EPT01 that is behind all; how many. */
static NOINLINE unsigned fill_row(const uint64_t *table12, uint64_t *table, unsigned count, uint64_t entry,
                                  uint64_t leaf, unsigned *filled)
{
    const uint64_t *first = table12;
    unsigned left = MIN(count, EPT_ENTRIES - ept_index(entry, 1)) / 8;

    for (;
         left > 0 && is_row_of_8(table12, entry) && (!ept02_any_of_8(table) || may_hold_row_of_8(table, leaf, filled));
         left--) {
#pragma GCC unroll 8
        for (unsigned i = 0; i < 8; i++)
            ept02_set_entry(&table[i], leaf + i * PAGE_SIZE);
        table += 8;
        table12 += 8;
        entry += 8 * PAGE_SIZE;
        leaf += 8 * PAGE_SIZE;
    }
    return (unsigned)(table12 - first);
}

/* Free places of 4 KiB pages from i on. */
static void fill_small(struct around *a, unsigned i, unsigned end)
{
    const uint64_t *table12 = a->in->table12;
    uint64_t *table = a->table, leaf, leaf01;

    for (unsigned count; i < end; i += count) {
        if (i % 8 == 0 && i + 8 <= end && (!ept02_any_of_8(&table12[i]) || all_of_8(&table[i]))) {
            count = 8;
            continue;
        }
        uint64_t entry = __atomic_load_n(&table12[i], __ATOMIC_ACQUIRE);
        gpa_t gpa1 = entry & EPT_ADDRESS;
        count = 1;
        if ((entry & a->judged) != a->usual || (gpa1 - a->behind >= LARGE_2M && !look_behind(a, gpa1, 1)))
            continue;
        leaf01 = a->parts ? a->parts[ept_index(gpa1, 1)] : a->leaf01;
        leaf = leaf_on(a, entry, leaf01, 1);
        if (!a->parts)
            count = fill_row(&table12[i], &table[i], end - i, entry, leaf, &a->filled);
        if (a->parts || !count) {
            count = 1;
            if (table[i] || (a->parts && ((leaf01 ^ entry) & (EPT_ADDRESS | EPT_R)))) /* taken, or hidden */
                continue;
            ept02_set_entry(&table[i], leaf);
        }
        if (leaf & EPT_W)
            ept02_mark_pages(a->in->e->shared, gpa1, count);
        a->mixed |= (gpa1 / PAGE_SIZE - i) % EPT_ENTRIES != 0;
        a->filled += count;
    }
}

/* A leaf of 2 MiB on EPT01's; 0: none. */
static NOINLINE uint64_t large_leaf(struct around *a, uint64_t entry)
{
    gpa_t gpa1 = entry & EPT_ADDRESS;

    if ((entry & a->judged) != a->usual || (gpa1 - a->behind >= LARGE_1G && !look_behind(a, gpa1, 2)))
        return 0;
    uint64_t leaf01 = a->parts ? a->parts[ept_index(gpa1, 2)] : a->leaf01;
    if (a->parts && ((leaf01 ^ entry) & (EPT_ADDRESS | EPT_LARGE))) /* there are smaller ones */
        return 0;
    return leaf_on(a, entry, leaf01, 2);
}

/* Most entries are like the one before, and so are EPT01's leaves behind them: in all save how far they lead behind the
 * beginning of the gigabyte. */
struct like {
    uint64_t base12, base01, base02; /* EPT12's entry, EPT01's leaf and EPT02's, were they of that beginning */
    const uint64_t *parts;           /* EPT01's; NULL: look at each entry */
    uint64_t *marks;                 /* of the gigabyte; NULL: there is nothing to mark */
};

static void take_for_like(struct like *like, const struct around *a, uint64_t entry, uint64_t leaf)
{
    static uint64_t marked[LARGE_1G / LARGE_2M / EPT02_WORD] = {[0 ... LARGE_1G / LARGE_2M / EPT02_WORD - 1] = ~0ull};
    uint64_t at = (entry & EPT_ADDRESS) - a->behind;
    uint64_t *marks = leaf & EPT_W ? ept02_marks_of_1g(a->in->e->shared, a->behind) : NULL;

    *like = (struct like){.base12 = entry - at,
                          .base01 = a->parts ? a->parts[at / LARGE_2M] - at : 0,
                          .base02 = leaf - at,
                          .parts = a->parts,
                          .marks = marks ? marks : marked};
}

/* As long as places are free and entries are like that; the first that is not. */
static NOINLINE unsigned fill_like(const struct around *a, struct like like, unsigned i, unsigned end)
{
    const uint64_t *table12 = a->in->table12;
    uint64_t *table = a->table;

    for (; i < end && !table[i]; i++) {
        uint64_t at = __atomic_load_n(&table12[i], __ATOMIC_ACQUIRE) - like.base12, number = at / LARGE_2M;
        if (at >= LARGE_1G || at % LARGE_2M || like.parts[number] != like.base01 + at)
            break;
        ept02_mark_bit(&like.marks[number / EPT02_WORD], number % EPT02_WORD);
        ept02_set_entry(&table[i], like.base02 + at);
    }
    return i;
}

/* Free places of 2 MiB pages. */
static void fill_large(struct around *a, unsigned i, unsigned end)
{
    const uint64_t *table12 = a->in->table12;
    struct like like = {0};

    for (; i < end; i++) {
        unsigned from = i;
        if (a->table[i] || !table12[i])
            continue;
        if (like.parts)
            i = fill_like(a, like, i, end);
        a->filled += i - from;
        if (i == end)
            break;
        uint64_t entry = __atomic_load_n(&table12[i], __ATOMIC_ACQUIRE), leaf;
        if (a->table[i] || !(leaf = large_leaf(a, entry)))
            continue;
        take_for_like(&like, a, entry, leaf);
        if (leaf & EPT_W)
            ept02_mark_2m(a->in->e->shared, leaf & EPT_ADDRESS);
        ept02_set_entry(&a->table[i], leaf);
        a->filled++;
    }
}

/* The places that are worth a look; true if any. */
static inline bool choose_range(const struct ept02_around *in, unsigned *first, unsigned *end)
{
    unsigned index = (unsigned)((uintptr_t)in->entry % PAGE_SIZE / sizeof(*in->entry));
    unsigned times = (unsigned)GET(*in->above, TIMES), count = counts[times];

    if (count) {
        *first = index & ~(count - 1);
        *end = *first + count;
        ept02_set_entry(in->above, (*in->above & ~TIMES) | PUT(times + 1, TIMES));
        return true;
    }
    *first = index + 1;
    *end = MIN(*first + BLOCK, EPT_ENTRIES);
    return *first < EPT_ENTRIES && (in->table12[*first] & EPT_R) && !in->entry[1] &&
           (in->level > 1 || (index && in->entry[-1]));
}

void ept02_fill_neighbours(const struct ept02_around *in)
{
    struct around a = {.in = in, .table = (uint64_t *)ALIGN_DOWN((uintptr_t)in->entry, PAGE_SIZE)};
    struct ept *ept01 = in->e->shared->ept01;
    unsigned first, end;

    if (!choose_range(in, &first, &end))
        return;
    judge(&a, ept02_rules(in->e, in->root->key), in->level);
    ept_hold(ept01);
    if (in->level > 1)
        fill_large(&a, first, end);
    else
        fill_small(&a, first, end);
    ept_let_go(ept01);
    if (in->level > 1)
        ept02_tell_used(in->root, in->above, first, end);
    else if (a.mixed)
        ept02_set_entry(in->above, *in->above | EPT02_MIXED);
    count_add(COUNT_EPT02_FILLS, a.filled);
}
