#include "guests/diff/l2report.h"

#include "guests/diff/arena.h"
#include "guests/diff/rand.h"
#include "guests/diff/transcript.h"
#include "guests/lib/cpu.h"
#include "guests/lib/mem.h"
#include "guests/lib/vm.h"

static const char *const register_names[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                             "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};

/* Fields that an exit always saves and most operations change. */
static void report_hot_state(const struct operation *op)
{
    static const uint16_t hot[] = {F_GUEST_RIP, F_GUEST_RSP, F_GUEST_RFLAGS};

    for (unsigned i = 0; i < ARRAY_SIZE(hot); i++) {
        uint64_t value = l2_read(&op->guest->l2, hot[i]);
        bool by_fault = op->exit.reason == EXIT_EXCEPTION_NMI || op->exit.reason == EXIT_EPT_VIOLATION;

        if (hot[i] == F_GUEST_RFLAGS && by_fault)
            value &= ~RFLAGS_RF; /* BOCHS 9: not saved as 1 */
        tr(fields[hot[i]].name + sizeof("GUEST_") - 1, value);
    }
}

/* The timer's value is a matter of time, and PDPTEs are undefined except for PAE paging with EPT.
 * SDM 3C 28.3.1 "Saving Control Registers, Debug Registers, and MSRs" */
static bool is_saved(const struct operation *op, unsigned index)
{
    bool ept = op->wanted.f[F_PROC_CONTROLS] & PROC_SECONDARY && op->wanted.f[F_PROC2_CONTROLS] & PROC2_EPT;
    bool pdptes = op->guest->config.mode == MODE_PAE && ept;

    if (index == F_PREEMPTION_TIMER || (index >= F_GUEST_PDPTE0 && index <= F_GUEST_PDPTE3 && !pdptes))
        return false;
    return field_area(index) == AREA_GUEST && fields[index].offered;
}

static void report_range(const struct operation *op, unsigned first, unsigned last)
{
    for (unsigned i = first; i <= last; i++)
        if (is_saved(op, i))
            tr(fields[i].name + sizeof("GUEST_") - 1, l2_read(&op->guest->l2, i));
}

static void report_field(const struct operation *op, unsigned index)
{
    report_range(op, index, index);
}

static void report_touched(const struct operation *op)
{
    uint64_t touches = op->snippet.touches;

    if (op->guest->config.mode == MODE_V86)
        touches |= TOUCH_SEGMENTS;
    if (touches & TOUCH_SEGMENTS) {
        report_range(op, F_GUEST_ES_SELECTOR, F_GUEST_TR_SELECTOR);
        report_range(op, F_GUEST_ES_BASE, F_GUEST_TR_BASE);
        report_range(op, F_GUEST_ES_LIMIT, F_GUEST_TR_LIMIT);
        report_range(op, F_GUEST_ES_AR_BYTES, F_GUEST_TR_AR_BYTES);
    }
    if (touches & TOUCH_TABLES) {
        report_range(op, F_GUEST_GDTR_LIMIT, F_GUEST_IDTR_LIMIT);
        report_range(op, F_GUEST_GDTR_BASE, F_GUEST_IDTR_BASE);
    }
    if (touches & TOUCH_MSRS) {
        report_range(op, F_GUEST_PAT, F_GUEST_EFER);
        report_field(op, F_GUEST_SYSENTER_CS);
        report_range(op, F_GUEST_SYSENTER_ESP, F_GUEST_SYSENTER_EIP);
    }
    if (touches & TOUCH_EPTP && fields[F_EPT_POINTER].offered)
        tr("eptp", l2_read(&op->guest->l2, F_EPT_POINTER));
    /* Bochs writes it without #VE too. SDM 3C 26.5.6.3 "EPTP Switching" */
    if (touches & TOUCH_EPTP && op->wanted.f[F_PROC2_CONTROLS] & PROC2_EPT_VE)
        tr("eptp_index", l2_read(&op->guest->l2, F_EPTP_INDEX));
    if (touches & TOUCH_DEBUG)
        report_field(op, F_GUEST_DR7);
}

void l2report_state(const struct operation *op)
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
        tr(fields[often[i]].name, l2_read(&op->guest->l2, often[i]));
    for (unsigned i = 0; i < op->mutation.count; i++)
        if (is_saved(op, op->mutation.index[i]))
            report_field(op, op->mutation.index[i]);
    report_touched(op);
    for (unsigned i = 0; i < 4; i++) {
        unsigned index = rand_below(F_COUNT);
        if (is_saved(op, index))
            tr(fields[index].name, l2_read(&op->guest->l2, index));
    }
}

