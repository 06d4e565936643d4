/* All that newer CPUs have for an L2, at once: for tests that ask whether something else still holds with it. */
#ifndef GUESTS_LIB_FEATURES_H
#define GUESTS_LIB_FEATURES_H

#include "guests/lib/vm.h"

/* Turns on what the CPU offers, in the current VMCS, with values that change nothing for L2: vm_also may be this. */
void features_on(struct vm *);
/* A line that names them. */
void features_print(void);

#endif
