/* The thin part of L1's start that writes memory, as vmx/l1_image planned it.
 * The direct map must cover the memory that the plan names.
 * kernel/main.c calls it before L1 runs. */
#ifndef VMX_L1_LOAD_H
#define VMX_L1_LOAD_H

#include "vmx/l1_image.h"

/* Does the moves and sets `start` of the modules to where they are now. */
void l1_stash(const struct l1_move *move, unsigned count, struct boot_module *module);
/* Does the copies of the plan. */
void l1_load(const struct l1_plan *plan);

#endif
