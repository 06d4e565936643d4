#include "guests/lib/counters.h"

#include "guests/lib/cpu.h"

#define PORT_STATS 0xf8
#define PORT_POLICY 0xea0
#define STATS_MAGIC 0x4e535452

static const char *const descriptions[COUNTER_COUNT] = {
    [COUNTER_MAGIC] = "",
#define COUNTER(name, description) [COUNTER_##name] = (description),
#include "kernel/counters.def"
#undef COUNTER
};

bool counters_present(void)
{
    return counter_read(COUNTER_MAGIC) == STATS_MAGIC;
}

bool counters_vmx_present(void)
{
    return counters_present() && counter_read((enum counter)COUNTER_VMREADS) != UINT32_MAX;
}

uint32_t counter_read(enum counter index)
{
    cpu_outl(PORT_STATS, index);
    return cpu_inl(PORT_STATS);
}

const char *counter_description(enum counter index)
{
    return descriptions[index];
}

bool policy_present(void)
{
    return cpu_inl(PORT_POLICY) == STATS_MAGIC;
}

void policy_keep(uint32_t msr, bool read, bool write)
{
    cpu_outl(PORT_POLICY, msr);
    cpu_outl(PORT_POLICY + 4, (read ? 1u : 0) | (write ? 2u : 0));
}
