/* Says in Nestor's log why an access of L2 ended at EPT12: the entry with its level, where it lies and what is wrong
 * with it. A misconfiguration is said once for each cause, a violation once for each kind of access and what the
 * entries allow.
 * nested/l2_ept calls it, before the exit goes to L1. */
#ifndef NESTED_EPT_LOG_H
#define NESTED_EPT_LOG_H

#include "nested/ept02/ept12_walk.h"
#include "vmx/vcpu.h"

/* Each is called for every such exit, and is cheap when there is nothing new. `qualification`: what L1 will read. */
void ept_log_violation(const struct vcpu *vcpu, gpa_t gpa2, uint64_t qualification);
void ept_log_misconfig(const struct vcpu *vcpu, gpa_t gpa2);

#endif
