/* EPT02 behaves towards L1 like the TLB of a CPU for the guest-physical mappings of EPT12: it may hold what L1's
 * tables said once, and must forget it when L1 executes INVEPT. Nothing else ties it to EPT12. So it is filled by
 * the violations of L2 (nested/ept02/ept02_fill.c), and INVEPT marks roots instead of emptying them; before the next
 * entry a marked root drops what was made of tables that L1 has stored to. nested/ept02/ept12_trace.c knows which
 * those are.
 *
 * Only one thing is taken from EPT02 at once, and from any processor: W on a page that begins to be watched
 * (ept02_protect()). */
#include "nested/ept02/ept02.h"

#include "kernel/cmdline.h"
#include "kernel/layout.h"
#include "kernel/ledger.h"
#include "kernel/panic.h"
#include "kernel/percpu.h"
#include "nested/ept02/ept02_filter.h"
#include "nested/ept02/ept02_tree.h"
#include "nested/ept02/ept12_trace.h"
#include "vmx/straight.h"
#include "vmx/vmx_bits.h"

#define EPTP_FLAGS (PUT(MEMTYPE_WB, EPTP_MEMORY_TYPE) | PUT(EPT02_TOP_LEVEL - 1, EPTP_WALK_LENGTH))

struct ept02_root *ept02_root(struct ept02s *ept02s, uint64_t eptp12)
{
    struct ept02_root *root;

    spinlock_lock(&ept02s->lock);
    root = ept02_get_root(ept02s, eptp12);
    spinlock_unlock(&ept02s->lock);
    return root;
}

uint64_t ept02_eptp(const struct ept02_root *root)
{
    /* A/D flags exactly as L1 has them: with them on, the CPU's walks of L2's page tables count as writes, which L1's
     * EPT12 must then allow. */
    return va_to_hpa(root->table) | EPTP_FLAGS | (root->key & EPTP_AD);
}

/* Empties a whole EPT02: what INVEPT of L1 means where EPT12 is not traced. */
static void flush_tree(struct ept02s *e, struct ept02_root *root)
{
    spinlock_lock(&e->lock);
    if (root->used) {
        ept02_clear(e, root);
        count(COUNT_EPT02_FLUSHES);
    }
    spinlock_unlock(&e->lock);
}

void ept02_look(struct ept02s *e, struct ept02_root *root)
{
    if (!(__atomic_load_n(&root->owes, __ATOMIC_RELAXED) & EPT02_OWES_LOOK))
        return;
    /* Taken away before the look, so that a store that comes while it goes on is owed again. */
    (void)__atomic_fetch_and(&root->owes, (uint8_t)~EPT02_OWES_LOOK, __ATOMIC_SEQ_CST);
    e->settled |= (uint32_t)BIT(root - e->root);
    e->looks++;
    /* Nothing that this EPT02 was made of was stored to: INVEPT of L1 has nothing to drop. */
    if (!__atomic_load_n(&root->dirty, __ATOMIC_SEQ_CST))
        return;
    e->covered.size = 0;
    if (e->trace)
        ept12_trace_look(e, root);
    else
        flush_tree(e, root); /* and it stays dirty */
}

/* From here on EPT01's generation tells of mappings that another processor takes away. */
void ept02_settle_debt(struct ept02s *e, struct ept02_root *root)
{
    ept02_look(e, root);
    __atomic_store_n(&root->owes, 0, __ATOMIC_SEQ_CST);
}

/* In the ledger. */
static inline void enter_invept(const struct ept02s *e, uint64_t eptp12, uint64_t mask)
{
#ifdef CHECKED
    for (unsigned i = 0; i < EPT02_ROOTS; i++)
        if (e->root[i].table && !((e->root[i].key ^ eptp12) & mask))
            ledger_owe_ept(va_to_hpa(e->root[i].table), "INVEPT of L1");
#endif
    (void)e, (void)eptp12, (void)mask;
}

/* Root operation caches nothing for an EPT02, and L1's next entry may be far: nothing is due before that. One that owes
 * a look already cannot owe more. */
static inline void owe_matching(struct ept02s *e, uint64_t eptp12, uint64_t mask)
{
    enter_invept(e, eptp12, mask);
    for (uint32_t settled = e->settled; settled; settled &= settled - 1) {
        struct ept02_root *root = &e->root[__builtin_ctz(settled)];
        if (((root->key ^ eptp12) & mask) || options.fault == FAULT_SKIP_INVEPT)
            continue;
        e->settled &= ~(settled & -settled);
        __atomic_fetch_or(&root->owes, EPT02_OWES_LOOK | EPT02_OWES_INVEPT, __ATOMIC_SEQ_CST);
        if (options.fault == FAULT_INVEPT_AT_ONCE)
            ept02_look(e, root);
    }
}

/* SDM 3C 29.4.3.1 "Operations that Invalidate Cached Mappings": bits 51:12 of the EPTP tell which. */
void ept02_invept_single(struct ept02s *ept02s, uint64_t eptp12)
{
    owe_matching(ept02s, eptp12, EP4TA);
}

void ept02_invept_all(struct ept02s *ept02s)
{
    owe_matching(ept02s, 0, 0);
}

void ept02_forget_all(struct ept02s *ept02s)
{
    for (unsigned i = 0; i < EPT02_ROOTS; i++)
        if (ept02s->root[i].table)
            flush_tree(ept02s, &ept02s->root[i]);
    ept02s->covered.size = 0;
    /* The trackers watched tables of EPT12 for trees that are gone. */
    ept12_trace_forget(ept02s);
}

