/* Accepted differences: states that bare and Nestor are known to treat differently, and that are therefore not
 * generated. Pure. Each row of exceptions.c has its reason; docs/DIFF.md explains them. */
#ifndef GUESTS_DIFF_EXCEPTIONS_H
#define GUESTS_DIFF_EXCEPTIONS_H

#include "guests/diff/image.h"

/* Takes back from `v` what must not be tried, by putting in what `base` has. */
void exceptions_remove(struct image *v, const struct image *base);

/* The EPTP without the bit that Nestor hides, and so refuses. */
uint64_t exceptions_eptp(uint64_t eptp);

#endif
