/* An entry that passed needs no second look at rules whose fields did not change. The column `judged` of
 * vmx/vmcs_fields.def names for each field the tables that read it; the dirty rows of a slot together give the
 * tables that the next entry has to judge. A table too many costs time, one too few lets a wrong entry through: so
 * tests/host/test_check_scope.c changes each field and compares with the verdict of all tables. */
#include "nested/rules/check_scope.h"

#include "kernel/x86_bits.h"

/* The tables, in the order of check_order (nested/rules/check.c), and the sets that vmcs_fields.def names. */
enum {
    NOTHING = 0,
    EXECUTION = 1 << 0,
    TPR = 1 << 1,
    EXIT = 1 << 2,
    ENTRY = 1 << 3,
    HOST = 7 << 4,
    REGISTERS = 1 << 7,
    SEGMENTS = 1 << 8,
    TABLES = 1 << 9,
    RIP = 1 << 10,
    SSP = 1 << 11,
    STATE = 1 << 12,
    PDPTES = 1 << 13,
    SEGMENT_USE = SEGMENTS | RIP | STATE,                       /* what depends on selectors and access rights */
    MODE = ENTRY | REGISTERS | SEGMENTS | RIP | STATE | PDPTES, /* what depends on the guest's operating mode */
    EVERYTHING = CHECK_SCOPE_ALL,
};

/* The column `judged` of each row. */
static const check_scope_t scopes[FIELD_COUNT] = {
#define FIELD(name, enc, width, area, sync, merge, need, judged, view) judged,
#include "vmx/vmcs_fields.def"
#undef FIELD
};

check_scope_t check_scope_of(unsigned row)
{
    return row < FIELD_COUNT ? scopes[row] : CHECK_SCOPE_ALL;
}

check_scope_t check_scope_lazy(void)
{
    return TPR | REGISTERS | SEGMENTS | TABLES | SSP | PDPTES;
}

/* L1 can change its memory without an exit, so nothing tells that these verdicts are old. */
check_scope_t check_scope_of_memory(const struct vmcs12 *v)
{
    check_scope_t scope = v->VMCS_LINK_POINTER == UINT64_MAX ? 0 : STATE;
    return vmcs12_uses_pae(v) && !(vmcs12_proc2(v) & PROC2_EPT) ? scope | PDPTES : scope;
}
