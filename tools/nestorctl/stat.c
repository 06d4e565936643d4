/* stat and top: one table of what Nestor counts, as totals or as rates between two samples. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "tools/nestorctl/commands.h"
#include "tools/nestorctl/window.h"

static int parse(int argc, char **argv, struct loop *arguments)
{
    int letter;

    optind = 1;
    while ((letter = getopt(argc, argv, "i:n:c:")) != -1) {
        char *end = NULL;
        if (letter == 'i')
            arguments->interval = strtod(optarg, &end);
        else if (letter == 'n')
            arguments->times = strtol(optarg, &end, 10);
        else if (letter == 'c')
            arguments->cpu = (int)strtol(optarg, &end, 10);
        if (!end || *end || end == optarg)
            return STATUS_USAGE;
    }
    return optind != argc || arguments->interval <= 0 || arguments->times < 0 ? STATUS_USAGE : STATUS_OK;
}

struct row {
    const char *name;
    uint64_t total[2];
    double rate[2];
};

static int busiest_first(const void *a, const void *b)
{
    const struct row *left = a, *right = b;
    double x = left->rate[0] + left->rate[1], y = right->rate[0] + right->rate[1];
    if (x != y)
        return x < y ? 1 : -1;
    uint64_t v = left->total[0] + left->total[1], w = right->total[0] + right->total[1];
    return v < w ? 1 : v > w ? -1 : 0;
}

static double rate(uint64_t before, uint64_t after, double seconds)
{
    return seconds > 0 ? (double)(after - before) / seconds : 0;
}

/* The exits that there were, busiest first. Their number. */
static unsigned exit_rows(const struct inspect_header *header, const struct sample *old, const struct sample *new,
                          struct row *rows)
{
    double seconds = new->seconds - old->seconds;
    unsigned count = 0;

    for (uint32_t reason = 0; reason < header->reasons; reason++) {
        struct row row = {.name = sample_reason_name(reason)};
        for (unsigned level = 0; level < 2; level++) {
            row.total[level] = new->exits[level][reason];
            row.rate[level] = rate(old->exits[level][reason], new->exits[level][reason], seconds);
        }
        if (row.total[0] || row.total[1])
            rows[count++] = row;
    }
    qsort(rows, count, sizeof *rows, busiest_first);
    return count;
}

static unsigned counter_rows(const struct inspect_header *header, const struct sample *old, const struct sample *new,
                             struct row *rows)
{
    unsigned count = 0;

    for (uint32_t i = 1; i < header->counters; i++)
        if (new->counter[i])
            rows[count++] = (struct row){.name = sample_counter_name(i),
                                         .total = {new->counter[i]},
                                         .rate = {rate(old->counter[i], new->counter[i], new->seconds - old->seconds)}};
    return count;
}

/* At most `lines` lines, the counters in the last third of them. */
static void print_table(const struct inspect_header *header, const struct sample *old, const struct sample *new,
                        bool rates, int lines)
{
    struct row *rows = calloc(header->reasons + header->counters, sizeof *rows);
    if (!rows)
        exit(STATUS_FAILED);
    unsigned exits = exit_rows(header, old, new, rows), counters;
    int room = lines - 3;
    printf("%-34s %10s %10s", "exits by reason", "L1", "L2");
    printf(rates ? " %10s %10s\n" : "\n", "L1/s", "L2/s");
    for (unsigned i = 0; i < exits && room > lines / 3; i++, room--) {
        printf("%-34.34s %10lu %10lu", rows[i].name, rows[i].total[0], rows[i].total[1]);
        if (rates)
            printf(" %10.0f %10.0f", rows[i].rate[0], rows[i].rate[1]);
        putchar('\n');
    }
    counters = counter_rows(header, old, new, rows);
    printf("\n%-56.56s %10s%s\n", "counters", "total", rates ? "   a second" : "");
    for (unsigned i = 0; i < counters && room > 0; i++, room--) {
        printf("%-56.56s %10lu", rows[i].name, rows[i].total[0]);
        if (rates)
            printf(" %10.0f", rows[i].rate[0]);
        putchar('\n');
    }
    free(rows);
    fflush(stdout);
}

#define ALL_LINES 10000

int loop_start(int argc, char **argv, const char *usage, struct loop *arguments, struct inspect_header *header)
{
    if (parse(argc, argv, arguments)) {
        fprintf(stderr, "nestorctl: %s\n", usage);
        return STATUS_USAGE;
    }
    if (window_open(header))
        return STATUS_FAILED;
    if (arguments->cpu >= (int)header->cpus) {
        fprintf(stderr, "nestorctl: Nestor has %u processors: -c takes 0 to %u\n", header->cpus, header->cpus - 1);
        return STATUS_USAGE;
    }
    return STATUS_OK;
}

static void exchange(struct sample *a, struct sample *b)
{
    struct sample kept = *a;
    *a = *b;
    *b = kept;
}

int command_stat(int argc, char **argv)
{
    struct loop arguments = {.interval = 1, .times = 0, .cpu = -1};
    struct inspect_header header;
    int status = loop_start(argc, argv, "stat [-i SECONDS] [-n TIMES] [-c CPU]", &arguments, &header);

    if (status)
        return status;
    struct sample old = sample_new(&header), new = sample_new(&header);
    sample_take(&header, arguments.cpu, &new);
    print_table(&header, &new, &new, false, ALL_LINES);
    for (long i = 1; i < arguments.times; i++) {
        exchange(&old, &new);
        usleep((useconds_t)(arguments.interval * 1e6));
        sample_take(&header, arguments.cpu, &new);
        putchar('\n');
        print_table(&header, &old, &new, true, ALL_LINES);
    }
    return STATUS_OK;
}

int command_top(int argc, char **argv)
{
    struct loop arguments = {.interval = 1, .times = 0, .cpu = -1};
    struct inspect_header header;
    int status = loop_start(argc, argv, "top [-i SECONDS] [-n TIMES] [-c CPU]", &arguments, &header);

    if (status)
        return status;
    struct sample old = sample_new(&header), new = sample_new(&header);
    sample_take(&header, arguments.cpu, &new);
    for (long i = 0; !arguments.times || i < arguments.times; i++) {
        struct winsize size = {.ws_row = 24};
        ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
        exchange(&old, &new);
        usleep((useconds_t)(arguments.interval * 1e6));
        sample_take(&header, arguments.cpu, &new);
        printf("\033[H\033[2J");
        print_table(&header, &old, &new, true, size.ws_row ? size.ws_row : 24);
    }
    return STATUS_OK;
}
