/* How much memory Nestor takes.
 * Pure. start/ reserves it; tools/nestorctl tells it beforehand. */
#ifndef MM_CARVEOUT_H
#define MM_CARVEOUT_H

#include "kernel/base.h"

#define CARVEOUT_MIN_MIB 32
#define CARVEOUT_BASE_MIB 24
#define CARVEOUT_RAM_SHARE 64 /* and one page in so many, for tables that grow with RAM */
#define CARVEOUT_RAM_MIB 256  /* but no more for those: when tables run short, L1 sees no difference but time */
#define CARVEOUT_CPU_MIB 2    /* and this much for each processor but one */

/* In MiB, of `ram_mib` of RAM, for so many processors, 1 or more. */
static inline uint64_t carveout_mib(uint64_t ram_mib, uint64_t cpus)
{
    uint64_t share = MIN(ram_mib / CARVEOUT_RAM_SHARE, CARVEOUT_RAM_MIB);

    return MAX(CARVEOUT_MIN_MIB, CARVEOUT_BASE_MIB + share) + CARVEOUT_CPU_MIB * (cpus - 1);
}

#endif
