/* What L1 and L2 do on the processors that never forget, each as a step of one processor, and what must come of it.
 * tests/host/ only; one file of a program includes it. */
#ifndef TESTS_HOST_TLB_ACTS_H
#define TESTS_HOST_TLB_ACTS_H

#include "tests/host/tlb_sdm.h"

#define TRIES 5000u

static uint64_t asked_rights[PROCESSORS]; /* of each processor's last access, for what is reflected */
static gpa_t asked[PROCESSORS];
static gpa_t favourite[PROCESSORS]; /* where L2 reached a bitmap of L1's */

#define L1_ACTS 11u
#define L2_ACTS 6u

/* How often each of l1_does[] and l2_does[] is done. The first has a bit of all; the others dwell on what few places of
 * Nestor's are about. */
static const struct phase {
    uint8_t l1[L1_ACTS], l2[L2_ACTS];
    bool favours_bitmaps;
} phases[] = {
    {{22, 10, 10, 3, 1, 10, 7, 4, 2, 4, 27}, {40, 26, 12, 4, 4, 14}, false},
    {{30, 2, 2, 0, 0, 15, 1, 1, 0, 1, 30}, {10, 60, 2, 1, 1, 20}, false},   /* EPT12 */
    {{2, 25, 2, 0, 0, 4, 6, 3, 2, 15, 40}, {60, 5, 2, 6, 4, 25}, false},    /* L2's page tables */
    {{1, 0, 8, 0, 2, 1, 0, 2, 1, 2, 60}, {2, 60, 20, 0, 0, 20}, true},      /* bitmaps */
    {{2, 0, 2, 60, 0, 2, 0, 1, 0, 1, 12}, {4, 40, 2, 0, 0, 40}, false},     /* Nestor's memory */
    {{5, 5, 5, 0, 0, 10, 2, 12, 10, 8, 30}, {20, 20, 10, 2, 2, 30}, false}, /* moves of vmcs12s */
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
        open |= processor[i].vcpu.step.open > 0 || processor[i].in_nestor;
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

/* L2 stores to the page: to a page table of its, to a bitmap of L1's, or to nothing that matters. */
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
    return hw_access(p, gpa, access, gva, found);
}

/* L2's last exit went to L1: an EPT violation or misconfiguration must be one that the SDM allows. */
QUIET static void l2_left(struct processor *p)
{
    const struct vmcs12 *v = p->vcpu.nested->current->v;
    uint32_t reason = (uint32_t)v->EXIT_REASON;
    struct result r = {.outcome = reason == EXIT_EPT_MISCONFIG ? IS_MISCONFIG : IS_VIOLATION,
                       .access = asked_rights[p->number]};

    say(p, "L2 exits to L1: reason %lu, gpa %lx", reason, v->GUEST_PHYSICAL_ADDRESS, 0, 0);
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
    if (!p->vcpu.in_l2)
        l2_left(p);
}

QUIET static void l2_touches(struct processor *p)
{
    gpa_t gpa = place((unsigned)(host_random() % (tags[p->number].root == NO_EPT ? 6 : PLACES)));
    uint64_t access = chance(2) ? EPT_W : EPT_R;
    struct tlb_entry found;

    if (phase->favours_bitmaps && favourite[p->number] && !chance(4))
        gpa = favourite[p->number];
    for (unsigned i = 0; !l2_access(p, gpa, access, ~0ull, &found); i++) {
        if (!p->vcpu.in_l2) {
            l2_left(p);
            return;
        }
        tried(p, i, access, gpa);
    }
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
    if (!l2_access(p, space_table(p->pcid), flags ? EPT_R | EPT_W : EPT_R, want.address, &table))
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
        if (!p->vcpu.in_l2) {
            l2_left(p);
            return;
        }
        tried(p, i, access, linear * PAGE_SIZE);
    }
    if (end == LINEAR_UNKNOWN)
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

/* Whether the CPU exits for L2's RDMSR. */
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
        if (!p->vcpu.in_l2) {
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
    if (p->vcpu.in_l2)
        tlb_fail("processor %u: VMCALL of L2 does not exit to L1", p->number);
    l2_left(p);
}

/* --- L1 --- */

QUIET static void l1_reaches(struct processor *p, gpa_t gpa, uint64_t access, struct tlb_entry *found)
{
    for (unsigned i = 0; !hw_access(p, gpa, access, ~0ull, found); i++)
        tried(p, i, access, gpa);
    if (page_of(found) != ALIGN_DOWN(gpa, PAGE_SIZE) && page_of(found) != CARVEOUT)
        tlb_fail("processor %u: L1's access to %lx reaches %lx", p->number, gpa, found->to);
}

