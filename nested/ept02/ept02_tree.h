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

/* A page for a table, filled with 0; NULL when there is none. */
void *ept02_take_page(struct ept02s *e);
void ept02_give_page(struct ept02s *e, void *page);
/* Frees the tables below `table`, which is at `level`, and clears its entries. */
void ept02_empty_table(struct ept02s *e, uint64_t *table, unsigned level);
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
static inline uint64_t *ept02_table_of(uint64_t entry)
{
    return hpa_to_va(entry & EPT_ADDRESS);
}
static inline void ept02_set_entry(uint64_t *entry, uint64_t value)
{
    __atomic_store_n(entry, value, __ATOMIC_RELEASE);
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
