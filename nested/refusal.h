/* Says in Nestor's log why a VMX instruction of L1 was refused: each kind once in a run for each instruction, as L1
 * may do it for ever. What an entry's checks find is said by nested/entry_log.
 * nested/insn*.c and nested/enter.c call it, where they inject the fault or set the flags. */
#ifndef NESTED_REFUSAL_H
#define NESTED_REFUSAL_H

#include "vmx/vcpu.h"

enum refusal {
#define REFUSAL(name, outcome, text, citation) REFUSAL_##name,
#include "nested/refusals.def"
#undef REFUSAL
    REFUSAL_COUNT
};

/* `a` and `b` stand in the row's text. Current: vmcs01, whose last exit is the instruction. */
void refusal_log(const struct vcpu *vcpu, enum refusal refusal, uint64_t a, uint64_t b);

#endif
