/* The acts of L2 on the processors that never forget, each as a step of one processor, and what must come of it; and
 * what L1 and L2 do to memory. tests/host/ only; before tlb_l1.h. */
#ifndef TESTS_HOST_TLB_ACTS_H
#define TESTS_HOST_TLB_ACTS_H

#include "tests/host/tlb_sdm.h"

#define TRIES 5000u

static uint64_t asked_rights[PROCESSORS]; /* of each processor's last access, for what is reflected */
static gpa_t asked[PROCESSORS];
static gpa_t favourite[PROCESSORS]; /* where L2 reached a bitmap of L1's */

#define L1_ACTS 14u
#define L2_ACTS 6u

/* How often each of l1_does[] and l2_does[] is done. The first has a bit of all; the others dwell on what few places of
 * Nestor's are about. */
static const struct phase {
    uint8_t l1[L1_ACTS], l2[L2_ACTS];
    bool favours_bitmaps;
} phases[] = {
    {{22, 10, 10, 3, 1, 10, 7, 4, 2, 4, 27, 6, 4, 2}, {40, 26, 12, 4, 4, 14}, false},
    {{30, 2, 2, 0, 0, 15, 1, 1, 0, 1, 30}, {10, 60, 2, 1, 1, 20}, false},            /* EPT12 */
    {{2, 25, 2, 0, 0, 4, 6, 3, 2, 15, 40, 20, 12, 2}, {60, 5, 2, 6, 4, 25}, false},  /* L2's page tables */
    {{1, 0, 8, 0, 2, 1, 0, 2, 1, 2, 60}, {2, 60, 20, 0, 0, 20}, true},               /* bitmaps */
    {{2, 0, 2, 60, 0, 2, 0, 1, 0, 1, 12}, {4, 40, 2, 0, 0, 40}, false},              /* Nestor's memory */
    {{5, 5, 5, 0, 0, 10, 2, 12, 10, 8, 30, 5, 3, 0}, {20, 20, 10, 2, 2, 30}, false}, /* moves of vmcs12s */
    {{1, 3, 0, 0, 0, 1, 0, 25, 0, 3, 20}, {60, 0, 1, 4, 2, 20}, false},              /* one L2 after another */
};
static const struct phase *phase;

QUIET static bool chance(unsigned of)
{
    return host_random() % of == 0;
}

QUIET static unsigned some_msr(void)
{
    return (unsigned)(host_random() % (phase->favours_bitmaps ? 2 : MSRS));
}

/* --- What L1 and L2 do to memory --- */

QUIET static hpa_t page_of(const struct tlb_entry *found)
{
    return found->to == vm.ept01.ones_page ? CARVEOUT : found->to;
}

/* A store of one of them to an entry or a bit, which all that run L2 may see from now on. */
QUIET static void store_word(uint64_t *word, uint64_t value)
{
    see_on_all();
    __atomic_store_n(word, value, __ATOMIC_SEQ_CST);
    see_on_all();
}

QUIET static bool a_page_is_open(void)
{
    bool open = false;

    for (unsigned i = 0; i < PROCESSORS; i++)
        open |= processor[i].vcpu.step.active; /* until the ones are back */
    return open;
}

QUIET static void check_ones(const struct processor *p)
{
    const uint64_t *ones = (const uint64_t *)(memory + vm.ept01.ones_page);

    if (!a_page_is_open() && ones[7] != ~0ull)
        tlb_fail("processor %u reads %lx from Nestor's memory, and not ones", p->number, ones[7]);
}

QUIET static void toggle_bit(const struct processor *p, unsigned data, unsigned msr)
{
    uint64_t *word = data_word(data, msr_number[msr] / 64);

    say(p, "MSR %lx in the bitmap at page %lu of the data: to %lu", msr_number[msr], data,
        !(*word >> msr_number[msr] % 64 & 1), 0);
    store_word(word, *word ^ BIT(msr_number[msr] % 64));
}

