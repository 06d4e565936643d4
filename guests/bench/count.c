/* The VMX instructions that Nestor executes for a turn, from a build of it that counts them (COUNT_VMX). */
#include "guests/bench/bench.h"
#include "guests/lib/counters.h"

_Static_assert(COUNTER_VMX_END - COUNTER_COUNT + 1 == BENCH_COUNTS, "the entries, and each row");

/* The first is the entries: each followed an exit. */
static void read_counters(uint32_t *values)
{
    values[0] = counter_read(COUNTER_EXITS_L1) + counter_read(COUNTER_EXITS_L2);
    for (unsigned i = 1; i < BENCH_COUNTS; i++)
        values[i] = counter_read((enum counter)(COUNTER_VMX_BEFORE + (int)i));
}

static void add_batch(const struct bench_row *row, unsigned turns, int sign, int64_t *sums)
{
    struct bench_row part = *row;
    uint32_t before[BENCH_COUNTS], after[BENCH_COUNTS];

    part.turns = turns;
    read_counters(before);
    (void)row->batch(&part);
    read_counters(after);
    for (unsigned i = 0; i < BENCH_COUNTS; i++)
        sums[i] += sign * (int64_t)(uint32_t)(after[i] - before[i]);
}

/* The first batch meets what is not there yet. What a batch and the reading of counters cost besides the turns falls
 * out of the difference of a whole batch and a half one. */
void count_row(const struct bench_row *row, uint32_t *hundredths)
{
    int64_t sums[BENCH_COUNTS] = {0};
    unsigned half = row->turns / 2;

    (void)row->batch(row);
    add_batch(row, row->turns, 1, sums);
    add_batch(row, half, -1, sums);
    for (unsigned i = 0; i < BENCH_COUNTS; i++)
        hundredths[i] = sums[i] > 0 ? (uint32_t)(sums[i] * 100 / (int64_t)(row->turns - half)) : 0;
}
