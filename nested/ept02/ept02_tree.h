/* The trees of EPT02s: pages and roots, for those who fill them. The ept02s' lock is held, but where it says otherwise.
 * nested/ept02/ alone uses them. */
#ifndef NESTED_EPT02_EPT02_TREE_H
#define NESTED_EPT02_EPT02_TREE_H

#include "kernel/layout.h"
#include "kernel/ledger.h"
#include "nested/ept02/ept02.h"

#define EPT02_TOP_LEVEL 4u
/* Of entries that lead to tables. Preset: the processor then writes no EPT02 entry, whether or not the EPTP has A/D
 * flags on. */
#define EPT02_TABLE_FLAGS (EPT_RWX | EPT_XU | EPT_A)

/* A leaf that repeats a misconfigured one of EPT12: W without R, and an address that no page has. The CPU makes L1's
 * exit by itself then, and caches nothing of it, so no INVEPT is due when it goes. SDM 3C 29.3.3.1 "EPT
 * Misconfigurations" */
#define EPT02_MISCONFIGURED (EPT_W | EPT_ADDRESS)

/* Bits that the CPU ignores in an entry that leads to a table. To one of 4 KiB pages: one of them has another place in
 * its 2 MiB than its leaf has in the table. To another: a bit for each eighth of it that may have entries. */
#define EPT02_MIXED BIT(54)
#define EPT02_USED BITS(61, 54)

/* A page for a table, filled with 0; NULL when there is none. */
void *ept02_take_page(struct ept02s *e);
/* A table of this level; one above the last has been emptied. */
void ept02_give_page(struct ept02s *e, void *page, unsigned level);
/* Frees the tables below the one of the entry `above`, which is at `level`, and clears its entries; one of leaves alone
 * is left as it is. */
void ept02_empty_table(struct ept02s *e, uint64_t above, unsigned level);
/* All that is mapped below the table of EPT02 at `level` whose entry 0 maps `base` goes; asks for an INVEPT. Takes the
 * lock. */
void ept02_drop(struct ept02s *e, struct ept02_root *root, unsigned level, gpa_t base);
/* The leaves EPT02_MISCONFIGURED of the last table for `base` go. Takes the lock; any processor may call. */
void ept02_stop_repeating(struct ept02s *e, const struct ept02_root *root, gpa_t base);
/* All that the root maps goes; asks for an INVEPT. */
void ept02_clear(struct ept02s *e, struct ept02_root *root);
/* The same, and its own table: the root is unused then. */
void ept02_free(struct ept02s *e, struct ept02_root *root);
/* Pages ran out: another root than `keep` goes, or else all that `keep` maps; its own table stays. */
void ept02_recycle(struct ept02s *e, struct ept02_root *keep);
/* The root of eptp12, made when there is none; and the same without making, NULL then. */
struct ept02_root *ept02_get_root(struct ept02s *e, uint64_t eptp12);
struct ept02_root *ept02_find_root(struct ept02s *e, uint64_t eptp12);

/* Most entries of most tables are 0. */
static inline bool ept02_any_of_8(const uint64_t *entry)
{
    return entry[0] | entry[1] | entry[2] | entry[3] | entry[4] | entry[5] | entry[6] | entry[7];
}
/* The next entry from `i` on that is not 0, of a table with these eighths in use; EPT_ENTRIES: there is none. */
static inline unsigned ept02_next_used(const uint64_t *table, uint64_t used, unsigned i)
{
    while (i < EPT_ENTRIES && !table[i]) {
        if (i % (EPT_ENTRIES / 8) == 0 && !((used >> i / (EPT_ENTRIES / 8)) & 1))
            i += EPT_ENTRIES / 8;
        else
            i += i % 8 == 0 && !ept02_any_of_8(&table[i]) ? 8 : 1;
    }
    return i;
}
static inline uint64_t *ept02_table_of(uint64_t entry)
{
    return hpa_to_va(entry & EPT_ADDRESS);
}
static inline void ept02_set_entry(uint64_t *entry, uint64_t value)
{
    __atomic_store_n(entry, value, __ATOMIC_RELEASE);
}
/* `leaf`, of a 4 KiB page, comes into the table of `above` as that of gpa2. */
static inline void ept02_tell_place(uint64_t *above, gpa_t gpa2, uint64_t leaf)
{
    if ((leaf ^ gpa2) & BITS(20, 12))
        ept02_set_entry(above, *above | EPT02_MIXED);
}
/* The entries from `first` to before `end` of the table of `above`, no last one, are used from now on. NULL: the root's
 * table. */
static inline void ept02_tell_used(struct ept02_root *root, uint64_t *above, unsigned first, unsigned end)
{
    uint64_t eighths = BITS((end - 1) / (EPT_ENTRIES / 8), first / (EPT_ENTRIES / 8));

    if (above)
        ept02_set_entry(above, *above | PUT(eighths, EPT02_USED));
    else
        root->used |= (uint8_t)eighths;
}
/* As an entry that leads to the root's table would be. */
static inline uint64_t ept02_top_entry(const struct ept02_root *root)
{
    return va_to_hpa(root->table) | PUT(root->used, EPT02_USED);
}
/* The root's next use must pass an INVEPT. No lock is needed. */
static inline void ept02_want_invept(struct ept02_root *root)
{
    ledger_owe_ept(va_to_hpa(root->table), "a mapping of EPT02 that went");
    __atomic_fetch_or(&root->owes, EPT02_OWES_INVEPT, __ATOMIC_SEQ_CST);
}
/* A look has work with the root. No lock is needed. */
static inline void ept02_set_dirty(struct ept02_root *root, bool dirty)
{
    __atomic_store_n(&root->dirty, dirty, __ATOMIC_SEQ_CST);
}

#endif