QUIET static void l1_stores(struct processor *p, uint64_t *word, uint64_t value)
{
    struct tlb_entry found;

    l1_reaches(p, (gpa_t)((uint8_t *)word - memory), EPT_W, &found);
    store_word(word, value);
    hw_instruction_done(p);
}

QUIET static void l1_changes_ept12(struct processor *p)
{
    unsigned table = (unsigned)(host_random() % TABLES), slot = (unsigned)(host_random() % slots_of(table));
    uint64_t value = table_menu[table][some_choice()] | (chance(4) ? EPT_D : 0);

    say(p, "L1 stores %lx to EPT12, table %lu (level %lu), entry %lu", value, table, table_level[table], slot);
    l1_stores(p, table_entry(table, slot), value);
}

QUIET static void l1_changes_pte(struct processor *p)
{
    unsigned data = (unsigned)(host_random() % DATA), linear = (unsigned)(host_random() % LINEARS);
    uint64_t value = pte_menu[some_choice()];

    say(p, "L1 makes L2's entry for linear page %lu in page %lu of the data %lx", linear, data, value, 0);
    l1_stores(p, data_word(data, linear), value);
}

QUIET static void l1_changes_bitmap(struct processor *p)
{
    unsigned data = DATA - 1 - (unsigned)(host_random() % BITMAPS), msr = some_msr();
    struct tlb_entry found;

    l1_reaches(p, DATA_BASE + data * PAGE_SIZE, EPT_W, &found);
    toggle_bit(p, data, msr);
    hw_instruction_done(p);
}

QUIET static void l1_looks_at_carveout(struct processor *p)
{
    uint64_t access = chance(2) ? EPT_W : EPT_R;
    struct tlb_entry found;

    l1_reaches(p, CARVEOUT + host_random() % 2 * LARGE_2M, access, &found);
    say(p, "L1's access %lu to Nestor's memory", access, 0, 0, 0);
    if (access & EPT_W)
        ((uint64_t *)(memory + vm.ept01.ones_page))[7] = 0;
    else
        check_ones(p);
    hw_instruction_done(p);
}

QUIET static void vmx_instruction(struct processor *p, uint32_t reason, uint64_t type)
{
    p->vcpu.regs[RCX] = type;
    vmcs_write(EXIT_INSTRUCTION_INFO, PUT(RCX, INSN_INFO_REG2));
    exit_for(p, reason);
    if (vmcs_read(GUEST_RFLAGS) & (RFLAGS_CF | RFLAGS_ZF) && p->vcpu.in_l2 == false)
        tlb_fail("processor %u: VMfail %lu of L1's instruction with exit reason %u", p->number,
                 p->vcpu.nested->current ? p->vcpu.nested->current->v->VM_INSTRUCTION_ERROR : 0, reason);
}

QUIET static void l1_invept(struct processor *p)
{
    bool all = chance(3);
    unsigned root = (unsigned)(host_random() % ROOTS);

    say(p, all ? "L1: INVEPT of all" : "L1: INVEPT of root %lu", root, 0, 0, 0);
    operand[p->number] = (struct invalidate_descriptor){.context = eptp_of(root, chance(2))};
    sdm_invept(p->number, all ? ~0u : root);
    vmx_instruction(p, EXIT_INVEPT, all ? INVEPT_ALL : INVEPT_SINGLE);
}

QUIET static void l1_invvpid(struct processor *p)
{
    static const uint64_t types[] = {INVVPID_ADDRESS, INVVPID_SINGLE, INVVPID_ALL, INVVPID_SINGLE_NONGLOBAL};
    uint64_t type = types[host_random() % 4];
    unsigned vpid = 1 + (unsigned)(host_random() % (VPIDS - 1)), linear = (unsigned)(host_random() % LINEARS);

    say(p, "L1: INVVPID of type %lu, VPID %lu, linear page %lu", type, vpid12[vpid], linear, 0);
    operand[p->number] = (struct invalidate_descriptor){.context = vpid12[vpid], .address = linear * PAGE_SIZE};
    for (unsigned v = 1; v < VPIDS; v++)
        if (type == INVVPID_ALL || v == vpid)
            forget_ptes(p->number, v, ~0u, ~0u, type == INVVPID_ADDRESS ? linear : ~0u);
    vmx_instruction(p, EXIT_INVVPID, type);
}

QUIET static void vmwrite12(struct processor *p, unsigned row, uint64_t value)
{
    p->vcpu.nested->current->v->field[row] = value;
    slot_set_dirty(p->vcpu.nested->current, row);
}

