/* stat and top: one table of what Nestor counts, as totals or as rates between two samples. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "kernel/counters.h"
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
static void print_table(FILE *out, const struct inspect_header *header, const struct sample *old,
                        const struct sample *new, bool rates, int lines)
{
    struct row *rows = calloc(header->reasons + header->counters, sizeof *rows);
    if (!rows)
        exit(STATUS_FAILED);
    unsigned exits = exit_rows(header, old, new, rows), counters;
    int room = lines - 3;
    fprintf(out, "%-35s %10s %10s", "exits by reason", "L1", "L2");
    fprintf(out, rates ? " %10s %10s\n" : "\n", "L1/s", "L2/s");
    for (unsigned i = 0; i < exits && room > lines / 3; i++, room--) {
        fprintf(out, "%-35.34s %10lu %10lu", rows[i].name, rows[i].total[0], rows[i].total[1]);
        if (rates)
            fprintf(out, " %10.0f %10.0f", rows[i].rate[0], rows[i].rate[1]);
        fputc('\n', out);
    }
    counters = counter_rows(header, old, new, rows);
    fprintf(out, "\n%-57.57s %10s%s\n", "counters", "total", rates ? "   a second" : "");
    for (unsigned i = 0; i < counters && room > 0; i++, room--) {
        fprintf(out, "%-57.57s %10lu", rows[i].name, rows[i].total[0]);
        if (rates)
            fprintf(out, " %10.0f", rows[i].rate[0]);
        fputc('\n', out);
    }
    free(rows);
    fflush(out);
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
    print_table(stdout, &header, &new, &new, false, ALL_LINES);
    for (long i = 1; i < arguments.times; i++) {
        exchange(&old, &new);
        usleep((useconds_t)(arguments.interval * 1e6));
        sample_take(&header, arguments.cpu, &new);
        putchar('\n');
        print_table(stdout, &header, &old, &new, true, ALL_LINES);
    }
    return STATUS_OK;
}

/* Where each level had its time since `old`; only records with the time tell. */
static void print_shares(FILE *out, const struct inspect_header *header, const struct sample *old,
                         const struct sample *new)
{
    double ticks[3], all = 0;

    for (unsigned level = 0; level < 3 && COUNT_TICKS_L2 < header->counters; level++)
        all += ticks[level] = (double)(new->counter[COUNT_TICKS_L0 + level] - old->counter[COUNT_TICKS_L0 + level]);
    if (all > 0)
        fprintf(out, "time: L0 %.1f %%, L1 %.1f %%, L2 %.1f %%\n", 100 * ticks[0] / all, 100 * ticks[1] / all,
                100 * ticks[2] / all);
    else
        fprintf(out, "time: Nestor's option trace= tells the shares of the levels\n");
}

/* Over what the screen has, line by line: it is never empty. The last line has no end, which would scroll. */
static void show_screen(char *text, const struct winsize *size)
{
    printf("\033[H");
    for (int row = 0; *text && row < size->ws_row; row++) {
        const char *line = strsep(&text, "\n");
        printf("%s%.*s\033[K", row ? "\r\n" : "", size->ws_col, line);
    }
    printf("\033[J");
    fflush(stdout);
}

static void draw(const struct inspect_header *header, const struct sample *old, const struct sample *new)
{
    struct winsize size = {0};
    char *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);

    if (!out)
        exit(STATUS_FAILED);
    ioctl(STDOUT_FILENO, TIOCGWINSZ, &size); /* a serial line has no size */
    if (!size.ws_row || !size.ws_col)
        size = (struct winsize){.ws_row = 24, .ws_col = 80};
    print_shares(out, header, old, new);
    print_table(out, header, old, new, true, size.ws_row - 1);
    if (fclose(out))
        exit(STATUS_FAILED);
    show_screen(text, &size);
    free(text);
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
    printf("\033[2J");
    for (long i = 0; !arguments.times || i < arguments.times; i++) {
        exchange(&old, &new);
        usleep((useconds_t)(arguments.interval * 1e6));
        sample_take(&header, arguments.cpu, &new);
        draw(&header, &old, &new);
    }
    putchar('\n');
    return STATUS_OK;
}
