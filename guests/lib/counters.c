#include "guests/lib/counters.h"

#include "guests/lib/cpu.h"

#define PORT_STATS 0xf8
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

uint32_t counter_read(enum counter index)
{
    cpu_outl(PORT_STATS, index);
    return cpu_inl(PORT_STATS);
}

const char *counter_description(enum counter index)
{
    return descriptions[index];
}
