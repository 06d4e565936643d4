/* The acts of L1 on the processors that never forget, each as a step of one processor. tests/host/ only; one file of a
 * program includes it. */
#ifndef TESTS_HOST_TLB_L1_H
#define TESTS_HOST_TLB_L1_H

#include "tests/host/tlb_acts.h"

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

/* A leaf that is misconfigured is often mended, or another one spoilt. */
QUIET static bool l1_mends(unsigned *table, unsigned *slot)
{
    for (*table = 0; *table < TABLES; ++*table)
        for (*slot = 0; table_level[*table] == 1 && *slot < SLOTS; ++*slot)
            if (is_misconfigured(*table_entry(*table, *slot)) && chance(2))
                return true;
    return false;
}

QUIET static void l1_changes_ept12(struct processor *p)
{
    unsigned table, slot, choice = some_choice();

    if (!chance(3) || !l1_mends(&table, &slot)) {
        table = (unsigned)(host_random() % TABLES), slot = (unsigned)(host_random() % slots_of(table));
        choice = chance(16) ? 1 : choice; /* misconfigured */
    }
    uint64_t value = table_menu[table][choice] | (chance(4) ? EPT_D : 0);

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

/* L1 by its own page table: what it has cached is its own affair, except for what entries and exits invalidate. */
QUIET static void l1_touches_linear(struct processor *p)
{
    unsigned linear = (unsigned)(host_random() % LINEARS);
    struct tlb_entry want = {.kind = TLB_COMBINED,
                             .vpid = hw_vpid(),
                             .pcid = SPACES,
                             .ep4ta = hw_ep4ta(),
                             .address = linear * PAGE_SIZE},
                     found;
    const struct tlb_entry *known = tlb_find(&p->tlb, &want);

    if (known && host_random() % 8) {
        found = *known;
    } else {
        l1_reaches(p, OWN_BASE, EPT_R, &found);
        l1_reaches(p, *own_entry(linear) & EPT_ADDRESS, EPT_R, &found);
        want.to = found.to;
        want.permissions = EPT_R;
        tlb_add(&p->tlb, want);
    }
    say(p, "L1 reads its linear page %lu and reaches %lx", linear, found.to, 0, 0);
    if (!(may[p->number].own[linear] & BIT(own_of(found.to))))
        tlb_fail("processor %u: L1's linear page %u leads to %lx, which nothing that may be cached gives", p->number,
                 linear, found.to);
}

QUIET static void l1_changes_own(struct processor *p)
{
    unsigned linear = (unsigned)(host_random() % LINEARS), to = (unsigned)(host_random() % OWNS);

    say(p, "L1's own entry for linear page %lu leads to page %lu", linear, to, 0, 0);
    l1_stores(p, own_entry(linear), own_page(to) | 1);
}

QUIET static void l1_invlpg(struct processor *p)
{
    unsigned linear = (unsigned)(host_random() % LINEARS);

    say(p, "L1: INVLPG of its linear page %lu", linear, 0, 0, 0);
    tlb_invalidate(
        &p->tlb,
        (struct tlb_reach){
            .combined = true, .every_ep4ta = true, .vpid = hw_vpid(), .pcid = SPACES, .address = linear * PAGE_SIZE});
    may[p->number].own[linear] = 0;
    see_own(p->number);
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
    if (vmcs_read(GUEST_RFLAGS) & (RFLAGS_CF | RFLAGS_ZF) && !runs_l2(p))
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

/* At times the VPID alone, as when L1 takes up another L2 with the same memory. */
QUIET static void l1_configures(struct processor *p)
{
    const struct vmcs12 *v = p->vcpu.nested->current->v;
    bool ept = !chance(6), vpid = !chance(6), bitmap = !chance(8);

    vmwrite12(p, FIELD_INDEX_VPID, vpid12[1 + host_random() % (VPIDS - 1)]);
    if (!v->PROC_CONTROLS || chance(2)) {
        vmwrite12(p, FIELD_INDEX_PIN_CONTROLS, PIN_NMI | (chance(4) ? 0 : PIN_VIRTUAL_NMIS));
        configure_modes(p);
        vmwrite12(p, FIELD_INDEX_PROC_CONTROLS, PROC_SECONDARY | (bitmap ? PROC_USE_MSR_BITMAPS : 0));
        vmwrite12(p, FIELD_INDEX_PROC2_CONTROLS,
                  (ept ? PROC2_EPT : 0) | (vpid ? PROC2_VPID : 0) | (!ept && !chance(3) ? PROC2_APIC_ACCESS : 0));
        vmwrite12(p, FIELD_INDEX_APIC_ACCESS_ADDR, APIC_PAGE);
        vmwrite12(p, FIELD_INDEX_EPT_POINTER, eptp_of((unsigned)(host_random() % ROOTS), chance(2)));
        vmwrite12(p, FIELD_INDEX_MSR_BITMAP, DATA_BASE + (DATA - 1 - host_random() % BITMAPS) * PAGE_SIZE);
    }
    say(p, "L1 sets secondary controls %lx, EPTP %lx, VPID %lu, MSR bitmap %lx", v->PROC2_CONTROLS, v->EPT_POINTER,
        v->VPID, v->PROC_CONTROLS & PROC_USE_MSR_BITMAPS ? v->MSR_BITMAP : 0);
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
    for (unsigned i = 0; i < PROCESSORS; i++)
        straight_disturb(&processor[i].cpu);
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
    of.apic = (v->PROC2_CONTROLS & PROC2_APIC_ACCESS) != 0;
    while (v->PROC2_CONTROLS & PROC2_VPID && vpid12[of.vpid] != v->VPID)
        of.vpid++;
    p->pcid = (uint16_t)(host_random() % SPACES);
    say(p, "L1 enters L2 by vmcs12 %lu: root %lu, VPID %lu, PCID %lu", number, of.root, vpid12[of.vpid], p->pcid);
    sdm_enter(p->number, of);
    vmcs_write(GUEST_RFLAGS, 0);
    vmcs_write(GUEST_CS_AR_BYTES, host_random() % 16 ? ACCESS_CODE64 : ACCESS_CODE64 | (uint32_t)AR_AVL);
    vmcs_write(GUEST_INTERRUPTIBILITY, host_random() % 16 ? 0 : BLOCKING_BY_STI);
    exit_for(p, vmcs12_launched[number] ? EXIT_VMRESUME : EXIT_VMLAUNCH);
    vmcs12_launched[number] = true;
    if (!runs_l2(p))
        tlb_fail("processor %u: L1's entry into L2 failed", p->number);
}

/* It goes round its L2s, and often enters the one that it has taken up. */
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
    if (chance(2))
        l1_enters(p);
}

#endif
