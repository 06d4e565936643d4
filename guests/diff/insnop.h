/* Operations that are one VMX instruction of L1, with right and wrong operands.
 * insnop_init() once; insnop_begin() and insnop_end() around a block. insnop_run() gives the count of instructions. */
#ifndef GUESTS_DIFF_INSNOP_H
#define GUESTS_DIFF_INSNOP_H

void insnop_init(void);
void insnop_begin(void);
unsigned insnop_run(void);
void insnop_end(void);

#endif
