/* Nestor's counters, read through its debug facility (option stats=0xf8). Bare hardware has none.
 * Anyone may call, in L1. */
#ifndef GUESTS_LIB_COUNTERS_H
#define GUESTS_LIB_COUNTERS_H

#include "kernel/base.h"

enum counter {
    COUNTER_MAGIC, /* index 0: tells that there are counters at all */
#define COUNTER(name, description) COUNTER_##name,
#include "kernel/counters.def"
#undef COUNTER
    COUNTER_COUNT
};

/* Rows that a Nestor built with COUNT_VMX has behind them: the VMX instructions that it executes. */
enum {
    COUNTER_VMX_BEFORE = COUNTER_COUNT - 1,
#define COUNTER(name, description) COUNTER_##name,
#include "kernel/counters_vmx.def"
#undef COUNTER
    COUNTER_VMX_END
};

bool counters_present(void);
bool counters_vmx_present(void);
/* The low 32 bits of a counter. */
uint32_t counter_read(enum counter index);
const char *counter_description(enum counter index);

/* True if Nestor lets this guest change its MSR policy (option msr-policy=0xea0). */
bool policy_present(void);
/* Nestor keeps the accesses of the MSR that are true, and no longer others that it was told to keep. */
void policy_keep(uint32_t msr, bool read, bool write);

#endif
