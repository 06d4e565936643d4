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

bool check_efer_reserved(const struct check *c)
{
    return (c->value & ~(EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE)) == 0;
}

bool check_cr3_reserved(const struct check *c)
{
    return check_within_width(c, c->value & ~c->caps->cr3_flags);
}

bool check_cr4_fixed(const struct check *c)
{
    return (c->value & c->caps->cr4_fixed0) == c->caps->cr4_fixed0 && (c->value & ~c->caps->cr4_fixed1) == 0;
}
