/* Host state: the registers that L1 will have after the next exit of L2. The CPU loads them without looking, so an
 * entry checks them beforehand; a failure is VMfail 8, and L2 has not run. For Nestor these fields are not the
 * host's at all: the exit that really happens goes to Nestor, and L1's state is loaded in software, by
 * nested/host_state. SDM 3C 27.2.2 "Checks on Host Control Registers, MSRs, and SSP" */
#include "kernel/msr.h"
#include "kernel/x86_bits.h"
#include "nested/rules/check_rows.h"

/* PE, NE and PG at least: a host has paging and protection, whatever its guest may have. */
static bool cr0_fixed(const struct check *c)
{
    return (c->value & c->caps->cr0_fixed0) == c->caps->cr0_fixed0 && (c->value & ~c->caps->cr0_fixed1) == 0;
}

/* MOV to CR4 refuses CET without CR0.WP, and so does an exit. */
static bool cet_with_write_protect(const struct check *c)
{
    return !(c->value & CR4_CET) || c->v->HOST_CR0 & CR0_WP;
}

/* LMA and LME both as the "host address-space size" control. */
static bool efer_mode(const struct check *c)
{
    uint64_t mode = c->word[CHECK_EXIT] & EXITC_HOST_64 ? EFER_LMA | EFER_LME : 0;

    return (c->value & (EFER_LMA | EFER_LME)) == mode;
}

static bool spec_ctrl_accepted(const struct check *c)
{
    return !vmcs12_loads_spec_ctrl(c->v) || !(c->value & ~c->caps->spec_ctrl);
}

static const struct check_row register_rows[] = {
    CHECK_ROW("host CR0: fixed bits", HOST_CR0, ALWAYS, .holds = cr0_fixed),
    CHECK_ROW("host CR4: fixed bits", HOST_CR4, ALWAYS, .holds = check_cr4_fixed),
    CHECK_ROW("host CR4.CET without CR0.WP", HOST_CR4, ALWAYS, .holds = cet_with_write_protect),
    CHECK_ROW("host CR3: reserved bits", HOST_CR3, ALWAYS, .holds = check_cr3_reserved),
    CHECK_ROW("host IA32_SYSENTER_ESP not canonical", HOST_SYSENTER_ESP, ALWAYS, .holds = check_value_canonical),
    CHECK_ROW("host IA32_SYSENTER_EIP not canonical", HOST_SYSENTER_EIP, ALWAYS, .holds = check_value_canonical),
    CHECK_ROW("host IA32_PAT", HOST_PAT, IF_EXIT(EXITC_LOAD_PAT), .holds = check_value_is_pat),
    CHECK_ROW("host IA32_S_CET: reserved bits", HOST_S_CET, IF_EXIT(EXITC_LOAD_CET), .holds = check_s_cet),
    CHECK_ROW("host SSP: bits 1:0", HOST_SSP, IF_EXIT(EXITC_LOAD_CET), .holds = check_ssp_aligned),
    CHECK_ROW("host IA32_INTERRUPT_SSP_TABLE_ADDR not canonical", HOST_SSP_TABLE, IF_EXIT(EXITC_LOAD_CET),
              .holds = check_value_canonical),
    CHECK_ROW("host IA32_PKRS: bits 63:32", HOST_PKRS, IF_EXIT(EXITC_LOAD_PKRS), .holds = check_upper_half_clear),
    CHECK_ROW("host IA32_SPEC_CTRL", HOST_SPEC_CTRL, IF_EXIT(EXITC_SECONDARY), .holds = spec_ctrl_accepted),
    CHECK_ROW("host IA32_EFER: reserved bits", HOST_EFER, IF_EXIT(EXITC_LOAD_EFER), .holds = check_efer_reserved),
    CHECK_ROW("host IA32_EFER: LMA and LME", HOST_EFER, IF_EXIT(EXITC_LOAD_EFER), .holds = efer_mode),
};

#define SELECTOR_RPL_TI BITS(2, 0)

/* Neither an RPL nor an LDT: an exit loads CPL 0 and no LDT. */
static bool selector_plain(const struct check *c)
{
    return (c->value & SELECTOR_RPL_TI) == 0;
}

/* CS and TR cannot be null: each must name a descriptor. */
static bool not_zero(const struct check *c)
{
    return c->value != 0;
}

/* 64-bit mode at CPL 0 does without a stack segment, other modes do not. */
static bool ss_not_null_outside_64_bit(const struct check *c)
{
    return c->value != 0 || c->word[CHECK_EXIT] & EXITC_HOST_64;
}

