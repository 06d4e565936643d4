#include "vmx/straight.h"

#include "kernel/cmdline.h"

void straight_disturb(struct cpu *cpu)
{
    if (options.quiet_fault != QUIET_FAULT_DEAF)
        __atomic_store_n(&straight_of(cpu)->quiet, 0, __ATOMIC_SEQ_CST);
}
