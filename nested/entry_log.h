/* Says in Nestor's log why an entry of L1's failed: which rule, and what value broke it. Each rule is named once in a
 * run, at its first failure: L1 may fail entries for ever.
 * nested/enter calls it. */
#ifndef NESTED_ENTRY_LOG_H
#define NESTED_ENTRY_LOG_H

#include "nested/msr_area.h"
#include "nested/rules/check.h"

/* VMfail 7 or 8, or exit 33, of the vmcs12 at `vmptr`; `caps`: what L1 is offered. False: it was said
 * before. */
bool entry_log_check(gpa_t vmptr, const struct check_result *result, const struct vmx_caps *caps);
/* Exit 34: an entry of the VM-entry MSR-load list. */
void entry_log_msr(gpa_t vmptr, const struct msr_refusal *refusal);
/* The CPU itself refused vmcs02: with an exit of this reason, or with a VM-instruction error. */
void entry_log_cpu_exit(uint32_t reason);
void entry_log_cpu_error(uint32_t error);
/* A list of MSRs failed where nothing but a VMX abort is left. */
void entry_log_abort(gpa_t vmptr, const struct msr_refusal *refusal);

#endif
