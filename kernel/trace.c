#include "kernel/trace.h"

#include "kernel/log.h"
#include "kernel/percpu.h"
#include "kernel/x86.h"

static const struct {
    const char *name, *meaning;
} types[] = {
#define TRACE(name, text) {#name, text},
    TRACE_TYPES(TRACE)
#undef TRACE
};

void trace_dump(unsigned count)
{
    struct cpu *cpu = percpu_count ? this_cpu() : NULL;

    if (!cpu)
        return;
    uint64_t kept = MIN(cpu->trace.written, TRACE_RECORDS);
    for (uint64_t i = cpu->trace.written - MIN(kept, count); i < cpu->trace.written; i++) {
        const struct trace_record *record = &cpu->trace.record[i % TRACE_RECORDS];
        uint64_t type = GET(record->type_a, TRACE_RECORD_TYPE), a = GET(record->type_a, TRACE_RECORD_A);
        if (type < TRACE_TYPE_COUNT)
            log_raw("nestor: trace: %-12s %#lx %#lx (%s)", types[type].name, a, record->b, types[type].meaning);
    }
}

static void write_timed(struct timed_ring *ring, uint64_t tsc, struct trace_record what)
{
    ring->record[ring->written % ring->records] = (struct timed_record){tsc, what};
    __atomic_store_n(&ring->written, ring->written + 1, __ATOMIC_RELEASE); /* nestorctl may read it now */
}

void trace_copy(struct cpu *cpu)
{
    const struct trace_ring *from = &cpu->trace;
    struct timed_ring *to = &cpu->timed;

    if (from->written - to->copied > TRACE_RECORDS)
        to->copied = from->written - TRACE_RECORDS;
    for (; to->copied < from->written; to->copied++)
        write_timed(to, to->exit_tsc, from->record[to->copied % TRACE_RECORDS]);
}

void trace_entry(bool l2)
{
    struct cpu *cpu = this_cpu();

    trace_copy(cpu);
    write_timed(&cpu->timed, rdtsc(), (struct trace_record){(uint64_t)(l2 ? TRACE_ENTER_L2 : TRACE_ENTER_L1) << 32, 0});
}
