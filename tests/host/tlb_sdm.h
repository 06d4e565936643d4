/* The values that the SDM allows L2 to see: for each processor the values of each paging entry that it may have cached,
 * as sets. While a processor runs L2 it may cache, at any time, by the current EP4TA, VPID and PCID, what the entries
 * hold; in L1, which is root operation to it, nothing; and INVEPT, INVVPID, and what else invalidates, take away (SDM
 * 3C 29.4.3.1). An access may use any mixture of those values. Shares no code with Nestor. tests/host/ only; after
 * tlb_world.h. */
#ifndef TESTS_HOST_TLB_SDM_H
#define TESTS_HOST_TLB_SDM_H

#include "tests/host/tlb_world.h"

#define ROOTS 2u
#define NO_EPT ROOTS /* as the EP4TA of an L2 that has no EPT */

/* The L2 that a processor runs. */
struct l2_tags {
    bool resident;
    unsigned root; /* table of EPT12, or NO_EPT */
    unsigned vpid; /* index in vpid12[] */
    bool flags;    /* EPT12's A/D flags are on */
    bool apic;     /* it has an APIC-access page, and no EPT */
    bool bitmap;   /* L1 uses an MSR bitmap, the one in page `bitmap_page` of the data */
    unsigned bitmap_page;
};

/* A bit for each value of the menu. */
struct may {
    uint16_t ept[ROOTS][TABLES][SLOTS], dirty[ROOTS][TABLES][SLOTS]; /* dirty: with D set, or where D does not matter */
    uint16_t pte[VPIDS][SPACES][ROOTS + 1][DATA][LINEARS];
    uint8_t
        own[LINEARS]; /* pages to which L1's own linear pages may lead, by the entries of its page table: VPID 0000H */
    uint8_t l1_bit[MSRS], l0_bit[MSRS]; /* 1: it may be 0, 2: it may be 1 */
};

static struct l2_tags tags[PROCESSORS];
static struct may may[PROCESSORS];

QUIET static unsigned slots_of(unsigned table)
{
    return table_level[table] == 4 ? 1 : table_level[table] == 1 ? 3 : 2;
}

QUIET static void see_ept(unsigned number, unsigned table, unsigned slot)
{
    const struct l2_tags *t = &tags[number];
    uint64_t entry = *table_entry(table, slot);

    if (!t->resident || t->root == NO_EPT)
        return;
    may[number].ept[t->root][table][slot] |= (uint16_t)BIT(menu_of(entry));
    if (!t->flags || (entry & EPT_D))
        may[number].dirty[t->root][table][slot] |= (uint16_t)BIT(menu_of(entry));
}

QUIET static void see_pte(unsigned number, unsigned data, unsigned linear)
{
    const struct l2_tags *t = &tags[number];

    if (t->resident)
        may[number].pte[t->vpid][processor[number].pcid][t->root][data][linear] |=
            (uint16_t)BIT(menu_of(*data_word(data, linear)));
}

/* The bits of MSRs in a page. */
QUIET static bool bitmap_bit(const uint8_t *page, unsigned msr)
{
    return page[msr_number[msr] / 8] >> msr_number[msr] % 8 & 1;
}

QUIET static void see_bits(unsigned number)
{
    const struct l2_tags *t = &tags[number];

    for (unsigned msr = 0; t->resident && msr < MSRS; msr++) {
        may[number].l1_bit[msr] |= 1u << bitmap_bit(memory + DATA_BASE + t->bitmap_page * PAGE_SIZE, msr);
        may[number].l0_bit[msr] |= 1u << bitmap_bit(vm.msr_bitmap, msr);
    }
}

QUIET static unsigned own_of(uint64_t entry)
{
    return (unsigned)((entry & EPT_ADDRESS) - own_page(0)) / PAGE_SIZE;
}

