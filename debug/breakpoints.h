/* Breakpoints of gdb's, and how a guest is let run so that it meets them.
 * Pure.
 * debug/ uses it. */
#ifndef DEBUG_BREAKPOINTS_H
#define DEBUG_BREAKPOINTS_H

#include "kernel/base.h"

#define BREAKPOINTS_MAX 32u
#define BREAKPOINTS_IN_CPU 4u /* DR0 to DR3 */

struct breakpoints {
    unsigned count;
    uint64_t address[BREAKPOINTS_MAX]; /* linear */
    bool hard[BREAKPOINTS_MAX];        /* gdb's own word for it: nothing differs */
};

/* False: there is no room. One that is there already is not added again. */
bool breakpoints_add(struct breakpoints *list, uint64_t address, bool hard);
/* False: there is none. */
bool breakpoints_remove(struct breakpoints *list, uint64_t address);
/* Its place in the list; `count` when there is none. */
unsigned breakpoints_find(const struct breakpoints *list, uint64_t address);
/* DR7 with an instruction breakpoint in each of the first `count` registers. SDM 3B 18.2.4 */
uint64_t breakpoints_dr7(unsigned count);

enum debug_way {
    WAY_FREE,      /* nothing to look for */
    WAY_REGISTERS, /* with gdb's breakpoints in the debug registers, whose exceptions exit */
    WAY_TRAP,      /* one instruction: the monitor trap flag */
};

struct debug_start {
    uint64_t at;             /* the linear address of the next instruction */
    uint64_t dr7, rflags;    /* the guest's own */
    uint64_t pending;        /* its pending debug exceptions */
    bool steps;              /* gdb waits for the next instruction of this level */
    bool concerned;          /* the breakpoints are about this level */
    bool accesses_registers; /* the next instruction accesses a debug register */
};
/* The debug registers serve gdb where the guest itself uses nothing of what they do; else it goes step by step. */
enum debug_way debug_way(const struct breakpoints *list, const struct debug_start *start);

#endif
