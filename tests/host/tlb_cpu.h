/* A processor's caches for translations that never forget: what the SDM lets a CPU keep is kept, with its tags, until
 * an operation that takes it away, and what may still be used is used, mostly. SDM 3C 29.4.3.1 "Operations that
 * Invalidate Cached Mappings"
 *   guest-physical mappings: EP4TA, guest-physical page -> page, rights; and tables on the way (paging-structure
 caches)
 *   combined mappings: VPID, PCID, EP4TA, linear page -> page, rights
 * Linear mappings are not here: each guest of Nestor's runs under EPT.
 * tests/host/tlb_machine.h has two of them. */
#ifndef TESTS_HOST_TLB_CPU_H
#define TESTS_HOST_TLB_CPU_H

#include "tests/host/host.h"

#include "kernel/layout.h"
#include "mm/ept.h"
#include "nested/ept02/ept02_tree.h"
#include "vmx/vmx_bits.h"
#include "vmx/vmx_insn.h"

/* Never into the code under test: no place where another processor may come between. */
#define QUIET __attribute__((no_instrument_function, unused))

#define TLB_BUCKETS 64u
#define TLB_WAYS 24u /* more than the worlds of the tests can fill with different ones, mostly */

enum tlb_kind { TLB_GUEST_PHYSICAL, TLB_TABLE, TLB_COMBINED };

struct tlb_entry {
    uint8_t kind, level; /* level: of the table that a TLB_TABLE leads to */
    bool misconfigured;  /* the leaf is; never cached */
    bool apic;           /* it was the APIC-access page of the VMCS under which it was cached */
    uint16_t vpid, pcid;
    uint64_t ep4ta, address; /* page, or the part of it that is translated up to the table */
    hpa_t to;
    uint64_t permissions;
};

struct tlb {
    struct tlb_entry entry[TLB_BUCKETS][TLB_WAYS];
    uint8_t used[TLB_BUCKETS];
};

/* In the machine: ends the test, with the last operations in words. */
void tlb_fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn, no_instrument_function));

QUIET static unsigned tlb_bucket(unsigned kind, unsigned level, uint64_t address)
{
    return (unsigned)((address / PAGE_SIZE) * 0x9e3779b97f4a7c15ull >> 40 ^ kind * 5 ^ level) % TLB_BUCKETS;
}

QUIET static bool tlb_same(const struct tlb_entry *a, const struct tlb_entry *b)
{
    return a->kind == b->kind && a->level == b->level && a->vpid == b->vpid && a->pcid == b->pcid &&
           a->ep4ta == b->ep4ta && a->address == b->address && a->to == b->to && a->permissions == b->permissions &&
           a->apic == b->apic;
}

QUIET static void tlb_add(struct tlb *tlb, struct tlb_entry entry)
{
    unsigned bucket = tlb_bucket(entry.kind, entry.level, entry.address);
    struct tlb_entry *way = tlb->entry[bucket];

    for (unsigned i = 0; i < tlb->used[bucket]; i++)
        if (tlb_same(&way[i], &entry))
            return;
    way[tlb->used[bucket] < TLB_WAYS ? tlb->used[bucket]++ : host_random() % TLB_WAYS] = entry;
}

/* One of those with the tags and the address of `want`; NULL when there is none. */
QUIET static const struct tlb_entry *tlb_find(const struct tlb *tlb, const struct tlb_entry *want)
{
    unsigned bucket = tlb_bucket(want->kind, want->level, want->address), found = 0;
    const struct tlb_entry *way = tlb->entry[bucket], *chosen = NULL;

    for (unsigned i = 0; i < tlb->used[bucket]; i++) {
        const struct tlb_entry *e = &way[i];
        if (e->kind == want->kind && e->level == want->level && e->address == want->address &&
            e->ep4ta == want->ep4ta && (e->kind != TLB_COMBINED || (e->vpid == want->vpid && e->pcid == want->pcid)) &&
            host_random() % ++found == 0)
            chosen = e;
    }
    return chosen;
}

/* The entries that an operation invalidates. */
struct tlb_reach {
    bool guest_physical, combined;
    bool every_ep4ta, every_vpid, every_pcid, every_address;
    uint64_t ep4ta, address; /* of combined mappings, or of guest-physical ones */
    uint16_t vpid, pcid;
};

