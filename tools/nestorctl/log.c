#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/nestorctl/commands.h"
#include "tools/nestorctl/window.h"

#define POLL_US 200000

/* The text that is in the ring now. Text that Nestor overwrote while it was read is cut off at the front. */
static uint64_t read_ring(const struct inspect_header *header, enum inspect_area area, char *ring, uint64_t *first)
{
    uint32_t size = header->log_bytes;
    uint64_t before = window_read64(INSPECT_OFFSET(area, 0));
    window_read(INSPECT_OFFSET(area, sizeof(struct inspect_log_position)), ring, size);
    uint64_t after = window_read64(INSPECT_OFFSET(area, 0));
    *first = after > size ? after - size : 0;
    return before;
}

/* The bytes from `from` to `end`; from the first whole line on when some are lost. */
static void print(const struct inspect_header *header, const char *ring, uint64_t from, uint64_t end, bool lost)
{
    for (uint64_t at = from; at < end; at++) {
        char c = ring[at % header->log_bytes];
        if (!lost)
            putchar(c);
        else
            lost = c != '\n';
    }
    fflush(stdout);
}

static int show_previous(const struct inspect_header *header, char *ring)
{
    uint64_t written = window_read64(INSPECT_OFFSET(INSPECT_PREVIOUS, 0)), first;

    if (!written || written == ~0ull) {
        fprintf(stderr,
                "nestorctl: no log of a run before this one was in memory when Nestor started: it is after a reset "
                "without power-off, if neither the firmware nor another system has used its place\n");
        return STATUS_FAILED;
    }
    uint64_t end = read_ring(header, INSPECT_PREVIOUS, ring, &first);
    print(header, ring, first, end, first > 0);
    return STATUS_OK;
}

static int show(const struct inspect_header *header, char *ring, bool follow)
{
    uint64_t next = 0;

    do {
        uint64_t written = window_read64(INSPECT_OFFSET(INSPECT_LOG, 0)), first;
        if (written == next) {
            usleep(POLL_US);
            continue;
        }
        uint64_t end = read_ring(header, INSPECT_LOG, ring, &first);
        print(header, ring, first > next ? first : next, end, first > next);
        next = end;
    } while (follow && !ferror(stdout));
    return STATUS_OK;
}

int command_log(int argc, char **argv)
{
    bool follow = argc == 2 && !strcmp(argv[1], "-f"), previous = argc == 2 && !strcmp(argv[1], "--previous");
    struct inspect_header header;

    if (argc > 1 && !follow && !previous) {
        fprintf(stderr, "nestorctl: log [-f | --previous]\n");
        return STATUS_USAGE;
    }
    if (window_open(&header))
        return STATUS_FAILED;
    char *ring = malloc(header.log_bytes);
    if (!ring)
        return STATUS_FAILED;
    int status = previous ? show_previous(&header, ring) : show(&header, ring, follow);
    free(ring);
    return status;
}
