/* The figures in print: lines on COM1, for tools/nestor-bench, and pages on the screen, for a photograph.
 * main.c, when all rows are through. */
#ifndef GUESTS_BENCH_TABLE_H
#define GUESTS_BENCH_TABLE_H

#include "guests/bench/bench.h"

struct bench_result {
    const char *key;
    uint64_t least, median; /* ticks of 100 turns */
    uint32_t counts[BENCH_COUNTS];
};

/* All that the screen shows: figures, and lines that Nestor printed before, which table_show() looks for. */
struct bench_table {
    const struct bench_result *results;
    unsigned count, measured;
    const char *lines[40];
};

/* `bench: KEY LEAST MEDIAN`, ticks per turn with two decimals; counted: `count: KEY N...`, hundredths likewise. */
void table_print(const struct bench_result *results, unsigned count, bool counted);
/* `bench: on CPU, signature N, L0: NAME`, and behind the name that of the run, if table_name_run() was told one: up to
 * the next blank. */
void table_print_machine(void);
void table_name_run(const char *name);
/* Draws the first page. False: there is no screen, or it is too small. */
MUST_CHECK bool table_show(struct bench_table *table);
/* Draws the next page again and again, for ten seconds each. After table_show(). */
void table_turn_pages(const struct bench_table *table) NORETURN;
/* Says it on COM1 and on the screen, if there is one. */
void table_refuse(const char *text);

#endif
