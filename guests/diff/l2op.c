#include "guests/diff/l2op.h"

#include "guests/diff/arena.h"
#include "guests/diff/enter.h"
#include "guests/diff/exceptions.h"
#include "guests/diff/l1_state.h"
#include "guests/diff/l2report.h"
#include "guests/diff/lists.h"
#include "guests/diff/rand.h"
#include "guests/diff/transcript.h"
#include "guests/lib/check.h"
#include "guests/lib/mem.h"
#include "guests/lib/msr_bits.h"
#include "guests/lib/paging.h"
#include "guests/lib/vm.h"

#define GUESTS 2
#define EXITS_MAX 10
#define DR6_RESET 0xffff0ff0ull
#define EPT_SUPPRESS_VE BIT(63)

/* The L2s that a block switches between. */
static struct guest guests[GUESTS];
static struct operation op;

static struct vm cleaner;
static bool virtual_nmis_blocked;

void l2op_init(void)
{
    for (unsigned i = 0; i < GUESTS; i++)
        l2_init(&guests[i].l2);
}

static void fill_random(uint8_t *page, unsigned density)
{
    uint64_t *quads = (uint64_t *)page;

    for (unsigned i = 0; i < PAGE_SIZE / sizeof(*quads); i++)
        quads[i] = density == 0 ? 0 : density == 1 ? rand_next() & rand_next() & rand_next() : rand_next();
}

static void invalidate_ept(void)
{
    struct inv_descriptor all = {0, 0};

    if (caps.ept_vpid & EPT_CAP_INVEPT_ALL)
        REQUIRE_EQ(vmx_invept(2, &all), 0);
}

/* Each operation makes another L2 of its VPID: paging may be another one, and its tables were changed from outside. And
 * the last one may have had ordinary memory where this one has its APIC-access page. SDM 3C 29.4.3.1 "Operations that
 * Invalidate Cached Mappings", 30.4.5 "Issues Pertaining to Page Size and TLB Management" */
static void invalidate_for(const struct image *v)
{
    uint64_t proc2 = v->f[F_PROC2_CONTROLS];
    struct inv_descriptor all = {0, 0};

    if (proc2 & PROC2_VPID)
        REQUIRE_EQ(vmx_invvpid(2, &all), 0);
    if ((proc2 & PROC2_EPT) && (proc2 & PROC2_APIC_ACCESS))
        invalidate_ept();
}

/* Pages that operations write to must not reach the next block. */
static void clear_pages(void)
{
    memset(l1_pages.virtual_apic, 0, PAGE_SIZE);
    memset(l1_pages.pml, 0, PAGE_SIZE);
    memset(l1_pages.ve_info, 0, PAGE_SIZE);
}

/* All zeros again, where L2s may have written to it. */
static void reset_shadow(void)
{
    bool all = caps.misc & VMX_MISC_VMWRITE_ANY;

    REQUIRE_EQ(vmx_vmclear(&l1_pages.shadow), 0);
    REQUIRE_EQ(vmx_vmptrld(&l1_pages.shadow), 0);
    for (unsigned i = 0; i < F_COUNT; i++)
        if (fields[i].offered && (all || field_area(i) != AREA_INFO))
            vmx_set(fields[i].encoding, 0);
    REQUIRE_EQ(vmx_vmclear(&l1_pages.shadow), 0);
}

void l2op_begin(void)
{
    bool shadowing = false;

    snippet_focus_msr(0);
    snippet_focus_port(0);

    tr_line("begin");
    arena_reset();
    invalidate_ept();
    fill_random(l1_pages.msr_bitmap, rand_below(3));
    fill_random(l1_pages.io_bitmap_a, rand_below(2));
    fill_random(l1_pages.io_bitmap_b, rand_below(2));
    fill_random(l1_pages.vmread_bitmap, rand_below(3));
    fill_random(l1_pages.vmwrite_bitmap, rand_below(3));
    clear_pages();
    for (unsigned i = 0; i < GUESTS; i++) {
        struct guest *guest = &guests[i];
        guest->config = base_config_pick();
        base_build(&guest->config, &guest->base);
        mutate_mix_controls(&guest->base);
        tr_note(mode_name(guest->config.mode), guest->base.f[F_PROC2_CONTROLS]);
        memset(guest->l2.valid, 0, sizeof(guest->l2.valid));
        l2_clear(&guest->l2);
        shadowing |= (guest->base.f[F_PROC2_CONTROLS] & PROC2_VMCS_SHADOWING) != 0;
    }
    if (shadowing)
        reset_shadow();
}

static void note_mutation(void)
{
    for (unsigned i = 0; i < op.mutation.count && tr_verbose(); i++)
        tr_note(fields[op.mutation.index[i]].name, op.wanted.f[op.mutation.index[i]]);
    if (op.mutation.lists)
        lists_note();
    tr_note(mode_name(op.guest->config.mode), op.guest->config.ept);
    tr_note_bytes(op.snippet.bytes, op.snippet.length);
}

