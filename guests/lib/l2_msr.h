/* Code for an L2 that accesses one MSR, with all that RDMSR and WRMSR take in the registers that L1 gives it.
 * vm_set_code() or vm_start() with one of them.
 * Any guest. */
#ifndef GUESTS_LIB_L2_MSR_H
#define GUESTS_LIB_L2_MSR_H

#include <stdint.h>

/* RDMSR of the MSR in RCX. Its value, or what L1 put into RDX:RAX in place of it, is in l2_msr_value. */
void l2_rdmsr(void);
extern volatile uint64_t l2_msr_value;

/* WRMSR of RDX:RAX to the MSR in RCX. */
void l2_wrmsr(void);

#endif
