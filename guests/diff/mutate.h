/* Changes to a valid VMCS image: some make the entry fail, some only change what L2 sees.
 * Pure except for the random numbers and L1's pages. Exceptions (exceptions.c) are taken back afterwards. */
#ifndef GUESTS_DIFF_MUTATE_H
#define GUESTS_DIFF_MUTATE_H

#include "guests/diff/base.h"

/* A random, consistent mix of what is allowed: once per block. */
void mutate_mix_controls(struct image *);
/* The changes of an operation, for those who look afterwards. */
struct mutation {
    unsigned count;
    uint16_t index[8];
    bool host, lists;
};
void mutate(struct mutation *, struct image *);

#endif
