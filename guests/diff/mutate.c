#include "guests/diff/mutate.h"

#include "guests/diff/arena.h"
#include "guests/diff/enter.h"
#include "guests/diff/lists.h"
#include "guests/diff/rand.h"
#include "guests/lib/cpu.h"
#include "guests/lib/desc.h"

static void change(struct mutation *m, struct image *v, unsigned index, uint64_t value)
{
    if (!fields[index].offered || m->count == ARRAY_SIZE(m->index))
        return;
    v->f[index] = value;
    m->index[m->count++] = (uint16_t)index;
}

static unsigned width_bits(unsigned index)
{
    static const uint8_t bits[] = {[WIDTH_16] = 16, [WIDTH_32] = 32, [WIDTH_64] = 64, [WIDTH_NATURAL] = 64};

    return bits[field_width(index)];
}

/* Near the valid value more often than far from it. */
static uint64_t near(unsigned index, uint64_t value)
{
    unsigned bits = width_bits(index);

    switch (rand_below(6)) {
    case 0:
        return rand_value();
    case 1:
        return value ^ rand_bit(bits) ^ rand_bit(bits);
    case 2:
        return value + (rand_chance(1, 2) ? 1 : -1ull);
    default:
        return value ^ rand_bit(bits);
    }
}

/* Low bits, high bits, or another page: never an address that the processor would go to and do harm at. */
static uint64_t near_page(uint64_t address)
{
    switch (rand_below(3)) {
    case 0:
        return address ^ rand_bit(12);
    case 1:
        return address ^ BIT(caps.physical_bits + rand_below(64 - caps.physical_bits));
    default:
        return (uint64_t)l1_pages.msr_bitmap;
    }
}

/* Bits that no processor has: others that are not offered may be what Nestor hides and the bare CPU has. Each bit of
 * the secondary processor-based controls and of the exit controls means something on some CPU. */
static uint64_t never_allowed(enum vmcs_field field)
{
    switch (field) {
    case PIN_CONTROLS:
        return BITS(31, 8);
    case PROC_CONTROLS:
        return BIT(0);
    case PROC2_CONTROLS:
    case EXIT_CONTROLS:
        return 0;
    default:
        return BITS(31, 24);
    }
}

/* One control that may be changed, or rarely one that must be as it is. */
static uint64_t toggle(enum vmcs_field field, uint64_t value)
{
    const struct vmx_control_caps *c = caps_of(field);
    uint64_t choice = rand_chance(7, 8) ? c->may & ~c->must : c->must | never_allowed(field);
    uint64_t bit = rand_bit(32);

    while (choice && !(choice & bit))
        bit = rand_bit(32);
    return choice ? value ^ bit : value;
}

static void mutate_controls(struct mutation *m, struct image *v)
{
    static const struct {
        uint16_t index;
        enum vmcs_field field;
    } controls[] = {
        {F_PIN_CONTROLS, PIN_CONTROLS},     {F_PROC_CONTROLS, PROC_CONTROLS},   {F_PROC_CONTROLS, PROC_CONTROLS},
        {F_PROC2_CONTROLS, PROC2_CONTROLS}, {F_PROC2_CONTROLS, PROC2_CONTROLS}, {F_EXIT_CONTROLS, EXIT_CONTROLS},
        {F_ENTRY_CONTROLS, ENTRY_CONTROLS},
    };
    unsigned i = rand_below(ARRAY_SIZE(controls));

    change(m, v, controls[i].index, toggle(controls[i].field, v->f[controls[i].index]));
}

static void mutate_addresses(struct mutation *m, struct image *v)
{
    static const uint16_t pages[] = {F_IO_BITMAP_A,      F_IO_BITMAP_B,         F_MSR_BITMAP,  F_VIRTUAL_APIC_ADDR,
                                     F_APIC_ACCESS_ADDR, F_ENTRY_MSR_LOAD_ADDR, F_EPT_POINTER, F_POSTED_DESC_ADDR};
    unsigned index = RAND_PICK(pages);
    uint64_t address = near_page(v->f[index]);

    if (index == F_EPT_POINTER)
        address = (address & ~EPTP_AD) | (v->f[index] & EPTP_AD);
    /* When a bitmap lies in the APIC-access page, a CPU may or may not exit for its own look at it.
     * SDM 3C 30.4.6 "APIC Accesses Not Directly Resulting From Linear Addresses" */
    if (index == F_APIC_ACCESS_ADDR && address == (uint64_t)l1_pages.msr_bitmap)
        address |= BIT(3);
    change(m, v, index, address);
}

