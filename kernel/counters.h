/* Nestor's counters: one 64-bit word per row of counters.def and processor, added up when read.
 * Needs the per-CPU block.
 * Anyone may count; vmx/ shows them to L1 under `stats=PORT`, start/ prints them at the end. */
#ifndef KERNEL_COUNTERS_H
#define KERNEL_COUNTERS_H

#include "kernel/base.h"

enum counter {
    COUNTER_MAGIC,
#define COUNTER(name, text) COUNT_##name,
#include "kernel/counters.def"
#undef COUNTER
    COUNTER_COUNT
};

#define COUNTER_MAGIC_VALUE 0x4e535452u /* "NSTR" */

#endif