/* The leaf that maps gpa2; NULL when there is none. The lock is held. */
static uint64_t *find_leaf(const struct ept02_root *root, gpa_t gpa2)
{
    uint64_t *table = root ? root->table : NULL;

    for (unsigned level = EPT02_TOP_LEVEL; table; level--) {
        uint64_t *entry = &table[ept_index(gpa2, level)];
        if (!*entry)
            return NULL;
        if (ept_is_leaf(*entry, level))
            return entry;
        table = ept02_table_of(*entry);
    }
    return NULL;
}

/* Only a leaf goes, never a table: others may be mapped by it, and the next violation needs it again. */
void ept02_forget(struct ept02s *ept02s, uint64_t eptp12, gpa_t gpa2)
{
    struct ept02_root *root;
    uint64_t *leaf;

    spinlock_lock(&ept02s->lock);
    root = ept02_find_root(ept02s, eptp12);
    leaf = find_leaf(root, gpa2);
    if (leaf) {
        ept02_set_entry(leaf, 0);
        ept02_want_invept(root);
    }
    spinlock_unlock(&ept02s->lock);
}

void ept02_close(struct ept02s *ept02s, uint64_t eptp12, gpa_t gpa2)
{
    struct ept02_root *root;
    uint64_t *leaf;

    spinlock_lock(&ept02s->lock);
    root = ept02_find_root(ept02s, eptp12);
    leaf = find_leaf(root, gpa2);
    if (leaf && (*leaf & EPT_ADDRESS) == ept02s->shared->ept01->ones_page) {
        ept02_set_entry(leaf, *leaf & ~EPT_W);
        ept02_want_invept(root);
    }
    spinlock_unlock(&ept02s->lock);
}

/* --- Write protection --- */

/* Takes W from the leaf if it maps the page; true then. */
static inline bool protect_leaf(uint64_t *leaf, unsigned level, gpa_t page)
{
    uint64_t entry = *leaf;

    if (!(entry & (EPT_W | EPT_SUB_PAGE)) || ((entry ^ page) & EPT_ADDRESS & ~(ept_level_size(level) - 1)))
        return false;
    ept02_set_entry(leaf, entry & ~(EPT_W | EPT_SUB_PAGE));
    return true;
}

static bool protect_below(uint64_t above, unsigned level, gpa_t page);

/* The same of a table of 2 MiB pages and tables below. */
static bool protect_large(uint64_t *table, uint64_t used, gpa_t page)
{
    bool found = false;

    for (unsigned i = 0; i < EPT_ENTRIES; i++) {
        uint64_t entry = table[i];
        /* Most are of large pages, and of others. */
        if ((entry & EPT_LARGE) && ((entry ^ page) & EPT_ADDRESS & ~(LARGE_2M - 1)))
            continue;
        if (entry & EPT_LARGE)
            found |= protect_leaf(&table[i], 2, page);
        else if (entry)
            found |= protect_below(entry, 1, page);
        else if ((i = ept02_next_used(table, used, i)) < EPT_ENTRIES)
            i--;
    }
    return found;
}

/* The same of every leaf below the table of the entry `above`, at `level`. */
static bool protect_below(uint64_t above, unsigned level, gpa_t page)
{
    uint64_t *table = ept02_table_of(above), used = level > 1 ? GET(above, EPT02_USED) : BITS(7, 0);
    bool found = false;

    if (level == 1 && !(above & EPT02_MIXED))
        return protect_leaf(&table[ept_index(page, 1)], 1, page);
    if (level == 2)
        return protect_large(table, used, page);
    for (unsigned i = 0; (i = ept02_next_used(table, used, i)) < EPT_ENTRIES; i++) {
        if (ept_is_leaf(table[i], level))
            found |= protect_leaf(&table[i], level, page);
        else
            found |= protect_below(table[i], level - 1, page);
    }
    return found;
}

static bool protect_root(const struct ept02_root *root, gpa_t page)
{
    return root->table && root->used && protect_below(ept02_top_entry(root), EPT02_TOP_LEVEL, page);
}

void ept02_protect(void *context, gpa_t page)
{
    struct ept02_shared *shared = context;

    /* No EPT02 of any processor ever made the page writable: the usual case costs one bit. */
    if (!ept02_take_mark(shared, page))
        return;
    spinlock_lock(&shared->lock);
    for (struct ept02s *e = shared->list; e; e = e->next) {
        spinlock_lock(&e->lock);
        for (unsigned i = 0; i < EPT02_ROOTS; i++)
            if (protect_root(&e->root[i], page)) {
                /* Its processor may have the right cached; the caller's kick and the debt together make it forget. */
                ledger_owe_others(va_to_hpa(e->root[i].table), "a page of EPT02 that lost W");
                ept02_want_invept(&e->root[i]);
            }
        if (e->cpu)
            straight_disturb(e->cpu);
        spinlock_unlock(&e->lock);
    }
    spinlock_unlock(&shared->lock);
}

/* Without the lock: for the processor that owns the trees. */
struct ept_leaf ept02_translate(struct ept02s *ept02s, uint64_t eptp12, gpa_t gpa2)
{
    struct ept02_root *root = ept02_find_root(ept02s, eptp12);
    const uint64_t *table = root ? root->table : NULL;

    for (unsigned level = EPT02_TOP_LEVEL; table; level--) {
        uint64_t entry = table[ept_index(gpa2, level)];
        if (!entry)
            break;
        if (ept_is_leaf(entry, level))
            return ept_leaf_of(entry, gpa2, level);
        table = ept02_table_of(entry);
    }
    return (struct ept_leaf){0};
}