/* Fields of the execution controls that any value may be in. */
static void mutate_plain_controls(struct mutation *m, struct image *v)
{
    static const uint16_t plain[] = {F_EXCEPTION_BITMAP,
                                     F_EXCEPTION_BITMAP,
                                     F_PAGE_FAULT_ERROR_CODE_MASK,
                                     F_PAGE_FAULT_ERROR_CODE_MATCH,
                                     F_CR0_GUEST_HOST_MASK,
                                     F_CR0_GUEST_HOST_MASK,
                                     F_CR4_GUEST_HOST_MASK,
                                     F_CR4_GUEST_HOST_MASK,
                                     F_CR0_READ_SHADOW,
                                     F_CR4_READ_SHADOW,
                                     F_CR3_TARGET_VALUE0,
                                     F_CR3_TARGET_VALUE2,
                                     F_TSC_OFFSET,
                                     F_TSC_MULTIPLIER,
                                     F_XSS_EXITING_BITMAP,
                                     F_EOI_EXIT_BITMAP0,
                                     F_VPID};
    unsigned index = RAND_PICK(plain);

    change(m, v, index, rand_value());
    if (rand_chance(1, 8))
        change(m, v, F_CR3_TARGET_COUNT, rand_below(6));
    if (rand_chance(1, 8))
        change(m, v, F_TPR_THRESHOLD, rand_chance(3, 4) ? rand_below(16) : rand_value());
}

static void mutate_event(struct mutation *m, struct image *v)
{
    static const uint8_t types[] = {0, 2, 3, 3, 3, 4, 5, 6, 1};
    static const uint8_t vectors[] = {0, 1, 2, 3, 4, 5, 6, 8, 10, 11, 12, 13, 14, 17, 18, 31, 32, 0x80, 0xff};
    static const uint32_t with_code = BIT(8) | BIT(10) | BIT(11) | BIT(12) | BIT(13) | BIT(14) | BIT(17);
    unsigned type = RAND_PICK(types), vector = type == 2 ? 2 : RAND_PICK(vectors);
    bool code = type == 3 && vector < 32 && with_code & BIT(vector) && v->f[F_GUEST_CR0] & CR0_PE;
    uint64_t info = INTR_VALID | PUT(type, INTR_TYPE) | vector | (code ? INTR_ERROR_CODE : 0);

    if (rand_chance(1, 6))
        info ^= rand_bit(31);
    change(m, v, F_ENTRY_INTERRUPTION_INFO, info);
    change(m, v, F_ENTRY_EXCEPTION_ERROR_CODE, rand_chance(5, 6) ? rand_next() & 0x7fff : rand_value());
    change(m, v, F_ENTRY_INSTRUCTION_LENGTH, rand_chance(5, 6) ? 1 + rand_below(15) : rand_below(20));
}

static void mutate_registers(struct mutation *m, struct image *v)
{
    static const uint16_t registers[] = {
        F_GUEST_CR0,       F_GUEST_CR4,         F_GUEST_RFLAGS,       F_GUEST_RFLAGS,
        F_GUEST_RIP,       F_GUEST_RSP,         F_GUEST_DR7,          F_GUEST_EFER,
        F_GUEST_PAT,       F_GUEST_SYSENTER_CS, F_GUEST_SYSENTER_ESP, F_GUEST_SYSENTER_EIP,
        F_GUEST_GDTR_BASE, F_GUEST_GDTR_LIMIT,  F_GUEST_IDTR_BASE,    F_GUEST_IDTR_LIMIT};
    unsigned index = RAND_PICK(registers);

    change(m, v, index, near(index, v->f[index]));
}

/* With EPT any CR3 will do: what it leads to is L2's. Without, only addresses that hold tables for L2. */
static void mutate_cr3(struct mutation *m, struct image *v)
{
    bool ept = v->f[F_PROC2_CONTROLS] & PROC2_EPT && v->f[F_PROC_CONTROLS] & PROC_SECONDARY;
    uint64_t cr3 = v->f[F_GUEST_CR3];

    if (ept)
        cr3 = near(F_GUEST_CR3, cr3);
    else
        cr3 ^= rand_chance(1, 2) ? rand_bit(5) : BIT(caps.physical_bits + rand_below(64 - caps.physical_bits));
    change(m, v, F_GUEST_CR3, cr3);
}

