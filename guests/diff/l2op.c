#include "guests/diff/l2op.h"

#include "guests/diff/arena.h"
#include "guests/diff/enter.h"
#include "guests/diff/exceptions.h"
#include "guests/diff/exit_info.h"
#include "guests/diff/l1_state.h"
#include "guests/diff/lists.h"
#include "guests/diff/mutate.h"
#include "guests/diff/rand.h"
#include "guests/diff/snippet.h"
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
#define RFLAGS_RF BIT(16)

static const char *const register_names[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                             "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};

/* The L2s that a block switches between. */
static struct guest {
    struct l2 l2;
    struct l2_config config;
    struct image base;
} guests[GUESTS];

static struct operation {
    struct guest *guest;
    struct image wanted;
    struct mutation mutation;
    struct snippet snippet;
    uint64_t regs[16];
    struct exit_info exit;
} op;

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

/* What operations write to must not reach the next block. */
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
        if (op.mutation.lists)
            lists_note();
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
}

/* Fields that an exit always saves and most operations change. */
static void report_hot_state(void)
{
    static const uint16_t hot[] = {F_GUEST_RIP, F_GUEST_RSP, F_GUEST_RFLAGS};

    for (unsigned i = 0; i < ARRAY_SIZE(hot); i++) {
        uint64_t value = l2_read(&op.guest->l2, hot[i]);
        bool by_fault = op.exit.reason == EXIT_EXCEPTION_NMI || op.exit.reason == EXIT_EPT_VIOLATION;

        if (hot[i] == F_GUEST_RFLAGS && by_fault)
            value &= ~RFLAGS_RF; /* BOCHS 9: not saved as 1 */
        tr(fields[hot[i]].name + sizeof("GUEST_") - 1, value);
    }
}

/* The timer's value is a matter of time, and PDPTEs are undefined but for PAE paging with EPT.
 * SDM 3C 28.3.1 "Saving Control Registers, Debug Registers, and MSRs" */
static bool is_saved(unsigned index)
{
    bool pdptes = op.guest->config.mode == MODE_PAE && op.guest->config.ept;

    if (index == F_PREEMPTION_TIMER || (index >= F_GUEST_PDPTE0 && index <= F_GUEST_PDPTE3 && !pdptes))
        return false;
    return field_area(index) == AREA_GUEST && fields[index].offered;
}

static void report_range(unsigned first, unsigned last)
{
    for (unsigned i = first; i <= last; i++)
        if (is_saved(i))
            tr(fields[i].name + sizeof("GUEST_") - 1, l2_read(&op.guest->l2, i));
}

static void report_field(unsigned index)
{
    report_range(index, index);
}

static void report_touched(void)
{
    uint64_t touches = op.snippet.touches;

    if (op.guest->config.mode == MODE_V86)
        touches |= TOUCH_SEGMENTS;
    if (touches & TOUCH_SEGMENTS) {
        report_range(F_GUEST_ES_SELECTOR, F_GUEST_TR_SELECTOR);
        report_range(F_GUEST_ES_BASE, F_GUEST_TR_BASE);
        report_range(F_GUEST_ES_LIMIT, F_GUEST_TR_LIMIT);
        report_range(F_GUEST_ES_AR_BYTES, F_GUEST_TR_AR_BYTES);
    }
    if (touches & TOUCH_TABLES) {
        report_range(F_GUEST_GDTR_LIMIT, F_GUEST_IDTR_LIMIT);
        report_range(F_GUEST_GDTR_BASE, F_GUEST_IDTR_BASE);
    }
    if (touches & TOUCH_MSRS) {
        report_range(F_GUEST_PAT, F_GUEST_EFER);
        report_field(F_GUEST_SYSENTER_CS);
        report_range(F_GUEST_SYSENTER_ESP, F_GUEST_SYSENTER_EIP);
    }
    if (touches & TOUCH_EPTP && fields[F_EPT_POINTER].offered)
        tr("eptp", l2_read(&op.guest->l2, F_EPT_POINTER));
    /* Bochs writes it without #VE too. SDM 3C 26.5.6.3 "EPTP Switching" */
    if (touches & TOUCH_EPTP && op.wanted.f[F_PROC2_CONTROLS] & PROC2_EPT_VE)
        tr("eptp_index", l2_read(&op.guest->l2, F_EPTP_INDEX));
    if (touches & TOUCH_DEBUG)
        report_field(F_GUEST_DR7);
}

