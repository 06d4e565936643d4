/* The processors: the others are started, and each makes its virtual processor of L1.
 * start/main.c has the order: the memory of Nestor is in use before the first, vm is filled before the second.
 * start/ alone calls them. */
#ifndef START_PROCESSORS_H
#define START_PROCESSORS_H

#include "vmx/vcpu.h"

/* Starts the others, in the order of the MADT. They wait for their turn. */
void processors_start(void);
/* Makes the virtual processors, one after the other, this one's first, which is returned. Current: vmcs01. */
struct vcpu *processors_create_vcpus(void);

#endif