static void mutate_segment(struct mutation *m, struct image *v)
{
    unsigned segment = rand_below(F_GUEST_TR_SELECTOR - F_GUEST_ES_SELECTOR + 1);
    static const uint16_t parts[] = {F_GUEST_ES_SELECTOR, F_GUEST_ES_BASE, F_GUEST_ES_LIMIT, F_GUEST_ES_AR_BYTES,
                                     F_GUEST_ES_AR_BYTES};
    static const uint32_t limits[] = {0, 0xffff, 0xfffff, 0xffffffff, 0x1fff, 0xfff0ffff};
    unsigned index = RAND_PICK(parts) + segment;
    uint64_t value = near(index, v->f[index]);

    if (field_width(index) == WIDTH_32 && index < F_GUEST_ES_AR_BYTES && rand_chance(1, 2))
        value = RAND_PICK(limits);
    if (index >= F_GUEST_ES_AR_BYTES && rand_chance(1, 2))
        value = v->f[index] ^ rand_bit(17);
    if (index == F_GUEST_ES_BASE + segment && rand_chance(1, 2))
        value = rand_chance(1, 2) ? 0x10 * rand_below(16) : (uint32_t)rand_value();
    change(m, v, index, value);
}

static void mutate_state(struct mutation *m, struct image *v)
{
    switch (rand_below(6)) {
    case 0:
        change(m, v, F_GUEST_ACTIVITY_STATE, rand_chance(1, 2) ? rand_below(6) : rand_value());
        break;
    case 1:
        change(m, v, F_GUEST_PENDING_DEBUG, near(F_GUEST_PENDING_DEBUG, 0));
        break;
    case 2:
        change(m, v, F_VMCS_LINK_POINTER, rand_chance(1, 2) ? near(F_VMCS_LINK_POINTER, ~0ull) : near_page(0));
        break;
    case 3:
        change(m, v, F_GUEST_PDPTE0 + rand_below(4), near(F_GUEST_PDPTE0, v->f[F_GUEST_PDPTE0]));
        break;
    default:
        change(m, v, F_GUEST_INTERRUPTIBILITY, rand_chance(5, 6) ? rand_below(16) : rand_value());
        if (rand_chance(1, 2))
            change(m, v, F_GUEST_RFLAGS, v->f[F_GUEST_RFLAGS] | RFLAGS_IF);
    }
}

/* Host state that makes the entry fail: never state that L1 would not survive. */
static void mutate_host_wrong(struct mutation *m, struct image *v)
{
    static const uint16_t canonical[] = {F_HOST_FS_BASE,   F_HOST_GS_BASE,      F_HOST_TR_BASE,      F_HOST_GDTR_BASE,
                                         F_HOST_IDTR_BASE, F_HOST_SYSENTER_ESP, F_HOST_SYSENTER_EIP, F_HOST_RIP};
    unsigned index = F_HOST_ES_SELECTOR + rand_below(7);

    switch (rand_below(6)) {
    case 0:
        change(m, v, index, v->f[index] | rand_bit(3));
        break;
    case 1:
        change(m, v, RAND_PICK(((const uint16_t[]){F_HOST_CS_SELECTOR, F_HOST_TR_SELECTOR})), 0);
        break;
    case 2:
        change(m, v, RAND_PICK(canonical), BIT(47 + rand_below(16)));
        break;
    case 3:
        change(m, v, F_HOST_CR0, v->f[F_HOST_CR0] ^ RAND_PICK(((const uint64_t[]){CR0_PE, CR0_NE, CR0_PG, BIT(40)})));
        break;
    case 4:
        change(m, v, F_HOST_CR4,
               v->f[F_HOST_CR4] ^ RAND_PICK(((const uint64_t[]){CR4_VMXE, CR4_PAE, BIT(30), BIT(63)})));
        break;
    default:
        change(m, v, F_HOST_CR3, v->f[F_HOST_CR3] | BIT(caps.physical_bits + rand_below(64 - caps.physical_bits)));
    }
}

