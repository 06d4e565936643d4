/* nestorctl: looks from L1's Linux at the Nestor below it. */
#include <stdio.h>
#include <string.h>

#include "kernel/version.h"
#include "tools/nestorctl/commands.h"

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *usage, *text;
} commands[] = {
    {"check", command_check, "",
     "say whether Nestor would run on this machine, thing by thing; before it is started, too"},
    {"id", command_id, "", "say whether this system runs under Nestor, and with which version, options and features"},
    {"log", command_log, "[-f | --previous]",
     "print Nestor's log; -f: and go on printing what comes; --previous: of the run before a reset"},
    {"stat", command_stat, "[-i SECONDS] [-n TIMES] [-c CPU]",
     "print exits by reason and level, and what Nestor counts"},
    {"top", command_top, "[-i SECONDS] [-n TIMES] [-c CPU]",
     "the same live, on the whole terminal, busiest first, and each level's share of the time"},
    {"trace", command_trace, "-o FILE [-j] [-f RAW -k KHZ]",
     "write Nestor's last records as a Perfetto trace; FILE.html: as a page, FILE.json or -j: Chrome's JSON; "
     "-f: of a finished run's raw records"},
    {"vmcs12", command_vmcs12, "[-i SECONDS] [-n TIMES] [-c CPU]",
     "print L1's current VMCS of this processor, or of CPU, by names and groups; then what changes"},
    {"bitmap", command_bitmap, "[-c CPU] [-o FILE]",
     "say which MSRs of L2 exit for whom, by L1's current VMCS there; -o: as the HTML page of make bitmap-report"},
    {"report", command_report, "[FILE]", "write one archive for a bug report: all of the above and what Linux knows"},
};
#define COMMANDS (sizeof commands / sizeof commands[0])

static int usage(FILE *out, int status)
{
    fprintf(out, "usage: nestorctl COMMAND\n\nLooks from inside L1 at the Nestor below it, "
                 "which must run with the option inspect=PORT (except check and report).\n\n");
    for (size_t i = 0; i < COMMANDS; i++)
        fprintf(out, "  %s %s\n        %s\n", commands[i].name, commands[i].usage, commands[i].text);
    fprintf(out, "\nExit status: 0; 1 when this is not Nestor or it cannot be read; 2 for wrong arguments.\n");
    return status;
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return usage(stderr, STATUS_USAGE);
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help"))
        return usage(stdout, STATUS_OK);
    if (!strcmp(argv[1], "--version")) {
        printf("nestorctl %s\n", NESTOR_VERSION);
        return STATUS_OK;
    }
    for (size_t i = 0; i < COMMANDS; i++)
        if (!strcmp(argv[1], commands[i].name))
            return commands[i].run(argc - 1, argv + 1);
    fprintf(stderr, "nestorctl: no command %s\n", argv[1]);
    return usage(stderr, STATUS_USAGE);
}