static void place_snippet(void)
{
    snippet_make(&op.snippet, op.guest->config.mode);
    arena_restore(PAGE_CODE, 0, SNIPPET_MAX);
    memcpy(arena_at(AT(PAGE_CODE)), op.snippet.bytes, op.snippet.length);
    snippet_registers(op.regs);
}

/* The page with sub-page permissions, and nearly always readable alone; a wrong table seldom. */
static uint64_t vary_sub_pages(uint64_t entry)
{
    uint64_t vector = (rand_next() | rand_next()) & 0x5555555555555555;
    uint64_t *table = arena_sppt_entry(PAGE_SPECIAL, 2 + rand_below(3));

    if (rand_chance(1, 8))
        vector |= rand_bit(64);
    *arena_sppt_entry(PAGE_SPECIAL, 1) = vector;
    *table ^= rand_chance(1, 8) ? BIT(0) : rand_chance(1, 8) ? BIT(52) : 0;
    tr_note("sub_pages", vector);
    return (rand_chance(7, 8) ? (entry & ~EPT_RWX) | EPT_R : entry) | EPT_SUB_PAGE;
}

static void vary_ept(void)
{
    static const uint8_t rights[] = {7, 7, 7, 7, 5, 1, 3, 0, 4, 2, 6};
    bool ad = op.guest->base.f[F_EPT_POINTER] & EPTP_AD;
    uint64_t entry = ((uint64_t)arena_at(AT(PAGE_SPECIAL))) | EPT_WB | RAND_PICK(rights);

    if (rand_chance(1, 8))
        entry ^= PUT(rand_below(8), EPT_MEMORY_TYPE);
    if (rand_chance(1, 16))
        entry |= BIT(caps.physical_bits + rand_below(52 - caps.physical_bits));
    if (caps_have(PROC2_CONTROLS, PROC2_EPT_VE) && rand_chance(1, 2))
        entry |= EPT_SUPPRESS_VE;
    if (caps_have(PROC2_CONTROLS, PROC2_SPP) && rand_chance(1, 2))
        entry = vary_sub_pages(entry);
    *arena_ept_entry(ad, PAGE_SPECIAL, PAGE_SIZE) = entry;
    tr_note("ept", entry);
    invalidate_ept();
}

static void clean_up(void)
{
    for (;;)
        asm volatile("mov %%rsp, %%rdx; mov %%ss, %%eax; push %%rax; push %%rdx; pushfq; mov %%cs, %%eax; push %%rax;"
                     "lea 1f(%%rip), %%rax; push %%rax; iretq; 1: mov %0, %%eax; vmcall"
                     :
                     : "i"(L2_DONE)
                     : "rax", "rdx", "memory");
}

/* An exit leaves these fields undefined unless L2 is in PAE paging with EPT; the next entry may have either.
 * SDM 3C 28.3.1 "Saving Control Registers, Debug Registers, and MSRs" */
static void forget_pdptes(void)
{
    memset(&op.guest->l2.valid[F_GUEST_PDPTE0], 0, 4);
}

/* BOCHS 4: no VM entry ends the blocking of NMIs, virtual or not, so that each L2 would inherit what the last one left.
 * An IRET ends it: L1's own, and for the virtual one that of an L2 with virtual NMIs. */
static void unblock_nmis(void)
{
    diff_unblock_nmi();
    if (!virtual_nmis_blocked)
        return;
    forget_pdptes();
    virtual_nmis_blocked = false;
    if (!cleaner.vmcs) {
        vm_create(&cleaner, clean_up, VM_NO_EPT);
        vm_control_set(PIN_CONTROLS, (uint32_t)(PIN_NMI | PIN_VIRTUAL_NMIS));
    }
    vm_load(&cleaner);
    vmx_set(GUEST_RIP, (uint64_t)clean_up);
    REQUIRE_EQ(vm_run(&cleaner), EXIT_VMCALL);
}

/* L1 writes to the bitmaps between entries: an L0 that keeps copies has to notice. */
static void vary_bitmaps(void)
{
    uint8_t *bitmap;
    uint32_t msr, port;

    switch (rand_below(3)) {
    case 0:
        msr = l1_state_msr_pick();
        bitmap = l1_pages.msr_bitmap + msr_byte(msr, rand_chance(1, 2) ? MSR_READ : MSR_WRITE);
        *bitmap = (uint8_t)(*bitmap ^ 1u << msr % 8);
        snippet_focus_msr(msr);
        tr_note("flip_msr", msr);
        break;
    case 1:
        port = snippet_port_pick();
        bitmap = (port < 0x8000 ? l1_pages.io_bitmap_a : l1_pages.io_bitmap_b) + port % 0x8000 / 8;
        *bitmap = (uint8_t)(*bitmap ^ 1u << port % 8);
        snippet_focus_port((uint16_t)port);
        tr_note("flip_port", port);
        break;
    default:
        fill_random(rand_chance(1, 2) ? l1_pages.vmread_bitmap : l1_pages.vmwrite_bitmap, rand_below(3));
    }
}