/* Root operation has VPID 0000H. */
QUIET static void see_own(unsigned number)
{
    for (unsigned linear = 0; !tags[number].resident && linear < LINEARS; linear++)
        may[number].own[linear] |= (uint8_t)BIT(own_of(*own_entry(linear)));
}

/* All that the current tags may cache now. */
QUIET static void see_all(unsigned number)
{
    see_own(number);
    for (unsigned table = 0; table < TABLES; table++)
        for (unsigned slot = 0; slot < slots_of(table); slot++)
            see_ept(number, table, slot);
    for (unsigned data = 0; data < DATA; data++)
        for (unsigned linear = 0; linear < LINEARS; linear++)
            see_pte(number, data, linear);
    see_bits(number);
}

/* Before and after each store, by whomever. */
QUIET static void see_on_all(void)
{
    for (unsigned i = 0; i < PROCESSORS; i++)
        see_all(i);
}

/* Which values of L2's page tables go: of `vpid`, of `space`, of `root`, of `linear`; ~0: of all. */
QUIET static void forget_ptes(unsigned number, unsigned vpid, unsigned space, unsigned root, unsigned linear)
{
    for (unsigned v = 0; v < VPIDS; v++)
        for (unsigned s = 0; s < SPACES; s++)
            for (unsigned r = 0; r <= ROOTS; r++)
                for (unsigned data = 0; data < DATA; data++)
                    for (unsigned l = 0; l < LINEARS; l++)
                        if ((vpid == ~0u || v == vpid) && (space == ~0u || s == space) && (root == ~0u || r == root) &&
                            (linear == ~0u || l == linear))
                            may[number].pte[v][s][r][data][l] = 0;
    see_all(number);
}

/* L1's INVEPT: guest-physical and combined mappings, these of all VPIDs and PCIDs. ~0: of all roots. */
QUIET static void sdm_invept(unsigned number, unsigned root)
{
    for (unsigned r = 0; r < ROOTS; r++) {
        if (root != ~0u && r != root)
            continue;
        memset(may[number].ept[r], 0, sizeof may[number].ept[r]);
        memset(may[number].dirty[r], 0, sizeof may[number].dirty[r]);
        forget_ptes(number, ~0u, ~0u, r, ~0u);
    }
}

/* An access begins: entries that are not present (the first of each menu) or misconfigured (the second) are never
 * cached, so it meets them only where they are now, or come while it goes on. SDM 3C 29.4.2 "Creating and Using Cached
 * Translation Information" */
QUIET static void forget_uncached(unsigned number)
{
    unsigned root = tags[number].root;

    for (unsigned table = 0; root != NO_EPT && table < TABLES; table++)
        for (unsigned slot = 0; slot < slots_of(table); slot++) {
            may[number].ept[root][table][slot] &= (uint16_t)~BITS(1, 0);
            see_ept(number, table, slot);
        }
}

/* Without VPID entries and exits invalidate what is cached for VPID 0000H: L2's, and L1's own. */
QUIET static void forget_zero(unsigned number)
{
    if (vpid12[tags[number].vpid] != 0)
        return;
    memset(may[number].own, 0, sizeof may[number].own);
    forget_ptes(number, tags[number].vpid, ~0u, ~0u, ~0u);
}

/* An entry into L2 begins, or L2 has exited to L1. */
QUIET static void sdm_enter(unsigned number, struct l2_tags of)
{
    tags[number] = of;
    tags[number].resident = true;
    memset(may[number].l1_bit, 0, sizeof may[number].l1_bit);
    memset(may[number].l0_bit, 0, sizeof may[number].l0_bit);
    forget_zero(number);
    see_all(number);
}

QUIET static void sdm_leave(unsigned number)
{
    see_all(number); /* D flags that were set meanwhile */
    tags[number].resident = false;
    forget_zero(number);
    see_own(number);
}

/* --- What an access may come to --- */

enum outcome { IS_DONE, IS_VIOLATION, IS_MISCONFIG, IS_FAULT };

