/* Says in Nestor's log why an access of L2 ended at EPT12: the entry with its level, where it lies and what is wrong
 * with it. A misconfiguration is said once for each cause, a violation once for each kind of access and what the
 * entries allow.
 * nested/l2_ept calls it, before the exit goes to L1. */
#ifndef NESTED_EPT_LOG_H
#define NESTED_EPT_LOG_H

#include "nested/ept02/ept12_walk.h"
#include "vmx/vcpu.h"

/* Each is called for every such exit, and is cheap when there is nothing new. `qualification`: what L1 will read. */
extern uint64_t ept_log_violations; /* kinds that were said, as bits */
void ept_log_violation_any(const struct vcpu *vcpu, gpa_t gpa2, uint64_t qualification);
static inline bool ept_log_has_said(uint64_t qualification)
{
    return ept_log_violations & BIT(qualification & BITS(5, 0));
}
static inline void ept_log_violation(const struct vcpu *vcpu, gpa_t gpa2, uint64_t qualification)
{
    if (__builtin_expect(!ept_log_has_said(qualification), 0))
        ept_log_violation_any(vcpu, gpa2, qualification);
}
/* `table`, `level`, `entry`: where the walk ended. KVM marks what it emulates by W without R: that has a short way. */
extern uint64_t ept_log_misconfigs; /* causes that were said, as bits; bit 0: W without R */
void ept_log_misconfig_any(const struct vcpu *vcpu, gpa_t gpa2, gpa_t table, unsigned level, uint64_t entry);
static inline void ept_log_misconfig(const struct vcpu *vcpu, gpa_t gpa2, gpa_t table, unsigned level, uint64_t entry)
{
    if (!(ept_log_misconfigs & 1) || (entry & BITS(1, 0)) != BIT(1))
        ept_log_misconfig_any(vcpu, gpa2, table, level, entry);
}

#endif
