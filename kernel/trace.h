/* The last events on this processor: a binary ring, cheap enough for every exit, printed after a panic; and with the
 * option trace= a longer one whose records have the time.
 * Needs the per-CPU block. No lock: a ring belongs to its processor.
 * Anyone may trace: trace() is in kernel/percpu.h, which knows where the rings are. */
#ifndef KERNEL_TRACE_H
#define KERNEL_TRACE_H

#include "kernel/base.h"

/* TRACE(name, "a and b") */
#define TRACE_TYPES(TRACE)                                                                                             \
    TRACE(EXIT_L1, "reason, rip")                                                                                      \
    TRACE(EXIT_L2, "reason, rip")                                                                                      \
    TRACE(INJECT, "interruption information, error code")                                                              \
    TRACE(WATCH, "0: stored by L1, 1: by L2; gpa1")                                                                    \
    TRACE(ENTER_L1, "0, 0")                                                                                            \
    TRACE(ENTER_L2, "0, 0")                                                                                            \
    TRACE(MERGE, "0, gpa1 of the page of MSR bitmap")                                                                  \
    TRACE(KICK, "processor, generation")                                                                               \
    TRACE(STRAIGHT, "entries by the straight way since the last record, exits by it")

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

/* The ring of the option trace=: each record has the time-stamp counter before it. */
struct timed_record {
    uint64_t tsc;
    struct trace_record what;
};

struct timed_ring {
    uint64_t exit_tsc;    /* at the last exit */
    uint64_t entered_tsc; /* at the last entry; 0: there was none */
    bool entered_l2;
    uint64_t copied;  /* records of the other ring that are in this one */
    uint64_t written; /* records ever; the next one goes to written % records */
    uint64_t records; /* a power of two; 0: the option is off, and record is NULL */
    struct timed_record *record;
};

/* A record in words, for people; vmx/trace_words fills the slot. NULL: it is printed as numbers. With log=dbg each
 * record goes to the log before the next entry, too. */
extern void (*trace_describe)(char *text, size_t size, enum trace_type type, uint32_t a, uint64_t b);

struct cpu;
/* With the option trace=: what the processor's ring has got since the last call comes into its timed ring, with the
 * time of its last exit. */
void trace_copy(struct cpu *cpu);
/* The same on this processor before an entry, and then the record that the guest is entered, L2 or L1, with the time
 * now; the ticks since the entry before are counted for the levels that had them. */
void trace_entry(bool l2);
/* Prints the last `count` records of this processor, oldest first. */
void trace_dump(unsigned count);

#endif