struct result {
    enum outcome outcome;
    uint64_t access; /* that was asked for */
    hpa_t page;      /* IS_DONE: where */
};

QUIET static bool is_misconfigured(uint64_t entry)
{
    return (entry & EPT_W) && !(entry & EPT_R);
}

/* True if a leaf with these rights gives the result; for stores with A/D flags on, D must have been set. */
QUIET static bool leaf_gives(unsigned number, unsigned table, unsigned slot, unsigned value, uint64_t rights,
                             gpa_t page, const struct result *r)
{
    bool dirty = !tags[number].flags || !(r->access & EPT_W) || table_level[table] > 3 ||
                 (may[number].dirty[tags[number].root][table][slot] & BIT(value)) ||
                 (menu_of(*table_entry(table, slot)) == value && (*table_entry(table, slot) & EPT_D));

    if ((rights & r->access) != r->access)
        return r->outcome == IS_VIOLATION;
    return r->outcome == IS_DONE && r->page == page && dirty;
}

QUIET static bool table_gives(unsigned number, unsigned table, gpa_t gpa2, uint64_t rights, const struct result *r)
{
    unsigned level = table_level[table], slot = (unsigned)ept_index(gpa2, level);
    uint64_t inside = ept_level_size(level) - 1;

    for (unsigned values = may[number].ept[tags[number].root][table][slot]; values; values &= values - 1) {
        unsigned value = (unsigned)__builtin_ctz(values);
        uint64_t entry = table_menu[table][value];
        bool gives;
        if (!(entry & EPT_RWX))
            gives = r->outcome == IS_VIOLATION;
        else if (is_misconfigured(entry))
            gives = r->outcome == IS_MISCONFIG;
        else if (level == 1 || (entry & EPT_LARGE))
            gives = leaf_gives(number, table, slot, value, rights & entry,
                               ALIGN_DOWN((entry & EPT_ADDRESS & ~inside) | (gpa2 & inside), PAGE_SIZE), r);
        else
            gives = table_gives(number, (unsigned)((entry & EPT_ADDRESS) - TABLE_BASE) / PAGE_SIZE, gpa2,
                                rights & entry, r);
        if (gives)
            return true;
    }
    return false;
}

/* An access to a guest-physical address. */
QUIET static bool gpa_gives(unsigned number, gpa_t gpa2, const struct result *r)
{
    if (tags[number].root == NO_EPT)
        return r->outcome == IS_DONE && r->page == ALIGN_DOWN(gpa2, PAGE_SIZE);
    return table_gives(number, tags[number].root, gpa2, EPT_RWX, r);
}

/* One by the entry of L2's page table in page `data`, as far as the entry goes. */
QUIET static bool pte_gives(unsigned number, unsigned data, unsigned linear, const struct result *r)
{
    const struct l2_tags *t = &tags[number];

    for (unsigned values = may[number].pte[t->vpid][processor[number].pcid][t->root][data][linear]; values;
         values &= values - 1) {
        uint64_t pte = pte_menu[__builtin_ctz(values)];
        bool allowed = (pte & 1) && (!(r->access & EPT_W) || (pte & 2));
        if (allowed ? gpa_gives(number, pte & EPT_ADDRESS, r) : r->outcome == IS_FAULT)
            return true;
    }
    return false;
}

/* An access to a linear address, by L2's page table, wherever EPT12 may have that. */
QUIET static bool linear_gives(unsigned number, unsigned linear, const struct result *r)
{
    gpa_t table = space_table(tags[number].vpid, processor[number].pcid);
    struct result walk = {.access = tags[number].flags ? EPT_R | EPT_W : EPT_R};

    for (unsigned data = 0; data < DATA; data++) {
        walk.page = DATA_BASE + data * PAGE_SIZE;
        if (gpa_gives(number, table, &walk) && pte_gives(number, data, linear, r))
            return true;
    }
    return false;
}

#endif