/* At times the VPID alone, as when L1 takes up another L2 with the same memory. */
QUIET static void l1_configures(struct processor *p)
{
    const struct vmcs12 *v = p->vcpu.nested->current->v;
    bool ept = !chance(6), vpid = !chance(6), bitmap = !chance(8);

    vmwrite12(p, FIELD_INDEX_VPID, vpid12[1 + host_random() % (VPIDS - 1)]);
    if (!v->PROC_CONTROLS || chance(2)) {
        vmwrite12(p, FIELD_INDEX_PIN_CONTROLS, PIN_NMI);
        vmwrite12(p, FIELD_INDEX_PROC_CONTROLS, PROC_SECONDARY | (bitmap ? PROC_USE_MSR_BITMAPS : 0));
        vmwrite12(p, FIELD_INDEX_PROC2_CONTROLS, (ept ? PROC2_EPT : 0) | (vpid ? PROC2_VPID : 0));
        vmwrite12(p, FIELD_INDEX_EPT_POINTER, eptp_of((unsigned)(host_random() % ROOTS), chance(2)));
        vmwrite12(p, FIELD_INDEX_MSR_BITMAP, DATA_BASE + (DATA - 1 - host_random() % BITMAPS) * PAGE_SIZE);
    }
    say(p, "L1 sets secondary controls %lx, EPTP %lx, VPID %lu, MSR bitmap %lx", v->PROC2_CONTROLS, v->EPT_POINTER,
        v->VPID, v->PROC_CONTROLS & PROC_USE_MSR_BITMAPS ? v->MSR_BITMAP : 0);
}

QUIET static void l1_vmptrld(struct processor *p)
{
    unsigned number = (unsigned)(host_random() % VMCS12S);

    if (vmcs12_owner[number] != -1 && vmcs12_owner[number] != (int)p->number)
        return;
    say(p, "L1: VMPTRLD of vmcs12 %lu", number, 0, 0, 0);
    vmcs12_owner[number] = (int)p->number;
    operand_pointer[p->number] = vmcs12_page(number);
    vmx_instruction(p, EXIT_VMPTRLD, 0);
    if (!p->vcpu.nested->current->v->PROC_CONTROLS)
        l1_configures(p);
}

QUIET static void l1_vmclear(struct processor *p)
{
    unsigned number = current_vmcs12(p);

    say(p, "L1: VMCLEAR of vmcs12 %lu", number, 0, 0, 0);
    operand_pointer[p->number] = vmcs12_page(number);
    vmx_instruction(p, EXIT_VMCLEAR, 0);
    vmcs12_launched[number] = false;
    vmcs12_owner[number] = -1;
}

QUIET static void l1_changes_policy(struct processor *p)
{
    unsigned msr = (unsigned)(host_random() % MSRS);
    uint8_t *byte = &vm.msr_bitmap[msr_number[msr] / 8];

    say(p, "Nestor's own bit of MSR %lx changes", msr_number[msr], 0, 0, 0);
    see_on_all();
    *byte ^= (uint8_t)BIT(msr_number[msr] % 8);
    see_on_all();
    vm.msr_policy_generation += options.fault != FAULT_FORGET_GENERATION;
}

QUIET static void l1_enters(struct processor *p)
{
    const struct vmcs12 *v = p->vcpu.nested->current->v;
    unsigned number = current_vmcs12(p);
    struct l2_tags of = {.root = NO_EPT,
                         .flags = v->EPT_POINTER & EPTP_AD,
                         .bitmap = v->PROC_CONTROLS & PROC_USE_MSR_BITMAPS,
                         .bitmap_page = (unsigned)((v->MSR_BITMAP - DATA_BASE) / PAGE_SIZE)};

    if (v->PROC2_CONTROLS & PROC2_EPT)
        of.root = (unsigned)(((v->EPT_POINTER & EP4TA) - TABLE_BASE) / PAGE_SIZE);
    else
        of.flags = false;
    while (v->PROC2_CONTROLS & PROC2_VPID && vpid12[of.vpid] != v->VPID)
        of.vpid++;
    p->pcid = (uint16_t)(host_random() % SPACES);
    say(p, "L1 enters L2 by vmcs12 %lu: root %lu, VPID %lu, PCID %lu", number, of.root, vpid12[of.vpid], p->pcid);
    sdm_enter(p->number, of);
    vmcs_write(GUEST_RFLAGS, 0);
    exit_for(p, vmcs12_launched[number] ? EXIT_VMRESUME : EXIT_VMLAUNCH);
    vmcs12_launched[number] = true;
    if (!p->vcpu.in_l2)
        tlb_fail("processor %u: L1's entry into L2 failed", p->number);
}

#endif
