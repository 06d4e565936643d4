#include "kernel/trace.h"

#include "kernel/log.h"
#include "kernel/percpu.h"

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
