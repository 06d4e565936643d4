/* Operations that enter L2: a mutated VMCS, a snippet, and each exit until the snippet's end.
 * l2op_begin() at the start of a block; l2op_run() is one operation and gives the count of entries that it tried. */
#ifndef GUESTS_DIFF_L2OP_H
#define GUESTS_DIFF_L2OP_H

#include "kernel/base.h"

/* Once: L1's regions. */
void l2op_init(void);
void l2op_begin(void);
unsigned l2op_run(void);
/* Adds L2's memory to the transcript. */
void l2op_end(void);

#endif