static const struct check_row segment_rows[] = {
    CHECK_ROW("host CS selector: RPL or TI", HOST_CS_SELECTOR, ALWAYS, .holds = selector_plain),
    CHECK_ROW("host SS selector: RPL or TI", HOST_SS_SELECTOR, ALWAYS, .holds = selector_plain),
    CHECK_ROW("host DS selector: RPL or TI", HOST_DS_SELECTOR, ALWAYS, .holds = selector_plain),
    CHECK_ROW("host ES selector: RPL or TI", HOST_ES_SELECTOR, ALWAYS, .holds = selector_plain),
    CHECK_ROW("host FS selector: RPL or TI", HOST_FS_SELECTOR, ALWAYS, .holds = selector_plain),
    CHECK_ROW("host GS selector: RPL or TI", HOST_GS_SELECTOR, ALWAYS, .holds = selector_plain),
    CHECK_ROW("host TR selector: RPL or TI", HOST_TR_SELECTOR, ALWAYS, .holds = selector_plain),
    CHECK_ROW("host CS selector zero", HOST_CS_SELECTOR, ALWAYS, .holds = not_zero),
    CHECK_ROW("host TR selector zero", HOST_TR_SELECTOR, ALWAYS, .holds = not_zero),
    CHECK_ROW("host SS selector zero", HOST_SS_SELECTOR, ALWAYS, .holds = ss_not_null_outside_64_bit),
    CHECK_ROW("host FS base not canonical", HOST_FS_BASE, ALWAYS, .holds = check_value_canonical),
    CHECK_ROW("host GS base not canonical", HOST_GS_BASE, ALWAYS, .holds = check_value_canonical),
    CHECK_ROW("host GDTR base not canonical", HOST_GDTR_BASE, ALWAYS, .holds = check_value_canonical),
    CHECK_ROW("host IDTR base not canonical", HOST_IDTR_BASE, ALWAYS, .holds = check_value_canonical),
    CHECK_ROW("host TR base not canonical", HOST_TR_BASE, ALWAYS, .holds = check_value_canonical),
};

/* An exit cannot take a processor into IA-32e mode that left it for root operation without. */
static bool l1_in_long_mode(const struct check *c)
{
    return c->context->l1_long_mode;
}

/* A CPU in IA-32e mode cannot come back to root operation outside it. */
static bool host_64_in_long_mode(const struct check *c)
{
    return !c->context->l1_long_mode || c->word[CHECK_EXIT] & EXITC_HOST_64;
}

/* The control "host address-space size": the exit leads to 64-bit mode. */
static bool needs_host_64(const struct check *c)
{
    return c->word[CHECK_EXIT] & EXITC_HOST_64;
}

/* Process-context identifiers exist in IA-32e mode only. */
static bool pcide_only_in_64_bit(const struct check *c)
{
    return !(c->value & CR4_PCIDE) || needs_host_64(c);
}

/* An address of the mode that the exit leads to. */
static bool address_fits(const struct check *c)
{
    return needs_host_64(c) ? check_canonical(c, c->value) : check_upper_half_clear(c);
}

/* IA-32e mode is PAE paging with more levels. */
static bool has_pae(const struct check *c)
{
    return c->value & CR4_PAE;
}

/* That a 32-bit host goes with no IA-32e mode guest follows from the first and the third row. */
static const struct check_row space_rows[] = {
    CHECK_ROW("IA-32e mode guest from outside IA-32e mode", ENTRY_CONTROLS, IF_ENTRY(ENTRY_GUEST_64),
              .holds = l1_in_long_mode),
    CHECK_ROW("64-bit host from outside IA-32e mode", EXIT_CONTROLS, IF_EXIT(EXITC_HOST_64), .holds = l1_in_long_mode),
    CHECK_ROW("32-bit host from IA-32e mode", EXIT_CONTROLS, ALWAYS, .holds = host_64_in_long_mode),
    CHECK_ROW("host CR4.PCIDE with 32-bit host", HOST_CR4, ALWAYS, .holds = pcide_only_in_64_bit),
    CHECK_ROW("host CR4.PAE clear with 64-bit host", HOST_CR4, IF_EXIT(EXITC_HOST_64), .holds = has_pae),
    CHECK_ROW("host RIP", HOST_RIP, ALWAYS, .holds = address_fits),
    CHECK_ROW("host IA32_S_CET: address", HOST_S_CET, IF_EXIT(EXITC_LOAD_CET), .holds = address_fits),
    CHECK_ROW("host SSP: address", HOST_SSP, IF_EXIT(EXITC_LOAD_CET), .holds = address_fits),
};

const struct check_table check_host_registers =
    CHECK_TABLE(CHECK_FAIL_HOST, "SDM 3C 27.2.2 \"Checks on Host Control Registers, MSRs, and SSP\"", register_rows);
const struct check_table check_host_segments = CHECK_TABLE(
    CHECK_FAIL_HOST, "SDM 3C 27.2.3 \"Checks on Host Segment and Descriptor-Table Registers\"", segment_rows);
const struct check_table check_host_space =
    CHECK_TABLE(CHECK_FAIL_HOST, "SDM 3C 27.2.4 \"Checks Related to Address-Space Size\"", space_rows);
