/* One VM entry and the exit that follows, with L2's general registers, CR2 and DR6.
 * The VMCS is current and its HOST_RIP and HOST_RSP are those below, or the entry fails. */
#ifndef GUESTS_DIFF_ENTER_H
#define GUESTS_DIFF_ENTER_H

#include "kernel/base.h"

/* Two places that may stand in HOST_RIP: `exit_point` tells which was used. */
extern uint8_t diff_exit_point[], diff_exit_point_other[];
extern uint64_t exit_point, exit_rsp, exit_rflags;

/* 0 after an exit, 1 for VMfailInvalid, 2 for VMfailValid; regs in the order of the registers' numbers. */
int diff_enter(uint64_t *regs, bool resume);
uint64_t diff_exit_stack(void);
void diff_unblock_nmi(void);

#endif
