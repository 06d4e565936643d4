#include "vmx/straight.h"

#include "kernel/cmdline.h"

void straight_disturb(struct cpu *cpu)
{
    if (options.quiet_fault != QUIET_FAULT_DEAF)
        __atomic_store_n(&straight_of(cpu)->quiet, 0, __ATOMIC_SEQ_CST);
}

NOINLINE bool straight_same_sysenter(const struct straight *straight, const struct straight_plan *plan)
{
    const uint64_t *image = plan->image, *now = straight->sysenter;
    return straight->sysenter_of && image[STRAIGHT_GUEST_SYSENTER_CS] == now[0] &&
           image[STRAIGHT_GUEST_SYSENTER_ESP] == now[1] && image[STRAIGHT_GUEST_SYSENTER_EIP] == now[2];
}