/* The addresses that PML logged. BOCHS 15: the addresses have junk in their lower 12 bits. */
static void report_pml(const struct operation *op)
{
    uint16_t index;

    if (!(op->wanted.f[F_PROC2_CONTROLS] & PROC2_PML))
        return;
    index = (uint16_t)l2_read(&op->guest->l2, F_PML_INDEX);
    tr("pml_index", index);
    for (unsigned i = PML_INDEX_START; i > index && index < PML_INDEX_START; i--) {
        tr("pml", l1_pages.pml[i] & ~PAGE_MASK);
        l1_pages.pml[i] = 0;
    }
}

/* The information area of virtualization exceptions; its first word is 0 when the next one may come. */
static void report_ve(const struct operation *op)
{
    if (!(op->wanted.f[F_PROC2_CONTROLS] & PROC2_EPT_VE))
        return;
    l1_pages.ve_info[1] = exit_info_canonical(EXIT_EPT_VIOLATION, l1_pages.ve_info[1]);
    tr_list("ve", l1_pages.ve_info, 4); /* and an EPTP index, which Bochs does not take from the VMCS */
    memset(l1_pages.ve_info, 0, 5 * sizeof(*l1_pages.ve_info));
}

/* BOCHS 18: 3.1 saves RF as 1 when an EPT violation interrupts the delivery of an event, whatever the event; Nestor,
 * which fills EPT02 in such exits, injects it with that. So RF does not count where a handler finds its flags: behind
 * the return address of four or eight bytes and CS, and before those an error code, or none.
 * SDM 3C 28.3.3 "Saving RIP, RSP, RFLAGS, and SSP" */
static void forget_pushed_rf(const struct operation *op)
{
    const struct image *left = &op->guest->l2.known;
    bool ia32e = op->guest->config.mode <= MODE_COMPATIBILITY_USER;
    unsigned width = ia32e ? 8 : 4;
    uint64_t frame = ia32e ? left->f[F_GUEST_RSP] : (uint32_t)(left->f[F_GUEST_SS_BASE] + left->f[F_GUEST_RSP]);

    if (op->exit.reason != EXIT_VMCALL || ALIGN_DOWN(left->f[F_GUEST_RIP], PAGE_SIZE) != AT(PAGE_HANDLERS))
        return;
    if (frame >= AT(ARENA_PAGES - 1))
        return;
    for (unsigned slot = 2; slot <= 3; slot++)
        *(uint8_t *)arena_at(frame + slot * width + 2) &= (uint8_t) ~(RFLAGS_RF >> 16);
}

static void report_watched(void)
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
            sum = (sum ^ arena_compared(watched[i].page, *p++)) * 0x100000001b3ull + (sum >> 40);
        arena_restore(watched[i].page, watched[i].offset, watched[i].size);
    }
    tr("memory", sum);
}

static void report_general(const struct operation *op)
{
    uint64_t hidden = op->snippet.touches & TOUCH_TIME ? BIT(RAX) | BIT(RDX) : 0;

    for (unsigned i = 0; i < 16; i++)
        if (!(hidden & BIT(i)))
            tr(register_names[i], op->regs[i]);
}

void l2report_registers(const struct operation *op)
{
    report_general(op);
    report_hot_state(op);
}

void l2report_memory(const struct operation *op)
{
    forget_pushed_rf(op);
    report_watched();
    report_pml(op);
    report_ve(op);
}

static const char *const page_names[ARENA_PAGES] = {
    "ivt",    "code",   "stack",  "data",   "special", "tables", "idt64",  "idt32",    "handlers", "tss",   "apic",
    "kern",   "read",   "nx",     "absent", "spare",   "pml4",   "pdpt",   "pd",       "pt",       "pd32",  "pt32",
    "pdptes", "pml4_h", "pdpt_h", "pd_h",   "pt_h",    "pd32_h", "pt32_h", "pdptes_h", "page30",   "page31"};

void l2report_pages(void)
{
    for (unsigned i = 0; i < ARENA_PAGES; i++)
        tr(page_names[i], arena_hash(i));
}