/* L2 stores to the page: to a page table of its, to a bitmap of L1, or to nothing that matters. */
QUIET static void l2_stores(const struct processor *p, hpa_t page)
{
    unsigned data = (unsigned)((page - DATA_BASE) / PAGE_SIZE), linear = (unsigned)(host_random() % LINEARS);

    if (page == CARVEOUT)
        ((uint64_t *)(memory + vm.ept01.ones_page))[7] = 0;
    if (page < DATA_BASE || data >= DATA)
        return;
    if (data >= DATA - BITMAPS && !chance(4)) {
        toggle_bit(p, data, some_msr());
    } else {
        uint64_t value = pte_menu[some_choice()];
        say(p, "L2's entry for linear page %lu in page %lu of the data becomes %lx", linear, data, value, 0);
        store_word(data_word(data, linear), value);
    }
}

/* --- L2 --- */

/* A try that came to nothing: where many do, the other processor is in the middle of something. */
QUIET static void tried(const struct processor *p, unsigned times, uint64_t access, gpa_t address)
{
    if (times > 20)
        switch_over();
    if (times == TRIES)
        tlb_fail("processor %u: access %lx to %lx never ends", p->number, access, address);
}

QUIET static bool l2_access(struct processor *p, gpa_t gpa, uint64_t access, uint64_t gva, struct tlb_entry *found)
{
    asked[p->number] = ALIGN_DOWN(gpa, PAGE_SIZE);
    asked_rights[p->number] = access;
    forget_uncached(p->number);
    return hw_access(p, gpa, access, gva, found);
}

/* L2's last exit went to L1: an EPT violation or misconfiguration must be one that the SDM allows. */
QUIET static void l2_left(struct processor *p)
{
    uint32_t reason = (uint32_t)l1_vmread(p, FIELD_INDEX_EXIT_REASON);
    struct result r = {.outcome = reason == EXIT_EPT_MISCONFIG ? IS_MISCONFIG : IS_VIOLATION,
                       .access = asked_rights[p->number]};

    say(p, "L2 exits to L1: reason %lu, gpa %lx", reason, l1_vmread(p, FIELD_INDEX_GUEST_PHYSICAL_ADDRESS), 0, 0);
    if ((reason == EXIT_EPT_VIOLATION || reason == EXIT_EPT_MISCONFIG) && !gpa_gives(p->number, asked[p->number], &r))
        tlb_fail("processor %u: L1 gets exit %u for access %lx of L2 to %lx, which nothing that may be cached gives",
                 p->number, reason, r.access, asked[p->number]);
    sdm_leave(p->number);
}

QUIET static void l2_did(struct processor *p, const struct tlb_entry *found, uint64_t access)
{
    if (page_of(found) == CARVEOUT && !(access & EPT_W))
        check_ones(p);
    if (access & EPT_W)
        l2_stores(p, page_of(found));
    hw_instruction_done(p);
    if (!runs_l2(p))
        l2_left(p);
}

/* An access to the APIC-access page exits, if it must; `must`: nothing can be cached from another use of the page. */
QUIET static bool l2_meets_apic(struct processor *p, const struct tlb_entry *found, bool must)
{
    bool there = tags[p->number].apic && page_of(found) == APIC_PAGE;

    if (!hw_has_apic_page() || !found->apic) {
        if (there && must)
            tlb_fail("processor %u: L2 reaches its APIC-access page, and does not exit", p->number);
        return false;
    }
    if (!there)
        tlb_fail("processor %u: L2 has an APIC-access page at %lx, and should not", p->number, found->to);
    exit_for(p, EXIT_APIC_ACCESS);
    if (runs_l2(p))
        tlb_fail("processor %u: an APIC access of L2 does not exit to L1", p->number);
    l2_left(p);
    return true;
}

