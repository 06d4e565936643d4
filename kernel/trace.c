#include "kernel/trace.h"

#include "kernel/cmdline.h"
#include "kernel/format.h"
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

void (*trace_describe)(char *text, size_t size, enum trace_type type, uint32_t a, uint64_t b);

#define TEXT_SIZE 128

/* One record as a line: of the log's level dbg, or of whatever is printed now. */
static void print_record(const struct trace_record *record, bool dbg)
{
    uint64_t type = GET(record->type_a, TRACE_RECORD_TYPE), a = GET(record->type_a, TRACE_RECORD_A);
    char text[TEXT_SIZE];

    if (type >= TRACE_TYPE_COUNT)
        return;
    if (trace_describe)
        trace_describe(text, sizeof text, (enum trace_type)type, (uint32_t)a, record->b);
    else
        format_text(text, sizeof text, "%s %#lx %#lx (%s)", types[type].name, a, record->b, types[type].meaning);
    if (dbg)
        log_dbg("exit", "%s", text);
    else
        log_raw("nestor: trace: %s", text);
}

void trace_dump(unsigned count)
{
    struct cpu *cpu = percpu_count ? this_cpu() : NULL;

    if (!cpu)
        return;
    uint64_t kept = MIN(cpu->trace.written, TRACE_RECORDS);
    for (uint64_t i = cpu->trace.written - MIN(kept, count); i < cpu->trace.written; i++)
        print_record(&cpu->trace.record[i % TRACE_RECORDS], false);
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
    for (; to->copied < from->written; to->copied++) {
        write_timed(to, to->exit_tsc, from->record[to->copied % TRACE_RECORDS]);
        if (options.log == LOG_DBG)
            print_record(&from->record[to->copied % TRACE_RECORDS], true);
    }
}

static void count_ticks(struct timed_ring *ring, bool l2, uint64_t now)
{
    if (ring->entered_tsc) {
        count_add(ring->entered_l2 ? COUNT_TICKS_L2 : COUNT_TICKS_L1, ring->exit_tsc - ring->entered_tsc);
        count_add(COUNT_TICKS_L0, now - ring->exit_tsc);
    }
    ring->entered_tsc = now;
    ring->entered_l2 = l2;
}

void trace_entry(bool l2)
{
    struct cpu *cpu = this_cpu();

    trace_copy(cpu);
    uint64_t now = rdtsc();
    struct trace_record entry = {(uint64_t)(l2 ? TRACE_ENTER_L2 : TRACE_ENTER_L1) << 32, 0};
    write_timed(&cpu->timed, now, entry);
    count_ticks(&cpu->timed, l2, now);
    if (options.log == LOG_DBG)
        print_record(&entry, true);
}
