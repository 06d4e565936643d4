/* The table that Nestor prints when the run ends: exits by reason and level, and what the bitmaps cost and saved.
 * Any state; reads counters only.
 * start/ registers it for the end of the run. */
#ifndef NESTED_SUMMARY_H
#define NESTED_SUMMARY_H

#include "vmx/vcpu.h"

void summary_print(const struct vm *vm);

#endif
