/* Four breakpoints fit the debug registers, which cost a guest nothing; what they cannot do is done instruction by
 * instruction. */
#include "debug/breakpoints.h"

#include "kernel/x86_bits.h"

#define DR7_RESERVED BIT(10) /* reads as 1 */
#define DR7_GLOBAL(n) BIT(2 * (n) + 1)

unsigned breakpoints_find(const struct breakpoints *list, uint64_t address)
{
    unsigned i = 0;

    while (i < list->count && list->address[i] != address)
        i++;
    return i;
}

bool breakpoints_add(struct breakpoints *list, uint64_t address, bool hard)
{
    unsigned i = breakpoints_find(list, address);

    if (i == BREAKPOINTS_MAX)
        return false;
    list->address[i] = address;
    list->hard[i] = hard;
    list->count = MAX(list->count, i + 1);
    return true;
}

bool breakpoints_remove(struct breakpoints *list, uint64_t address)
{
    unsigned i = breakpoints_find(list, address);

    if (i == list->count)
        return false;
    list->count--;
    list->address[i] = list->address[list->count];
    list->hard[i] = list->hard[list->count];
    return true;
}

uint64_t breakpoints_dr7(unsigned count)
{
    uint64_t dr7 = DR7_RESERVED;

    for (unsigned n = 0; n < count; n++)
        dr7 |= DR7_GLOBAL(n);
    return dr7;
}

enum debug_way debug_way(const struct breakpoints *list, const struct debug_start *start)
{
    if (start->steps)
        return WAY_TRAP;
    if (!list->count || !start->concerned)
        return WAY_FREE;
    /* It stands on one: gdb has seen it, and goes on from there. */
    if (breakpoints_find(list, start->at) < list->count || start->accesses_registers)
        return WAY_TRAP;
    if (list->count > BREAKPOINTS_IN_CPU || (start->dr7 & (DR7_ENABLED | DR7_GD)) || (start->rflags & RFLAGS_TF) ||
        start->pending)
        return WAY_TRAP;
    return WAY_REGISTERS;
}