static void mutate_host_right(struct mutation *m, struct image *v)
{
    static const uint16_t selectors[] = {F_HOST_ES_SELECTOR, F_HOST_DS_SELECTOR, F_HOST_FS_SELECTOR, F_HOST_GS_SELECTOR,
                                         F_HOST_SS_SELECTOR};
    static const uint16_t bases[] = {F_HOST_FS_BASE, F_HOST_GS_BASE, F_HOST_SYSENTER_ESP, F_HOST_SYSENTER_EIP};

    switch (rand_below(7)) {
    case 0:
        change(m, v, RAND_PICK(selectors), rand_chance(1, 2) ? 0 : SEL_USER_DATA & ~3u);
        break;
    case 1:
        change(m, v, RAND_PICK(bases), (uint64_t)((int64_t)rand_value() >> 17));
        break;
    case 2:
        change(m, v, F_HOST_CR0, v->f[F_HOST_CR0] ^ RAND_PICK(((const uint64_t[]){CR0_MP, CR0_TS, CR0_AM, CR0_WP})));
        break;
    case 3:
        change(m, v, F_HOST_CR4, v->f[F_HOST_CR4] ^ RAND_PICK(((const uint64_t[]){CR4_TSD, CR4_DE, CR4_PCE, BIT(7)})));
        break;
    case 4:
        change(m, v, F_HOST_RIP, (uint64_t)diff_exit_point_other);
        break;
    case 5:
        change(m, v, F_HOST_SYSENTER_CS, (uint16_t)rand_value()); /* Bochs loads 16 of its 32 bits */
        break;
    default:
        change(m, v, F_HOST_PAT, 0x0006000700040506ull);
    }
}

static void mutate_host_msrs(struct mutation *m, struct image *v)
{
    if (rand_chance(1, 2))
        change(m, v, F_HOST_PAT, near(F_HOST_PAT, v->f[F_HOST_PAT]));
    else
        change(m, v, F_HOST_EFER, v->f[F_HOST_EFER] ^ rand_bit(64));
}

static void mutate_host(struct mutation *m, struct image *v)
{
    m->host = true;
    switch (rand_below(4)) {
    case 0:
        mutate_host_wrong(m, v);
        break;
    case 1:
        mutate_host_msrs(m, v);
        break;
    default:
        mutate_host_right(m, v);
    }
}

/* Registers that entries load and exits change when controls say so; mostly values that pass. */
static void mutate_switched(struct mutation *m, struct image *v)
{
    uint64_t canonical = (uint64_t)((int64_t)rand_value() >> 17);
    const struct {
        uint16_t index;
        uint64_t value;
    } rows[] = {
        {F_GUEST_S_CET, (canonical & ~BITS(11, 0)) | (rand_value() & (BIT(10) | BITS(5, 0)))},
        {F_GUEST_SSP, canonical & ~(rand_chance(3, 4) ? BITS(2, 0) : 0)},
        {F_GUEST_SSP_TABLE, canonical},
        {F_GUEST_PKRS, (uint32_t)rand_value()},
        {F_GUEST_UINV, rand_chance(3, 4) ? (uint8_t)rand_value() : rand_value()},
        {F_HOST_S_CET, (canonical & ~BITS(11, 0)) | (rand_value() & BITS(5, 0))},
        {F_HOST_SSP, canonical & ~(rand_chance(3, 4) ? BITS(2, 0) : 0)},
        {F_HOST_SSP_TABLE, canonical},
        {F_HOST_PKRS, (uint32_t)rand_value()},
    };
    unsigned row = rand_below(ARRAY_SIZE(rows));

    change(m, v, rows[row].index, rows[row].value);
}

static void mutate_lists(struct mutation *m, struct image *v)
{
    static const uint16_t exit_lists[] = {F_EXIT_MSR_STORE_ADDR, F_EXIT_MSR_LOAD_ADDR};
    unsigned list = RAND_PICK(exit_lists);

    m->lists = true;
    /* An exit list that is read from elsewhere would end L1. */
    if (rand_chance(1, 8))
        change(m, v, list, v->f[list] ^ (rand_chance(1, 2) ? rand_bit(4) : BIT(63)));
    change(m, v, F_ENTRY_MSR_LOAD_COUNT, lists_fill_entry_load());
    change(m, v, F_EXIT_MSR_STORE_COUNT, lists_fill_exit_store());
    change(m, v, F_EXIT_MSR_LOAD_COUNT, lists_fill_exit_load());
}

