/* What happened last on this processor: a binary ring, cheap enough for every exit, printed after a panic.
 * Needs the per-CPU block. No lock: a ring belongs to its processor.
 * Anyone may trace: trace() is in kernel/percpu.h, which knows where the ring is. */
#ifndef KERNEL_TRACE_H
#define KERNEL_TRACE_H

#include "kernel/base.h"

/* TRACE(name, "a and b") */
#define TRACE_TYPES(TRACE)                                                                                             \
    TRACE(EXIT_L1, "reason, rip")                                                                                      \
    TRACE(EXIT_L2, "reason, rip")                                                                                      \
    TRACE(INJECT, "interruption information, error code")                                                              \
    TRACE(WATCH, "page, watchers")

enum trace_type {
#define TRACE(name, text) TRACE_##name,
    TRACE_TYPES(TRACE)
#undef TRACE
        TRACE_TYPE_COUNT
};

#define TRACE_RECORDS 256u /* a power of two */

struct trace_record {
    uint64_t type_a; /* TRACE_RECORD_TYPE, TRACE_RECORD_A */
    uint64_t b;
};
#define TRACE_RECORD_TYPE BITS(63, 32)
#define TRACE_RECORD_A BITS(31, 0)

struct trace_ring {
    uint64_t written; /* records ever; the next one goes to written % TRACE_RECORDS */
    struct trace_record record[TRACE_RECORDS];
};

/* Prints the last `count` records of this processor, oldest first. */
void trace_dump(unsigned count);

#endif
