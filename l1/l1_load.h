/* The thin part of L1's start that writes memory, as l1/l1_image planned it.
 * The direct map must cover the memory that the plan names.
 * start/ calls it before L1 runs. */
#ifndef L1_L1_LOAD_H
#define L1_L1_LOAD_H

#include "l1/l1_image.h"
#include "l1/l1_stash.h"

/* Does the moves and sets `start` of the modules to where they are now. */
void l1_stash(const struct l1_move *move, unsigned count, struct boot_module *module);
/* Does the copies of the plan. */
void l1_load(const struct l1_plan *plan);

#endif