static void (*const mutators[])(struct mutation *, struct image *) = {
    mutate_controls, mutate_controls, mutate_addresses, mutate_plain_controls, mutate_plain_controls,
    mutate_event,    mutate_event,    mutate_registers, mutate_registers,      mutate_registers,
    mutate_cr3,      mutate_segment,  mutate_segment,   mutate_state,          mutate_host,
    mutate_lists,    mutate_switched,
};

void mutate(struct mutation *m, struct image *v)
{
    static const uint8_t counts[] = {0, 0, 1, 1, 1, 1, 2, 3};

    *m = (struct mutation){0};
    for (unsigned n = RAND_PICK(counts); n; n--)
        mutators[rand_below(ARRAY_SIZE(mutators))](m, v);
}

static void mix(struct image *v, unsigned index, enum vmcs_field field, uint64_t keep)
{
    const struct vmx_control_caps *c = caps_of(field);
    uint64_t bits = rand_next() & rand_next() & c->may & ~keep;

    v->f[index] |= bits;
}

/* A control that needs another which is off is switched off. SDM 3C 27.2.1 */
static void make_consistent(struct image *v)
{
    static const struct {
        uint16_t index, needs_index;
        uint64_t bits, needs;
    } rules[] = {
        {F_PIN_CONTROLS, F_PIN_CONTROLS, PIN_VIRTUAL_NMIS, PIN_NMI},
        {F_PROC_CONTROLS, F_PIN_CONTROLS, PROC_NMI_WINDOW, PIN_VIRTUAL_NMIS},
        {F_PROC2_CONTROLS, F_PROC_CONTROLS, PROC2_X2APIC | PROC2_APIC_REGISTER | PROC2_VIRTUAL_INTERRUPTS,
         PROC_TPR_SHADOW},
        {F_PROC2_CONTROLS, F_PIN_CONTROLS, PROC2_VIRTUAL_INTERRUPTS, PIN_EXTERNAL_INTERRUPT},
        {F_PROC2_CONTROLS, F_PROC2_CONTROLS,
         PROC2_UNRESTRICTED | PROC2_PML | PROC2_VMFUNC | PROC2_EPT_VE | PROC2_MODE_BASED_EXECUTE | PROC2_SPP,
         PROC2_EPT},
        {F_EXIT_CONTROLS, F_PIN_CONTROLS, EXITC_SAVE_TIMER, PIN_PREEMPTION_TIMER},
        {F_PIN_CONTROLS, F_PROC2_CONTROLS, PIN_POSTED_INTERRUPTS, PROC2_VIRTUAL_INTERRUPTS},
        {F_PIN_CONTROLS, F_EXIT_CONTROLS, PIN_POSTED_INTERRUPTS, EXITC_ACK_INTERRUPT},
    };

    for (unsigned i = 0; i < ARRAY_SIZE(rules); i++)
        if (!(v->f[rules[i].needs_index] & rules[i].needs))
            v->f[rules[i].index] &= ~rules[i].bits;
    if (v->f[F_PROC2_CONTROLS] & PROC2_X2APIC)
        v->f[F_PROC2_CONTROLS] &= ~PROC2_APIC_ACCESS;
    if (!(v->f[F_PROC2_CONTROLS] & PROC2_VMCS_SHADOWING))
        v->f[F_VMCS_LINK_POINTER] = UINT64_MAX;
}

void mutate_mix_controls(struct image *v)
{
    const uint64_t proc_kept = PROC_MONITOR_TRAP | PROC_SECONDARY | PROC_TERTIARY;
    const uint64_t proc2_kept = PROC2_EPT | PROC2_VPID | PROC2_UNRESTRICTED;

    mix(v, F_PIN_CONTROLS, PIN_CONTROLS, 0);
    mix(v, F_PROC_CONTROLS, PROC_CONTROLS, proc_kept);
    mix(v, F_PROC2_CONTROLS, PROC2_CONTROLS, proc2_kept);
    mix(v, F_EXIT_CONTROLS, EXIT_CONTROLS, 0);
    mix(v, F_ENTRY_CONTROLS, ENTRY_CONTROLS, ENTRY_GUEST_64 | ENTRY_TO_SMM | ENTRY_NO_DUAL_MONITOR);
    make_consistent(v);
}
