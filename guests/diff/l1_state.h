/* L1's own registers, which VM exits and MSR lists of an operation change: what they were, are, and back again.
 * l1_state_init() once, in VMX operation. */
#ifndef GUESTS_DIFF_L1_STATE_H
#define GUESTS_DIFF_L1_STATE_H

#include "kernel/base.h"

struct l1_state {
    uint64_t cr0, cr3, cr4, efer;
};
/* As they are at rest. */
extern struct l1_state l1_state;

void l1_state_init(void);
/* Adds to the transcript what an exit loads. */
void l1_state_report(void);
void l1_state_restore(void);
/* MSRs that no one minds: lists and L2 may change them. */
uint32_t l1_state_msr_pick(void);

#endif
