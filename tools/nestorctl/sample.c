#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tools/nestorctl/commands.h"
#include "tools/nestorctl/window.h"

static const char *const counter_names[] = {
    "magic number",
#define COUNTER(name, text) text,
#include "kernel/counters.def"
#undef COUNTER
};

static const char *const reason_names[] = {
#define REASON(name, number, printable, ...) [number] = (printable),
#include "vmx/exit_reasons.def"
#undef REASON
};

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

const char *sample_counter_name(uint32_t index)
{
    return index < COUNT_OF(counter_names) ? counter_names[index] : "?";
}

const char *sample_reason_name(uint32_t reason)
{
    return reason < COUNT_OF(reason_names) && reason_names[reason] ? reason_names[reason] : "?";
}

static uint64_t *array_of(uint32_t count)
{
    uint64_t *array = calloc(count, sizeof *array);
    if (!array) {
        fprintf(stderr, "nestorctl: no memory\n");
        exit(STATUS_FAILED);
    }
    return array;
}

struct sample sample_new(const struct inspect_header *header)
{
    return (struct sample){.counter = array_of(header->counters),
                           .exits = {array_of(header->reasons), array_of(header->reasons)}};
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void add(uint64_t *to, const uint64_t *from, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        to[i] += from[i];
}

void sample_take(const struct inspect_header *header, int cpu, struct sample *sample)
{
    uint32_t counters = header->counters, reasons = header->reasons;
    uint64_t *words = array_of(counters + 2 * reasons);

    memset(sample->counter, 0, counters * sizeof(uint64_t));
    for (unsigned level = 0; level < 2; level++)
        memset(sample->exits[level], 0, reasons * sizeof(uint64_t));
    for (uint32_t i = 0; i < header->cpus; i++) {
        if (cpu >= 0 && i != (uint32_t)cpu)
            continue;
        window_read(INSPECT_OFFSET(INSPECT_COUNTERS, i * header->counters_stride), words, (counters + 2 * reasons) * 8);
        add(sample->counter, words, counters);
        add(sample->exits[0], words + counters, reasons);
        add(sample->exits[1], words + counters + reasons, reasons);
    }
    sample->seconds = now();
    free(words);
}
