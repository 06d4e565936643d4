#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/nestorctl/capture.h"
#include "tools/nestorctl/commands.h"
#include "tools/nestorctl/window.h"

struct arguments {
    const char *output, *from;
    bool json;
    uint64_t tsc_khz;
};

static int parse(int argc, char **argv, struct arguments *arguments)
{
    int letter;

    optind = 1;
    while ((letter = getopt(argc, argv, "o:f:k:j")) != -1) {
        char *end = "";
        if (letter == 'o')
            arguments->output = optarg;
        else if (letter == 'f')
            arguments->from = optarg;
        else if (letter == 'j')
            arguments->json = true;
        else if (letter == 'k')
            arguments->tsc_khz = strtoull(optarg, &end, 10);
        else
            return STATUS_USAGE;
        if (*end)
            return STATUS_USAGE;
    }
    return optind != argc || !arguments->output || (arguments->from && !arguments->tsc_khz) ? STATUS_USAGE : STATUS_OK;
}

static int take(const struct arguments *arguments, struct capture *capture)
{
    struct inspect_header header;

    if (!arguments->from)
        return window_open(&header) ? -1 : capture_live(&header, capture);
    FILE *file = fopen(arguments->from, "rb");
    if (!file) {
        fprintf(stderr, "nestorctl: %s: %s\n", arguments->from, strerror(errno));
        return -1;
    }
    int status = capture_file(file, arguments->tsc_khz, capture);
    fclose(file);
    return status;
}

static bool ends_in(const char *text, const char *end)
{
    size_t length = strlen(text), wanted = strlen(end);
    return length >= wanted && !strcmp(text + length - wanted, end);
}

static int write_as(const struct arguments *arguments, const struct capture *capture, FILE *file)
{
    if (arguments->json || ends_in(arguments->output, ".json"))
        return chrome_write(capture, file);
    if (ends_in(arguments->output, ".html"))
        return timeline_write(capture, file);
    return perfetto_write(capture, file);
}

static void say_what_there_is(const struct capture *capture, const char *output)
{
    for (uint32_t cpu = 0; cpu < capture->cpus; cpu++)
        printf("processor %u: %lu records, %lu older ones are lost%s\n", cpu, capture->cpu[cpu].count,
               capture->cpu[cpu].lost, capture->cpu[cpu].lost ? " (a larger trace= keeps more)" : "");
    printf("%s: open it %s\n", output, ends_in(output, ".html") ? "in a browser" : "at ui.perfetto.dev");
}

int command_trace(int argc, char **argv)
{
    struct arguments arguments = {0};
    struct capture capture = {0};

    if (parse(argc, argv, &arguments)) {
        fprintf(stderr, "nestorctl: trace -o FILE [-j] [-f RAW -k KHZ]\n");
        return STATUS_USAGE;
    }
    if (take(&arguments, &capture))
        return STATUS_FAILED;
    FILE *file = fopen(arguments.output, "wb");
    int failed = !file || write_as(&arguments, &capture, file);
    if (file && fclose(file))
        failed = 1;
    if (failed) {
        fprintf(stderr, "nestorctl: %s: %s\n", arguments.output, strerror(errno));
        return STATUS_FAILED;
    }
    say_what_there_is(&capture, arguments.output);
    return STATUS_OK;
}