QUIET static void l2_touches(struct processor *p)
{
    gpa_t gpa = place((unsigned)(host_random() % (tags[p->number].root == NO_EPT ? 6 : PLACES)));
    uint64_t access = chance(2) ? EPT_W : EPT_R;
    struct tlb_entry found;

    if (phase->favours_bitmaps && favourite[p->number] && !chance(4))
        gpa = favourite[p->number];
    for (unsigned i = 0; !l2_access(p, gpa, access, ~0ull, &found); i++) {
        if (!runs_l2(p)) {
            l2_left(p);
            return;
        }
        tried(p, i, access, gpa);
    }
    if (l2_meets_apic(p, &found, true))
        return;
    struct result r = {.outcome = IS_DONE, .access = access, .page = page_of(&found)};
    if (access == EPT_W && r.page >= DATA_BASE + (DATA - BITMAPS) * PAGE_SIZE && r.page < CARVEOUT)
        favourite[p->number] = gpa;
    say(p, access & EPT_W ? "L2 stores to %lx and reaches %lx" : "L2 reads %lx and reaches %lx", gpa, r.page, 0, 0);
    if (!gpa_gives(p->number, gpa, &r))
        tlb_fail("processor %u: access %lx of L2 to %lx reaches %lx, which nothing that may be cached gives", p->number,
                 access, gpa, r.page);
    l2_did(p, &found, access);
}

/* By L2's page table. */
enum linear_end { LINEAR_DONE, LINEAR_FAULT, LINEAR_AGAIN, LINEAR_UNKNOWN };

QUIET static enum linear_end linear_try(struct processor *p, unsigned linear, uint64_t access, struct tlb_entry *found)
{
    struct tlb_entry want = {
        .kind = TLB_COMBINED, .vpid = hw_vpid(), .pcid = p->pcid, .ep4ta = hw_ep4ta(), .address = linear * PAGE_SIZE};
    const struct tlb_entry *known = tlb_find(&p->tlb, &want);
    bool flags = vmcs_read(EPT_POINTER) & EPTP_AD;
    struct tlb_entry table;

    if (known && (known->permissions & access) == access && host_random() % 8) {
        *found = *known;
        return LINEAR_DONE;
    }
    if (!l2_access(p, space_table(tags[p->number].vpid, p->pcid), flags ? EPT_R | EPT_W : EPT_R, want.address, &table))
        return LINEAR_AGAIN;
    unsigned data = (unsigned)((page_of(&table) - DATA_BASE) / PAGE_SIZE);
    if (page_of(&table) < DATA_BASE || data >= DATA)
        return LINEAR_UNKNOWN;
    uint64_t pte = *data_word(data, linear);
    if (!(pte & 1) || ((access & EPT_W) && !(pte & 2))) {
        *found = table; /* for the story */
        return LINEAR_FAULT;
    }
    if (!l2_access(p, pte & EPT_ADDRESS, access, want.address, found))
        return LINEAR_AGAIN;
    want.to = found->to;
    want.apic = found->apic;
    want.permissions = found->permissions & (pte & 2 ? EPT_RWX : EPT_R | EPT_X);
    tlb_add(&p->tlb, want);
    return LINEAR_DONE;
}

QUIET static void l2_touches_linear(struct processor *p)
{
    unsigned linear = (unsigned)(host_random() % LINEARS);
    uint64_t access = chance(2) ? EPT_W : EPT_R;
    struct tlb_entry found = {0};
    enum linear_end end;

    for (unsigned i = 0; (end = linear_try(p, linear, access, &found)) == LINEAR_AGAIN; i++) {
        if (!runs_l2(p)) {
            l2_left(p);
            return;
        }
        tried(p, i, access, linear * PAGE_SIZE);
    }
    if (end == LINEAR_UNKNOWN)
        return;
    if (end == LINEAR_DONE && l2_meets_apic(p, &found, vpid12[tags[p->number].vpid] == 0))
        return;
    struct result r = {.outcome = end == LINEAR_DONE ? IS_DONE : IS_FAULT, .access = access, .page = page_of(&found)};
    say(p, "L2's access %lu to linear page %lu with PCID %lu reaches %lx", access, linear, p->pcid, r.page);
    if (!linear_gives(p->number, linear, &r))
        tlb_fail(
            "processor %u: access %lx of L2 to linear page %u (VPID %u, PCID %u) %s %lx, which nothing that may be "
            "cached gives",
            p->number, access, linear, vpid12[tags[p->number].vpid], p->pcid,
            r.outcome == IS_DONE ? "reaches" : "faults, not reaching", r.page);
    if (end == LINEAR_DONE)
        l2_did(p, &found, access);
}