/* At the end of an operation: what changes often, what was mutated, what the code may have changed, and a sample. */
static void report_state(void)
{
    static const uint16_t often[] = {F_GUEST_CR0,
                                     F_GUEST_CR3,
                                     F_GUEST_CR4,
                                     F_GUEST_INTERRUPTIBILITY,
                                     F_GUEST_ACTIVITY_STATE,
                                     F_GUEST_PENDING_DEBUG,
                                     F_GUEST_CS_SELECTOR,
                                     F_GUEST_CS_AR_BYTES,
                                     F_GUEST_CS_BASE,
                                     F_GUEST_CS_LIMIT,
                                     F_GUEST_SS_SELECTOR,
                                     F_GUEST_SS_AR_BYTES,
                                     F_GUEST_SS_BASE,
                                     F_GUEST_SS_LIMIT,
                                     F_ENTRY_CONTROLS,
                                     F_ENTRY_INTERRUPTION_INFO,
                                     F_GUEST_EFER};

    for (unsigned i = 0; i < ARRAY_SIZE(often); i++)
        tr(fields[often[i]].name, l2_read(&op.guest->l2, often[i]));
    forget_pdptes();
    virtual_nmis_blocked = op.wanted.f[F_PIN_CONTROLS] & PIN_VIRTUAL_NMIS &&
                           op.guest->l2.known.f[F_GUEST_INTERRUPTIBILITY] & BLOCKING_BY_NMI;
    for (unsigned i = 0; i < op.mutation.count; i++)
        if (is_saved(op.mutation.index[i]))
            report_field(op.mutation.index[i]);
    report_touched();
    for (unsigned i = 0; i < 4; i++) {
        unsigned index = rand_below(F_COUNT);
        if (is_saved(index))
            tr(fields[index].name, l2_read(&op.guest->l2, index));
    }
}

/* What PML logged. BOCHS 15: the addresses have junk in their lower 12 bits. */
static void report_pml(void)
{
    uint16_t index;

    if (!(op.wanted.f[F_PROC2_CONTROLS] & PROC2_PML))
        return;
    index = (uint16_t)l2_read(&op.guest->l2, F_PML_INDEX);
    tr("pml_index", index);
    for (unsigned i = PML_INDEX_START; i > index && index < PML_INDEX_START; i--) {
        tr("pml", l1_pages.pml[i] & ~PAGE_MASK);
        l1_pages.pml[i] = 0;
    }
}

/* The information area of virtualization exceptions; its first word is 0 when the next one may come. */
static void report_ve(void)
{
    if (!(op.wanted.f[F_PROC2_CONTROLS] & PROC2_EPT_VE))
        return;
    l1_pages.ve_info[1] = exit_info_canonical(EXIT_EPT_VIOLATION, l1_pages.ve_info[1]);
    tr_list("ve", l1_pages.ve_info, 4); /* and an EPTP index, which Bochs does not take from the VMCS */
    memset(l1_pages.ve_info, 0, 5 * sizeof(*l1_pages.ve_info));
}

static void report_memory(void)
{
    static const struct {
        uint8_t page;
        uint16_t offset, size;
    } watched[] = {
        {PAGE_DATA, 0, 0x180}, {PAGE_SPECIAL, 0, 0x80}, {PAGE_STACK, 0x7c0, 0x60}, {PAGE_STACK, 0xec0, 0x40}};
    uint64_t sum = 0;

    for (unsigned i = 0; i < ARRAY_SIZE(watched); i++) {
        const uint64_t *p = arena_at(AT(watched[i].page) + watched[i].offset);
        for (unsigned n = watched[i].size / 8; n; n--)
            sum = (sum ^ *p++) * 0x100000001b3ull + (sum >> 40);
        arena_restore(watched[i].page, watched[i].offset, watched[i].size);
    }
    tr("memory", sum);
}

static uint64_t enter(bool resume, int *failed)
{
    uint64_t cr2;

    asm volatile("mov %0, %%cr2; mov %1, %%dr6" : : "r"(0ull), "r"(DR6_RESET));
    *failed = diff_enter(op.regs, resume);
    asm volatile("mov %%cr2, %0" : "=r"(cr2));
    return cr2;
}

static void report_registers(void)
{
    uint64_t hidden = op.snippet.touches & TOUCH_TIME ? BIT(RAX) | BIT(RDX) : 0;

    for (unsigned i = 0; i < 16; i++)
        if (!(hidden & BIT(i)))
            tr(register_names[i], op.regs[i]);
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
    report_registers();
    report_hot_state();
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

static const char *const page_names[ARENA_PAGES] = {
    "ivt",    "code",   "stack",  "data",   "special", "tables", "idt64",  "idt32",    "handlers", "tss",   "apic",
    "kern",   "read",   "nx",     "absent", "spare",   "pml4",   "pdpt",   "pd",       "pt",       "pd32",  "pt32",
    "pdptes", "pml4_h", "pdpt_h", "pd_h",   "pt_h",    "pd32_h", "pt32_h", "pdptes_h", "page30",   "page31"};

static void report_pages(void)
{
    for (unsigned i = 0; i < ARENA_PAGES; i++)
        tr(page_names[i], arena_hash(i));
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
    report_state();
    report_memory();
    report_pml();
    report_ve();
    if (op.mutation.host)
        l1_state_report();
    if (op.mutation.lists && entered)
        lists_report((unsigned)op.wanted.f[F_EXIT_MSR_STORE_COUNT]);
    tr("exit_rsp", exit_rsp);
    tr("exit_flags", exit_rflags);
    tr("exit_point", exit_point);
    if (tr_verbose()) /* otherwise at the end of the block, as it takes its time */
        report_pages();
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
    report_pages();
    for (unsigned i = 0; i < ARENA_PAGES; i++)
        tr("ept", *arena_ept_entry(true, i, PAGE_SIZE) & PAGE_MASK);
    for (uint64_t span = LARGE_2M; span <= 512 * LARGE_1G; span *= 512)
        tr("ept_table", *arena_ept_entry(true, 0, span) & PAGE_MASK);
}
