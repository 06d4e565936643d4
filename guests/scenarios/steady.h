/* An L2 that exits again and again for the same reason, so that the straight way serves it (docs/FLOWS.md, flow 10).
 * For the scenarios that change something in between. */
#ifndef GUESTS_SCENARIOS_STEADY_H
#define GUESTS_SCENARIOS_STEADY_H

#include "guests/lib/cpu.h"
#include "guests/scenarios/scenario.h"

static void l2_cpuids(void)
{
    for (;;)
        (void)cpu_cpuid(0, 0);
}

/* Several exits in a row between which nothing changes. */
static inline void become_steady(struct vm *vm)
{
    for (unsigned i = 0; i < 4; i++)
        EXPECT_EXIT_SKIP(vm, EXIT_CPUID);
}

#endif