/* True if the CPU exits for L2's RDMSR. */
QUIET static bool rdmsr_exits(unsigned msr)
{
    return !(vmcs_read(PROC_CONTROLS) & PROC_USE_MSR_BITMAPS) ||
           bitmap_bit((const uint8_t *)hpa_to_va(vmcs_read(MSR_BITMAP)), msr);
}

QUIET static void check_rdmsr(struct processor *p, unsigned msr, bool exited, bool to_l1)
{
    unsigned number = p->number;
    uint8_t l1 = tags[number].bitmap ? may[number].l1_bit[msr] : 2, l0 = may[number].l0_bit[msr];

    say(p, "L2 reads MSR %lx: exit %lu, to L1 %lu", msr_number[msr], exited, to_l1, 0);
    if (!(l1 & (to_l1 ? 2 : 1)))
        tlb_fail("processor %u: RDMSR(%x) of L2 %s, as L1's bitmap does not say", number, msr_number[msr],
                 to_l1 ? "exits to L1" : "does not exit to L1");
    if (!exited && !(l0 & 1))
        tlb_fail("processor %u: RDMSR(%x) of L2 does not exit, and Nestor keeps the MSR", number, msr_number[msr]);
}

QUIET static void l2_reads_msr(struct processor *p)
{
    unsigned msr = some_msr();

    p->vcpu.regs[RCX] = msr_number[msr];
    for (unsigned i = 0; i < TRIES; i++) {
        if (!rdmsr_exits(msr)) {
            check_rdmsr(p, msr, false, false);
            return;
        }
        l0_did_msr[p->number] = false;
        exit_for(p, EXIT_RDMSR);
        if (!runs_l2(p)) {
            check_rdmsr(p, msr, true, true);
            l2_left(p);
            return;
        }
        if (l0_did_msr[p->number]) {
            check_rdmsr(p, msr, true, false);
            return;
        }
    }
    tlb_fail("processor %u: RDMSR(%x) of L2 never ends", p->number, msr_number[msr]);
}

/* MOV to CR3, with or without keeping what is cached for the new PCID. */
QUIET static void l2_moves_to_cr3(struct processor *p)
{
    bool keep = chance(2);

    p->pcid = (uint16_t)(host_random() % SPACES);
    say(p, "L2 loads CR3 with PCID %lu, keeping its translations: %lu", p->pcid, keep, 0, 0);
    if (!keep) {
        tlb_invalidate(
            &p->tlb,
            (struct tlb_reach){
                .combined = true, .every_ep4ta = true, .vpid = hw_vpid(), .pcid = p->pcid, .every_address = true});
        forget_ptes(p->number, tags[p->number].vpid, p->pcid, ~0u, ~0u);
    }
    see_all(p->number);
}

QUIET static void l2_invlpg(struct processor *p)
{
    unsigned linear = (unsigned)(host_random() % LINEARS);

    say(p, "L2: INVLPG of linear page %lu, PCID %lu", linear, p->pcid, 0, 0);
    tlb_invalidate(
        &p->tlb,
        (struct tlb_reach){
            .combined = true, .every_ep4ta = true, .vpid = hw_vpid(), .pcid = p->pcid, .address = linear * PAGE_SIZE});
    forget_ptes(p->number, tags[p->number].vpid, p->pcid, ~0u, linear);
}

QUIET static void l2_calls(struct processor *p)
{
    exit_for(p, EXIT_VMCALL);
    if (runs_l2(p))
        tlb_fail("processor %u: VMCALL of L2 does not exit to L1", p->number);
    l2_left(p);
}

#endif
