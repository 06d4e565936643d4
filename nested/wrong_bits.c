/* A refused control word in words: which bits break the rule, each with its name from nested/control_bits.def, and
 * the MSR that says so. "Bit 31 must be 1" sends an author of a hypervisor to a table of the SDM; "31 (secondary
 * controls), by IA32_VMX_TRUE_PROCBASED_CTLS" does not. */
#include "nested/wrong_bits.h"

#include "kernel/format.h"
#include "vmx/vmcs.h"

static const struct {
    unsigned field, bit;
    const char *name;
} names[] = {
#define CONTROL_BIT(field, bit, name) {FIELD_INDEX_##field, bit, name},
#include "nested/control_bits.def"
#undef CONTROL_BIT
};

/* The values that a field may have, and the MSRs that say so. */
struct allowed {
    uint64_t must, may;
    const char *msrs;
};

static struct allowed of_controls(struct ctl_caps caps, const char *msr)
{
    return (struct allowed){caps.must, caps.may, msr};
}

/* The bounds of a field that a capability MSR judges. Of all others any value is allowed here: their rules are not
 * about single bits. */
static struct allowed allowed_of(unsigned field, const struct vmx_caps *caps)
{
    switch (field) {
    case FIELD_INDEX_PIN_CONTROLS:
        return of_controls(caps->pin, "IA32_VMX_TRUE_PINBASED_CTLS");
    case FIELD_INDEX_PROC_CONTROLS:
        return of_controls(caps->proc, "IA32_VMX_TRUE_PROCBASED_CTLS");
    case FIELD_INDEX_PROC2_CONTROLS:
        return of_controls(caps->proc2, "IA32_VMX_PROCBASED_CTLS2");
    case FIELD_INDEX_PROC3_CONTROLS:
        return (struct allowed){0, caps->proc3, "IA32_VMX_PROCBASED_CTLS3"};
    case FIELD_INDEX_EXIT_CONTROLS:
        return of_controls(caps->exit, "IA32_VMX_TRUE_EXIT_CTLS");
    case FIELD_INDEX_EXIT2_CONTROLS:
        return (struct allowed){0, caps->exit2, "IA32_VMX_EXIT_CTLS2"};
    case FIELD_INDEX_ENTRY_CONTROLS:
        return of_controls(caps->entry, "IA32_VMX_TRUE_ENTRY_CTLS");
    case FIELD_INDEX_GUEST_CR0:
    case FIELD_INDEX_HOST_CR0:
        return (struct allowed){caps->cr0_fixed0, caps->cr0_fixed1, "IA32_VMX_CR0_FIXED0 and _FIXED1"};
    case FIELD_INDEX_GUEST_CR4:
    case FIELD_INDEX_HOST_CR4:
        return (struct allowed){caps->cr4_fixed0, caps->cr4_fixed1, "IA32_VMX_CR4_FIXED0 and _FIXED1"};
    default:
        return (struct allowed){0, ~0ull, NULL};
    }
}

/* NULL for a bit that has no name in the SDM: the number alone is printed. */
static const char *name_of(unsigned field, unsigned bit)
{
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
        if (names[i].field == field && names[i].bit == bit)
            return names[i].name;
    return NULL;
}

/* Appends the bits as a list, headed by `what`; returns the length of the text that was added, 0 for no bits. */
static size_t add_bits(char *text, size_t size, unsigned field, uint64_t bits, const char *what)
{
    size_t used = 0;

    for (unsigned bit = 0; bit < 64; bit++) {
        if (!(bits >> bit & 1))
            continue;
        const char *name = name_of(field, bit);
        used += format_text(text + used, size - used, "%s%u%s%s%s", used ? ", " : what, bit, name ? " (" : "",
                            name ? name : "", name ? ")" : "");
    }
    return used;
}

/* `must` comes first in the text: an author whose control word lacks bits that must be 1 has as a rule forgotten the
 * capability MSR, and then the rest of the line does not matter yet. */
void wrong_bits(char *text, size_t size, unsigned field, uint64_t value, const struct vmx_caps *caps)
{
    struct allowed allowed = allowed_of(field, caps);
    size_t used = 0;

    text[0] = 0;
    if (!(allowed.must & ~value) && !(value & ~allowed.may))
        return;
    used += add_bits(text, size, field, allowed.must & ~value, ", bits that must be 1: ");
    used += add_bits(text + used, size - used, field, value & ~allowed.may, ", bits that must be 0: ");
    (void)format_text(text + used, size - used, " by %s", allowed.msrs);
}
