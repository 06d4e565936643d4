/* The records of the option trace=, read live or from the file that nestor-run made of a run's end.
 * capture_live() needs window_open(). */
#ifndef NESTORCTL_CAPTURE_H
#define NESTORCTL_CAPTURE_H

#include <stdint.h>
#include <stdio.h>

#include "kernel/inspect_abi.h"

struct capture_cpu {
    uint64_t lost; /* records that were overwritten before */
    uint64_t count;
    struct inspect_record *record; /* oldest first */
};

/* Where the time-stamp counter stood at a time of CLOCK_BOOTTIME, and how fast it counts. */
struct capture_clock {
    uint64_t tsc, ns;
    double ns_per_tick;
};

struct capture {
    uint32_t cpus;
    struct capture_cpu *cpu;
    struct capture_clock clock;
};

/* Both return 0, or -1 after a line that says why. */
int capture_live(const struct inspect_header *header, struct capture *capture);
/* The file: struct inspect_header, then for each processor its records ever and those of its ring that were written.
 * `tsc_khz`: of the machine that ran. */
int capture_file(FILE *file, uint64_t tsc_khz, struct capture *capture);
uint64_t capture_ns(const struct capture *capture, uint64_t tsc);
const char *capture_type_name(uint32_t type);

/* Writers; 0, or -1 when the file could not be written. */
int perfetto_write(const struct capture *capture, FILE *file);
int chrome_write(const struct capture *capture, FILE *file);
int timeline_write(const struct capture *capture, FILE *file); /* an HTML page */

/* The output of all, in order of time for each processor: a level's slice begins or ends, or something happened. */
enum story_kind { STORY_BEGIN, STORY_END, STORY_INSTANT };
struct story_event {
    enum story_kind kind;
    uint32_t cpu, level; /* 0, 1, 2: L0, L1, L2 */
    uint64_t ns;
    const char *name;      /* of STORY_BEGIN and STORY_INSTANT */
    const char *detail[2]; /* names of the values, NULL: none */
    uint64_t value[2];
};
void story_tell(const struct capture *capture, void (*hear)(void *context, const struct story_event *event),
                void *context);

#endif
