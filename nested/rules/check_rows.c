/* Predicates that rows of more than one table use. Each judges c->value, the field of its row, so that one function
 * serves the guest's register and the host's. */
#include "nested/rules/check_rows.h"

#include "kernel/msr.h"
#include "kernel/x86_bits.h"

bool check_value_canonical(const struct check *c)
{
    return check_canonical(c, c->value);
}

bool check_value_within_width(const struct check *c)
{
    return check_within_width(c, c->value);
}

bool check_value_is_pat(const struct check *c)
{
    return x86_is_pat(c->value);
}

/* The four bits that IA32_EFER has. SDM 3A 2.2.1 "Extended Feature Enable Register" */
bool check_efer_reserved(const struct check *c)
{
    return (c->value & ~(EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE)) == 0;
}

/* Bits beyond the physical-address width, except for flags of linear-address masking where the CPU has them. */
bool check_cr3_reserved(const struct check *c)
{
    return check_within_width(c, c->value & ~c->caps->cr3_flags);
}

/* Bits that are 1 in IA32_VMX_CR4_FIXED0 must be 1, those that are 0 in IA32_VMX_CR4_FIXED1 must be 0. */
bool check_cr4_fixed(const struct check *c)
{
    return (c->value & c->caps->cr4_fixed0) == c->caps->cr4_fixed0 && (c->value & ~c->caps->cr4_fixed1) == 0;
}

/* Bits that are reserved on every processor with CET, and two that exclude each other. The CPU judges the rest, on
 * vmcs02. SDM 4, table "IA-32 Architectural MSRs", IA32_S_CET */
#define S_CET_RESERVED BITS(9, 6)
#define S_CET_SUPPRESS BIT(10)
#define S_CET_TRACKER BIT(11)

bool check_s_cet(const struct check *c)
{
    return (c->value & S_CET_RESERVED) == 0 &&
           (c->value & (S_CET_SUPPRESS | S_CET_TRACKER)) != (S_CET_SUPPRESS | S_CET_TRACKER);
}

bool check_upper_half_clear(const struct check *c)
{
    return c->value >> 32 == 0;
}

/* A shadow stack holds words of 4 or 8 bytes; the check asks for 4. */
bool check_ssp_aligned(const struct check *c)
{
    return (c->value & BITS(1, 0)) == 0;
}
