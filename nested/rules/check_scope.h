/* Which tables of checks a VMCS field matters to: an entry needs to be judged only by those whose fields L1 wrote since
 * the last entry that passed.
 * Pure. tests/host/test_check_scope.c holds the map against the rules themselves.
 * nested/enter gathers the scopes of the dirty rows. */
#ifndef NESTED_RULES_CHECK_SCOPE_H
#define NESTED_RULES_CHECK_SCOPE_H

#include "nested/rules/check.h"

/* One bit per table, in the order of check_order. */
typedef uint32_t check_scope_t;
#define CHECK_SCOPE_ALL (~(check_scope_t)0)

/* Of a row of vmcs_fields.def; 0 for fields that no rule names. */
check_scope_t check_scope_of(unsigned row);
/* The tables whose rules read fields that are LAZY in vmcs_fields.def. */
check_scope_t check_scope_lazy(void);
/* The tables that must be judged although L1 wrote no field: rules that look into L1's memory, which may have changed,
 * and whose verdict the CPU will not repeat on vmcs02. */
check_scope_t check_scope_of_memory(const struct vmcs12 *v);
/* check_entry() with the tables in `scope` only. */
struct check_result check_entry_scoped(const struct vmcs12 *v, const struct check_context *context,
                                       check_scope_t scope);

#endif
