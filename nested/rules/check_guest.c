/* Guest state except for segments and non-register state. A failure here is not a VMfail: the CPU has begun to load
 * the guest by then, so L1 sees an exit, reason 33 with bit 31 set, and its host state is loaded. Modes are the
 * thread through this file: the entry control says whether L2 is in IA-32e mode, and CR0, CR4 and EFER have to agree
 * with it. */
#include "kernel/msr.h"
#include "kernel/x86_bits.h"
#include "nested/rules/check_rows.h"

/* Unrestricted guests may have paging off, and protection too; and CR0.NW and CR0.CD are not among the fixed bits. */
static bool cr0_fixed(const struct check *c)
{
    uint64_t must = c->caps->cr0_fixed0;

    if (!(c->word[CHECK_MODE] & MODE_RESTRICTED))
        must &= ~(CR0_PE | CR0_PG);
    return (c->value & must) == must && (c->value & ~c->caps->cr0_fixed1) == 0;
}

/* Paging without protection exists in no mode. */
static bool paging_protected(const struct check *c)
{
    return !(c->value & CR0_PG) || c->value & CR0_PE;
}

/* As MOV to CR4: a shadow stack that supervisors could write to by a slip would protect nothing. */
static bool cet_with_write_protect(const struct check *c)
{
    return !(c->value & CR4_CET) || c->v->GUEST_CR0 & CR0_WP;
}

/* Reserved on every processor. Bit 2 and the model's own bits are left to the CPU, which judges vmcs02. */
#define DEBUGCTL_RESERVED (BITS(5, 3) | BITS(63, 16))

static bool debugctl_reserved(const struct check *c)
{
    return (c->value & DEBUGCTL_RESERVED) == 0;
}

/* IA-32e mode is a mode of paging: without CR0.PG there is none. */
static bool has_paging(const struct check *c)
{
    return c->value & CR0_PG;
}

/* IA-32e mode is PAE paging with more levels. */
static bool has_pae(const struct check *c)
{
    return c->value & CR4_PAE;
}

/* IA-32e mode is what the entry control says; EFER and CR0 must agree with it. */
static bool long_mode(const struct check *c)
{
    return c->word[CHECK_ENTRY] & ENTRY_GUEST_64;
}

/* Process-context identifiers exist in IA-32e mode only. */
static bool pcide_only_in_long_mode(const struct check *c)
{
    return !(c->value & CR4_PCIDE) || long_mode(c);
}

/* LMA as the entry control says. */
static bool efer_lma(const struct check *c)
{
    return !(c->value & EFER_LMA) == !long_mode(c);
}

/* With paging on LME and LMA are the same; without it LME may wait. */
static bool efer_lme(const struct check *c)
{
    return !(c->v->GUEST_CR0 & CR0_PG) || !(c->value & EFER_LMA) == !(c->value & EFER_LME);
}

/* The legacy code-page bitmap's address, in the width of the guest's mode. */
static bool s_cet_address(const struct check *c)
{
    return long_mode(c) ? check_canonical(c, c->value) : check_upper_half_clear(c);
}

/* A vector of 8 bits in a field of 16. */
static bool uinv_reserved(const struct check *c)
{
    return c->value <= UINT8_MAX;
}

static const struct check_row register_rows[] = {
    CHECK_ROW("guest CR0: fixed bits", GUEST_CR0, ALWAYS, .holds = cr0_fixed),
    CHECK_ROW("guest CR0.PG without CR0.PE", GUEST_CR0, ALWAYS, .holds = paging_protected),
    CHECK_ROW("guest CR4: fixed bits", GUEST_CR4, ALWAYS, .holds = check_cr4_fixed),
    CHECK_ROW("guest CR4.CET without CR0.WP", GUEST_CR4, ALWAYS, .holds = cet_with_write_protect),
    CHECK_ROW("guest IA32_DEBUGCTL: reserved bits", GUEST_DEBUGCTL, IF_ENTRY(ENTRY_LOAD_DEBUG),
              .holds = debugctl_reserved),
    CHECK_ROW("guest CR0.PG clear in IA-32e mode", GUEST_CR0, IF_ENTRY(ENTRY_GUEST_64), .holds = has_paging),
    CHECK_ROW("guest CR4.PAE clear in IA-32e mode", GUEST_CR4, IF_ENTRY(ENTRY_GUEST_64), .holds = has_pae),
    CHECK_ROW("guest CR4.PCIDE outside IA-32e mode", GUEST_CR4, ALWAYS, .holds = pcide_only_in_long_mode),
    CHECK_ROW("guest CR3: reserved bits", GUEST_CR3, ALWAYS, .holds = check_cr3_reserved),
    CHECK_ROW("guest DR7: bits 63:32", GUEST_DR7, IF_ENTRY(ENTRY_LOAD_DEBUG), .holds = check_upper_half_clear),
    CHECK_ROW("guest IA32_SYSENTER_ESP not canonical", GUEST_SYSENTER_ESP, ALWAYS, .holds = check_value_canonical),
    CHECK_ROW("guest IA32_SYSENTER_EIP not canonical", GUEST_SYSENTER_EIP, ALWAYS, .holds = check_value_canonical),
    CHECK_ROW("guest IA32_PAT", GUEST_PAT, IF_ENTRY(ENTRY_LOAD_PAT), .holds = check_value_is_pat),
    CHECK_ROW("guest IA32_EFER: reserved bits", GUEST_EFER, IF_ENTRY(ENTRY_LOAD_EFER), .holds = check_efer_reserved),
    CHECK_ROW("guest IA32_EFER: LMA", GUEST_EFER, IF_ENTRY(ENTRY_LOAD_EFER), .holds = efer_lma),
    CHECK_ROW("guest IA32_EFER: LME", GUEST_EFER, IF_ENTRY(ENTRY_LOAD_EFER), .holds = efer_lme),
    CHECK_ROW("guest IA32_S_CET: reserved bits", GUEST_S_CET, IF_ENTRY(ENTRY_LOAD_CET), .holds = check_s_cet),
    CHECK_ROW("guest IA32_S_CET: address", GUEST_S_CET, IF_ENTRY(ENTRY_LOAD_CET), .holds = s_cet_address),
    CHECK_ROW("guest IA32_INTERRUPT_SSP_TABLE_ADDR not canonical", GUEST_SSP_TABLE, IF_ENTRY(ENTRY_LOAD_CET),
              .holds = check_value_canonical),
    CHECK_ROW("guest IA32_PKRS: bits 63:32", GUEST_PKRS, IF_ENTRY(ENTRY_LOAD_PKRS), .holds = check_upper_half_clear),
    CHECK_ROW("guest UINV: bits 15:8", GUEST_UINV, IF_ENTRY(ENTRY_LOAD_UINV), .holds = uinv_reserved),
};

