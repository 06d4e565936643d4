/* Option measure=1: the time that each VMX instruction, and what else a nested exit pays for, takes on this CPU.
 * The page allocator works; this processor is not in VMX operation, and L1 does not run yet.
 * start/, once. */
#ifndef VMX_MEASURE_H
#define VMX_MEASURE_H

#include "vmx/caps.h"

/* Prints the table, docs/OPTIONS.md has an example. Nothing of it remains. */
void measure_print(const struct vmx_caps *caps);

#endif