QUIET static bool tlb_reaches(const struct tlb_reach *r, const struct tlb_entry *e)
{
    if (!r->every_ep4ta && e->ep4ta != r->ep4ta)
        return false;
    if (e->kind == TLB_COMBINED)
        return r->combined && (r->every_vpid || e->vpid == r->vpid) && (r->every_pcid || e->pcid == r->pcid) &&
               (r->every_address || e->address == r->address);
    if (!r->guest_physical)
        return false;
    return r->every_address ||
           (e->kind == TLB_TABLE ? ALIGN_DOWN(r->address, ept_level_size(e->level + 1)) == e->address
                                 : r->address == e->address);
}

QUIET static void tlb_invalidate(struct tlb *tlb, struct tlb_reach reach)
{
    for (unsigned bucket = 0; bucket < TLB_BUCKETS; bucket++)
        for (unsigned i = 0; i < tlb->used[bucket];) {
            if (tlb_reaches(&reach, &tlb->entry[bucket][i]))
                tlb->entry[bucket][i] = tlb->entry[bucket][--tlb->used[bucket]];
            else
                i++;
        }
}

/* The entry of an EPT of Nestor's: a table that was given back, or one that is misconfigured, is Nestor's fault, but
 * for the leaf that repeats one of L1's. */
QUIET static uint64_t tlb_read_ept(hpa_t table, unsigned index, unsigned level)
{
    uint64_t entry = __atomic_load_n((const uint64_t *)hpa_to_va(table) + index, __ATOMIC_ACQUIRE);

    if (entry == EPT02_MISCONFIGURED && level == 1)
        return entry;
    if ((entry & (EPT_R | EPT_W)) == EPT_W || (entry & EPT_ADDRESS) >> 40 || (level == 4 && (entry & EPT_LARGE)))
        tlb_fail("the CPU walks an EPT entry that is none: %lx in the table at %lx, level %u", entry, table, level);
    return entry;
}

/* In the machine: the page is the current VMCS's APIC-access page. */
static bool tlb_is_apic_page(hpa_t page);

/* Translates by the tables as they are, from the root or from a table that the CPU remembers, and remembers all that it
 * met. 0 permissions: not present. */
QUIET static struct tlb_entry tlb_walk(struct tlb *tlb, uint64_t ep4ta, gpa_t gpa)
{
    struct tlb_entry found = {.kind = TLB_GUEST_PHYSICAL, .ep4ta = ep4ta, .address = ALIGN_DOWN(gpa, PAGE_SIZE)};
    uint64_t permissions = EPT_RWX;
    hpa_t table = ep4ta;
    unsigned level = 4;

    for (unsigned at = 1; at <= 3 && host_random() % 2; at++) {
        struct tlb_entry want = {.kind = TLB_TABLE,
                                 .level = (uint8_t)at,
                                 .ep4ta = ep4ta,
                                 .address = ALIGN_DOWN(gpa, ept_level_size(at + 1))};
        const struct tlb_entry *known = tlb_find(tlb, &want);
        if (known) {
            table = known->to;
            permissions = known->permissions;
            level = at;
            break;
        }
    }
    for (;; level--) {
        uint64_t entry = tlb_read_ept(table, ept_index(gpa, level), level);
        if (entry == EPT02_MISCONFIGURED) {
            found.misconfigured = true;
            return found;
        }
        permissions &= entry;
        if (!(permissions & EPT_RWX))
            return found;
        if (ept_is_leaf(entry, level)) {
            found.permissions = permissions & EPT_RWX;
            found.to = ALIGN_DOWN(ept_leaf_of(entry, gpa, level).hpa, PAGE_SIZE);
            found.apic = level == 1 && tlb_is_apic_page(found.to); /* of a larger page it may be, or not */
            tlb_add(tlb, found);
            return found;
        }
        table = entry & EPT_ADDRESS;
        tlb_add(tlb, (struct tlb_entry){.kind = TLB_TABLE,
                                        .level = (uint8_t)(level - 1),
                                        .ep4ta = ep4ta,
                                        .address = ALIGN_DOWN(gpa, ept_level_size(level)),
                                        .to = table,
                                        .permissions = permissions & EPT_RWX});
    }
}

/* A guest-physical address, by what is remembered or by the tables. */
QUIET static struct tlb_entry tlb_translate(struct tlb *tlb, uint64_t ep4ta, gpa_t gpa)
{
    struct tlb_entry want = {.kind = TLB_GUEST_PHYSICAL, .ep4ta = ep4ta, .address = ALIGN_DOWN(gpa, PAGE_SIZE)};
    const struct tlb_entry *known = tlb_find(tlb, &want);

    return known && host_random() % 8 ? *known : tlb_walk(tlb, ep4ta, gpa);
}

#endif
