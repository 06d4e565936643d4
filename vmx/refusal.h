/* Says in Nestor's log why an instruction of a guest was refused: each kind once in a run for each instruction and
 * level, as a guest may do it for ever. What an entry's checks find is said by nested/entry_log.
 * vmx/ and nested/ call it where they inject the fault or set the flags. */
#ifndef VMX_REFUSAL_H
#define VMX_REFUSAL_H

#include "vmx/msr_bitmap.h"
#include "vmx/vcpu.h"

enum refusal {
#define REFUSAL(name, outcome, text, citation) REFUSAL_##name,
#include "vmx/refusals.def"
#undef REFUSAL
    REFUSAL_COUNT,
    REFUSAL_NONE = REFUSAL_COUNT
};

/* `a` and `b` stand in the row's text. Current: the VMCS whose last exit is the instruction. */
void refusal_log(const struct vcpu *vcpu, enum refusal refusal, uint64_t a, uint64_t b);
/* The #GP(0) of an access to an MSR, with the reason why L0 keeps it: once for each row of vmx/msr_policy.def,
 * and for MSRs of no row for each of 64 groups of them. */
void refusal_log_msr(const struct vcpu *vcpu, uint32_t msr, enum msr_access access, uint64_t value);

#endif