static void prepare(void)
{
    unblock_nmis();
    if (rand_chance(1, 4))
        vary_bitmaps();
    op.guest = &guests[rand_below(GUESTS)];
    memcpy(&op.wanted, &op.guest->base, sizeof(op.wanted));
    mutate(&op.mutation, &op.wanted);
    exceptions_remove(&op.wanted, &op.guest->base);
    place_snippet();
    if (op.guest->config.ept && rand_chance(1, 8))
        vary_ept();
    l2_load(&op.guest->l2);
    l2_write(&op.guest->l2, &op.wanted);
    invalidate_for(&op.wanted);
}

static uint64_t enter(bool resume, int *failed)
{
    uint64_t cr2;

    asm volatile("mov %0, %%cr2; mov %1, %%dr6" : : "r"(0ull), "r"(DR6_RESET));
    *failed = diff_enter(op.regs, resume);
    asm volatile("mov %%cr2, %0" : "=r"(cr2));
    return cr2;
}

/* One entry; true when L2 may go on after it. */
static bool enter_once(void)
{
    struct l2 *l2 = &op.guest->l2;
    bool resume = rand_chance(1, 32) ? !l2->launched : l2->launched;
    uint64_t cr2, dr6;
    int failed;

    cr2 = enter(resume, &failed);
    if (failed) {
        tr("fail", (uint64_t)failed);
        if (failed == 2)
            tr("error", vmx_get(VM_INSTRUCTION_ERROR));
        return false;
    }
    op.exit.one_cause = op.mutation.count < 2;
    exit_info_report(l2, &op.exit);
    if (op.exit.reason & EXIT_REASON_ENTRY_FAILURE)
        return false;
    l2->launched = true;
    if (op.exit.reason == EXIT_PREEMPTION_TIMER)
        return false; /* when it fires is a matter of time */
    asm volatile("mov %%dr6, %0" : "=r"(dr6));
    tr("cr2", cr2);
    tr("dr6", dr6);
    l2report_registers(&op);
    return exit_info_is_instruction(&op.exit);
}

static void step_over(void)
{
    struct l2 *l2 = &op.guest->l2;
    uint64_t rip = l2->known.f[F_GUEST_RIP] + op.exit.length;

    vmx_set(GUEST_RIP, rip);
    l2->known.f[F_GUEST_RIP] = rip;
    if (op.exit.reason == EXIT_CPUID)
        op.regs[RBX] = AT(PAGE_DATA) + 0x40;
}

/* How far L2 came when the timer ended it is a matter of time, and so is all that it left. */
static void forget_l2(void)
{
    memset(op.guest->l2.valid, 0, sizeof(op.guest->l2.valid));
    arena_reset();
    invalidate_ept();
    clear_pages();
    l1_state_restore();
}

static void finish(void)
{
    bool entered = !(op.exit.reason & EXIT_REASON_ENTRY_FAILURE);

    if (op.exit.reason == EXIT_PREEMPTION_TIMER) {
        forget_l2();
        return;
    }
    l2report_state(&op);
    forget_pdptes();
    virtual_nmis_blocked = op.wanted.f[F_PIN_CONTROLS] & PIN_VIRTUAL_NMIS &&
                           op.guest->l2.known.f[F_GUEST_INTERRUPTIBILITY] & BLOCKING_BY_NMI;
    l2report_memory(&op);
    if (op.mutation.host)
        l1_state_report();
    if (op.mutation.lists && entered)
        lists_report((unsigned)op.wanted.f[F_EXIT_MSR_STORE_COUNT]);
    tr("exit_rsp", exit_rsp);
    tr("exit_flags", exit_rflags);
    tr("exit_point", exit_point);
    if (tr_verbose()) /* otherwise at the end of the block, as it takes its time */
        l2report_pages();
    l1_state_restore();
}

unsigned l2op_run(void)
{
    unsigned entries = 0;

    tr_line("l2");
    prepare();
    note_mutation();
    op.exit.reason = UINT32_MAX;
    do {
        if (entries)
            tr_line("l2 again");
        entries++;
        if (!enter_once())
            break;
        step_over();
    } while (entries < EXITS_MAX);
    if (op.exit.reason != UINT32_MAX)
        finish();
    return entries;
}

void l2op_end(void)
{
    tr_line("memory");
    l2report_pages();
    for (unsigned i = 0; i < ARENA_PAGES; i++)
        tr("ept", *arena_ept_entry(true, i, PAGE_SIZE) & PAGE_MASK);
    for (uint64_t span = LARGE_2M; span <= 512 * LARGE_1G; span *= 512)
        tr("ept_table", *arena_ept_entry(true, 0, span) & PAGE_MASK);
}
