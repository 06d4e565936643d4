/* The run's random numbers: the same seed and block give the same numbers bare and on Nestor.
 * rand_start() first. Nothing that may differ between the two runs may decide how often these are called. */
#ifndef GUESTS_DIFF_RAND_H
#define GUESTS_DIFF_RAND_H

#include "kernel/base.h"

void rand_start(uint64_t seed, uint64_t block);
uint64_t rand_next(void);
/* 0 .. limit - 1 */
unsigned rand_below(unsigned limit);
/* True `times` out of `of`. */
bool rand_chance(unsigned times, unsigned of);
/* A number of any magnitude: small ones, sparse ones and ones with a few bits cleared are likely. */
uint64_t rand_value(void);
/* The value, made canonical for addresses of 48 bits if it is so for those of 57 (docs/DIFF.md). */
uint64_t rand_narrow(uint64_t value);
uint64_t rand_bit(unsigned width);

#define RAND_PICK(array) ((array)[rand_below(ARRAY_SIZE(array))])

#endif
