/* The engine behind the tables. A row names a field, a condition and a predicate; the engine skips the rows whose
 * condition does not hold and stops at the first predicate that fails. So the order of rows is the order in which a
 * CPU reports, as far as the SDM fixes one: controls and host state before guest state (27.2 before 27.3), and
 * inside a table an address before what is read from it. SDM 3C 27.2 "Checks on VMX Controls and Host-State Area" */
#include "nested/rules/check.h"

#include "kernel/msr.h"
#include "kernel/x86_bits.h"
#include "nested/rules/check_rows.h"
#include "nested/rules/check_scope.h"

/* L2's mode, as far as it decides which rows count, in bits: a row names those that it needs in `when`. */
static uint64_t guest_mode(const struct vmcs12 *v, uint32_t proc2)
{
    uint64_t mode = v->GUEST_RFLAGS & RFLAGS_VM ? MODE_V8086 : MODE_NOT_V8086;

    if (!(proc2 & PROC2_UNRESTRICTED))
        mode |= MODE_RESTRICTED;
    if (vmcs12_uses_pae(v))
        mode |= proc2 & PROC2_EPT ? MODE_PAE : MODE_PAE_IN_MEMORY;
    if (v->VMCS_LINK_POINTER != UINT64_MAX)
        mode |= MODE_LINKED;
    if (v->GUEST_INTERRUPTIBILITY & (BLOCKING_BY_STI | BLOCKING_BY_MOV_SS) || v->GUEST_ACTIVITY_STATE == ACTIVITY_HLT)
        mode |= MODE_BS_MATTERS;
    return mode;
}

/* A row is judged only if all bits of its condition are set in the word that it names; 0 is always so. */
static bool row_fails(struct check *c, const struct check_row *row)
{
    if ((c->word[row->word] & row->when) != row->when)
        return false;
    c->value = c->v->field[row->field];
    c->segment = row->segment;
    return !row->holds(c);
}

/* Controls, host, guest; the numbers of nested/rules/check_scope.c are places in this list. */
const struct check_table *const check_order[CHECK_TABLES] = {
    &check_execution_controls, &check_tpr_threshold, &check_exit_controls, &check_entry_controls,
    &check_host_registers,     &check_host_segments, &check_host_space,    &check_guest_registers,
    &check_guest_segments,     &check_guest_tables,  &check_guest_rip,     &check_guest_ssp,
    &check_guest_state,        &check_guest_pdptes,
};

/* Gathers the words that conditions look at, with features of features already resolved: secondary controls that are
 * not activated count as 0, and so does an event that is not valid. */
static struct check make_check(const struct vmcs12 *v, const struct check_context *context)
{
    uint32_t proc2 = vmcs12_proc2(v);

    return (struct check){
        .v = v,
        .caps = context->caps,
        .context = context,
        .word = {[CHECK_PIN] = v->PIN_CONTROLS,
                 [CHECK_PROC] = v->PROC_CONTROLS,
                 [CHECK_PROC2] = proc2,
                 [CHECK_EXIT] = v->EXIT_CONTROLS,
                 [CHECK_ENTRY] = v->ENTRY_CONTROLS,
                 [CHECK_EVENT] = v->ENTRY_INTERRUPTION_INFO & INTR_VALID ? v->ENTRY_INTERRUPTION_INFO : 0,
                 [CHECK_MODE] = guest_mode(v, proc2)},
    };
}

/* The table's first row that fails, or NULL. */
static const struct check_row *table_fails(struct check *c, const struct check_table *table)
{
    const struct check_row *end = table->rows + table->count;

    for (const struct check_row *row = table->rows; row < end; row++)
        if (row_fails(c, row))
            return row;
    return NULL;
}

/* The row's number among those of all tables. */
static unsigned rule_number(const struct check_row *row, unsigned table)
{
    unsigned number = (unsigned)(row - check_order[table]->rows);

    while (table--)
        number += check_order[table]->count;
    return number;
}

struct check_result check_entry(const struct vmcs12 *v, const struct check_context *context)
{
    return check_entry_scoped(v, context, CHECK_SCOPE_ALL);
}

/* Most entries write few fields since the last one that passed, so few tables can have changed their mind. The caller
 * names them; nested/rules/check_scope.h says how they follow from the fields. */
struct check_result check_entry_scoped(const struct vmcs12 *v, const struct check_context *context, check_scope_t scope)
{
    struct check c = make_check(v, context);

    for (unsigned t = 0; t < CHECK_TABLES; t++) {
        const struct check_row *row = scope & BIT(t) ? table_fails(&c, check_order[t]) : NULL;

        if (row)
            return (struct check_result){.kind = check_order[t]->kind,
                                         .number = (uint16_t)rule_number(row, t),
                                         .field = row->field,
                                         .rule = row->rule,
                                         .citation = check_order[t]->citation,
                                         .value = c.value,
                                         .qualification = row->qualification};
    }
    return (struct check_result){.kind = CHECK_OK};
}
