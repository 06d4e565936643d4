/* The commands of nestorctl, one function each: argv[0] is the command's name; the result is the exit status. */
#ifndef NESTORCTL_COMMANDS_H
#define NESTORCTL_COMMANDS_H

#include <stdint.h>

#include "kernel/inspect_abi.h"

enum { STATUS_OK = 0, STATUS_FAILED = 1, STATUS_USAGE = 2 };

int command_bitmap(int argc, char **argv);
int command_check(int argc, char **argv);
int command_id(int argc, char **argv);
int command_log(int argc, char **argv);
int command_report(int argc, char **argv);
int command_stat(int argc, char **argv);
int command_top(int argc, char **argv);
int command_trace(int argc, char **argv);
int command_vmcs12(int argc, char **argv);

/* Options of the commands that look again and again: -i SECONDS, -n TIMES, -c CPU. */
struct loop {
    double interval;
    long times; /* 0: for ever */
    int cpu;    /* -1: all, or this one */
};
/* Reads them into what holds the defaults, and opens the window. `usage` is printed if they are wrong. The status. */
int loop_start(int argc, char **argv, const char *usage, struct loop *arguments, struct inspect_header *header);

/* One reading of what Nestor counts, the sum over its processors or one of them. */
struct sample {
    double seconds;     /* of CLOCK_MONOTONIC */
    uint64_t *counter;  /* header->counters of them */
    uint64_t *exits[2]; /* by level (0: L1, 1: L2) and reason: header->reasons of them */
};

/* Allocates the arrays of an empty sample; ends the program when there is no memory. */
struct sample sample_new(const struct inspect_header *header);
/* Reads processor `cpu`, or the sum over all for -1. */
void sample_take(const struct inspect_header *header, int cpu, struct sample *sample);
/* Names from the lists that Nestor was built with; "?" for what this program does not know. */
const char *sample_counter_name(uint32_t index);
const char *sample_reason_name(uint32_t reason);

#endif