/* GDTR and IDTR have limits of 16 bits, though their fields have 32. */
static bool limit_16_bits(const struct check *c)
{
    return c->value <= UINT16_MAX;
}

static const struct check_row table_rows[] = {
    CHECK_ROW("guest GDTR base not canonical", GUEST_GDTR_BASE, ALWAYS, .holds = check_value_canonical),
    CHECK_ROW("guest IDTR base not canonical", GUEST_IDTR_BASE, ALWAYS, .holds = check_value_canonical),
    CHECK_ROW("guest GDTR limit: bits 31:16", GUEST_GDTR_LIMIT, ALWAYS, .holds = limit_16_bits),
    CHECK_ROW("guest IDTR limit: bits 31:16", GUEST_IDTR_LIMIT, ALWAYS, .holds = limit_16_bits),
};

/* In 64-bit mode only the bits beyond the linear-address width are looked at, so that an address just above the
 * canonical ones passes and faults at its first fetch. */
static bool within_linear_width(const struct check *c)
{
    uint64_t beyond = c->value >> c->caps->linear_bits;

    return c->caps->linear_bits >= 64 || beyond == 0 || beyond == ~0ull >> c->caps->linear_bits;
}

/* Only 64-bit code has an instruction pointer of 64 bits; compatibility mode has not. */
static bool rip_fits(const struct check *c)
{
    return long_mode(c) && c->v->GUEST_CS_AR_BYTES & AR_L ? within_linear_width(c) : check_upper_half_clear(c);
}

/* The shadow-stack pointer follows IA-32e mode, whatever CS.L says. */
static bool ssp_fits(const struct check *c)
{
    return long_mode(c) ? within_linear_width(c) : check_upper_half_clear(c);
}

#define RFLAGS_RESERVED (BITS(63, 22) | BIT(15) | BIT(5) | BIT(3))

/* Bit 1 is always 1; bits 3, 5, 15 and all from 22 on are always 0. */
static bool rflags_reserved(const struct check *c)
{
    return (c->value & RFLAGS_RESERVED) == 0 && c->value & RFLAGS_FIXED1;
}

/* There is no virtual-8086 mode in IA-32e mode, nor without protection. */
static bool v8086_only_in_legacy_mode(const struct check *c)
{
    return !long_mode(c) && c->v->GUEST_CR0 & CR0_PE;
}

/* An external interrupt is not delivered with interrupts off, also when an entry injects it. */
static bool interrupt_needs_if(const struct check *c)
{
    return !check_event_is(c, INTR_TYPE_EXTERNAL) || c->value & RFLAGS_IF;
}

static const struct check_row rip_rows[] = {
    CHECK_ROW("guest RIP", GUEST_RIP, ALWAYS, .holds = rip_fits),
    CHECK_ROW("guest RFLAGS: reserved bits", GUEST_RFLAGS, ALWAYS, .holds = rflags_reserved),
    CHECK_ROW("guest RFLAGS.VM outside legacy protected mode", GUEST_RFLAGS, IF_MODE(MODE_V8086),
              .holds = v8086_only_in_legacy_mode),
    CHECK_ROW("external interrupt injected with RFLAGS.IF clear", GUEST_RFLAGS, IF_EVENT, .holds = interrupt_needs_if),
};

static const struct check_row ssp_rows[] = {
    CHECK_ROW("guest SSP: bits 1:0", GUEST_SSP, IF_ENTRY(ENTRY_LOAD_CET), .holds = check_ssp_aligned),
    CHECK_ROW("guest SSP: address", GUEST_SSP, IF_ENTRY(ENTRY_LOAD_CET), .holds = ssp_fits),
};

const struct check_table check_guest_registers =
    CHECK_TABLE(CHECK_FAIL_GUEST, "SDM 3C 27.3.1.1 \"Checks on Guest Control Registers, Debug Registers, and MSRs\"",
                register_rows);
const struct check_table check_guest_tables =
    CHECK_TABLE(CHECK_FAIL_GUEST, "SDM 3C 27.3.1.3 \"Checks on Guest Descriptor-Table Registers\"", table_rows);
const struct check_table check_guest_rip =
    CHECK_TABLE(CHECK_FAIL_GUEST, "SDM 3C 27.3.1.4 \"Checks on Guest RIP, RFLAGS, and SSP\"", rip_rows);
const struct check_table check_guest_ssp =
    CHECK_TABLE(CHECK_FAIL_GUEST, "SDM 3C 27.3.1.4 \"Checks on Guest RIP, RFLAGS, and SSP\"", ssp_rows);
