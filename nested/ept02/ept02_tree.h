/* The trees of EPT02s: pages and roots, for those who fill them. The ept12's lock is held, but where it says otherwise.
 * In nested/ept02/ept02.c; nested/ept02/ept02_fill.c alone uses them. */
#ifndef NESTED_EPT02_EPT02_TREE_H
#define NESTED_EPT02_EPT02_TREE_H

#include "kernel/layout.h"
#include "nested/ept02/ept02.h"

#define EPT12_TOP_LEVEL 4u
/* Of entries that lead to tables. Preset: the processor then writes no EPT02 entry, whether or not the EPTP has A/D
 * flags on. */
#define EPT12_TABLE_FLAGS (EPT_RWX | EPT_A)

/* A page for a table, filled with 0; NULL when there is none. */
void *ept12_take_page(struct ept12 *e);
void ept12_give_page(struct ept12 *e, void *page);
/* Frees the tables below `table`, which is at `level`, and clears its entries. */
void ept12_empty_table(struct ept12 *e, uint64_t *table, unsigned level);
/* Pages ran out: another root than `keep` goes, or else all that `keep` maps; its own table stays. */
void ept12_recycle(struct ept12 *e, struct ept12_root *keep);
/* The root of eptp12, made when there is none; and the same without making, NULL then. */
struct ept12_root *ept12_get_root(struct ept12 *e, uint64_t eptp12);
struct ept12_root *ept12_find_root(struct ept12 *e, uint64_t eptp12);

static inline uint64_t *ept12_table_of(uint64_t entry)
{
    return hpa_to_va(entry & EPT_ADDRESS);
}
static inline void ept12_set_entry(uint64_t *entry, uint64_t value)
{
    __atomic_store_n(entry, value, __ATOMIC_RELEASE);
}
/* The root's next use must pass an INVEPT. No lock is needed. */
static inline void ept12_want_invept(struct ept12_root *root)
{
    __atomic_fetch_or(&root->owes, EPT12_OWES_INVEPT, __ATOMIC_SEQ_CST);
}
/* A look has work with the root. No lock is needed. */
static inline void ept12_set_dirty(struct ept12_root *root, bool dirty)
{
    __atomic_store_n(&root->dirty, dirty, __ATOMIC_SEQ_CST);
}

#endif
