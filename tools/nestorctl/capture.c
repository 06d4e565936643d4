#include "tools/nestorctl/capture.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <x86intrin.h>

#include "kernel/trace.h"
#include "tools/nestorctl/window.h"

#define CALIBRATE_NS 50000000
#define MAX_CPUS_READ 256u
#define AREA_BYTES (1ull << 28)

static const char *const type_names[] = {
#define TRACE(name, text) #name,
    TRACE_TYPES(TRACE)
#undef TRACE
};

const char *capture_type_name(uint32_t type)
{
    return type < TRACE_TYPE_COUNT ? type_names[type] : "?";
}

static uint64_t boot_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_BOOTTIME, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static struct capture_clock clock_now(void)
{
    uint64_t ns = boot_ns(), tsc = __rdtsc(), later;
    do
        later = boot_ns();
    while (later - ns < CALIBRATE_NS);
    uint64_t ticks = __rdtsc() - tsc;
    return (struct capture_clock){.tsc = tsc, .ns = ns, .ns_per_tick = (double)(later - ns) / (double)ticks};
}

uint64_t capture_ns(const struct capture *capture, uint64_t tsc)
{
    const struct capture_clock *clock = &capture->clock;
    return clock->ns + (uint64_t)(int64_t)((double)(int64_t)(tsc - clock->tsc) * clock->ns_per_tick);
}

/* The ring put into order: what was written between the two readings of the count may be torn, and is left out. */
static void keep(struct capture_cpu *cpu, const struct inspect_record *ring, uint64_t size, uint64_t before,
                 uint64_t after)
{
    uint64_t oldest = after > size ? after - size : 0;
    cpu->lost = oldest;
    for (uint64_t i = oldest; i < before; i++)
        cpu->record[cpu->count++] = ring[i % size];
}

static int no_records(void)
{
    fprintf(stderr, "nestorctl: Nestor keeps no records: start it with the option trace=65536\n");
    return -1;
}

static void *array_of(uint64_t count, size_t size)
{
    void *array = calloc(count, size);
    if (!array) {
        fprintf(stderr, "nestorctl: no memory\n");
        exit(1);
    }
    return array;
}

int capture_live(const struct inspect_header *header, struct capture *capture)
{
    uint64_t size = header->trace_records;

    if (!size)
        return no_records();
    struct inspect_record *ring = array_of(size, sizeof *ring);
    capture->cpu = array_of(header->cpus, sizeof *capture->cpu);
    capture->clock = clock_now();
    for (capture->cpus = 0; capture->cpus < header->cpus; capture->cpus++) {
        uint64_t at = (uint64_t)capture->cpus * header->trace_stride;
        if (at + header->trace_stride > AREA_BYTES) {
            fprintf(stderr,
                    "nestorctl: only the first %u processors: the others' records are beyond the port's reach\n",
                    capture->cpus);
            break;
        }
        struct capture_cpu *cpu = &capture->cpu[capture->cpus];
        cpu->record = array_of(size, sizeof *ring);
        uint64_t before = window_read64(INSPECT_OFFSET(INSPECT_TRACE, at));
        window_read(INSPECT_OFFSET(INSPECT_TRACE, at + 8), ring, size * sizeof *ring);
        keep(cpu, ring, size, before, window_read64(INSPECT_OFFSET(INSPECT_TRACE, at)));
    }
    free(ring);
    return 0;
}

static int bad_file(void)
{
    fprintf(stderr, "nestorctl: this is not a file of nestor-run --trace, or it is cut short\n");
    return -1;
}

int capture_file(FILE *file, uint64_t tsc_khz, struct capture *capture)
{
    struct inspect_header header;

    if (fread(&header, sizeof header, 1, file) != 1 || header.magic != INSPECT_MAGIC ||
        header.version != INSPECT_VERSION || header.cpus > MAX_CPUS_READ ||
        header.trace_records > AREA_BYTES / sizeof(struct inspect_record))
        return bad_file();
    if (!header.trace_records)
        return no_records();
    struct inspect_record *ring = array_of(header.trace_records, sizeof *ring);
    capture->cpu = array_of(header.cpus, sizeof *capture->cpu);
    capture->clock = (struct capture_clock){.ns_per_tick = 1e6 / (double)tsc_khz};
    for (capture->cpus = 0; capture->cpus < header.cpus; capture->cpus++) {
        struct capture_cpu *cpu = &capture->cpu[capture->cpus];
        uint64_t written;
        cpu->record = array_of(header.trace_records, sizeof *ring);
        if (fread(&written, sizeof written, 1, file) != 1)
            return bad_file();
        uint64_t used = written < header.trace_records ? written : header.trace_records;
        if (fread(ring, sizeof *ring, used, file) != used)
            return bad_file();
        keep(cpu, ring, header.trace_records, written, written);
    }
    free(ring);
    return 0;
}
