/* The processors: the others are started, and each makes its virtual processor of L1.
 * start/main.c has the order: the memory of Nestor is in use before the first, vm is filled before the second.
 * start/ alone calls them. */
#ifndef START_PROCESSORS_H
#define START_PROCESSORS_H

#include "boot/in_place.h"
#include "vmx/vcpu.h"

/* Starts the others, in the order of the MADT. They wait for their turn. */
void processors_start(void);
/* L1 shall not start what Nestor does not run on: those are marked unusable in the MADT. */
void processors_hide_others(void);
/* Makes the virtual processors, one after the other, this one's first, which is returned. Current: vmcs01. */
struct vcpu *processors_create_vcpus(void);
/* In their place where a firmware goes on as L1 (start/main_in_place): makes room for so many processors; meets one of
 * them; makes this one's virtual processor, which then waits outside VMX operation; makes that of another one, in its
 * turn, to go on with `present` (NULL as soon as one has failed); and, when all others are L1, lets the first go on. */
void processors_take_over(unsigned processors);
void processors_meet_in_place(struct cpu *cpu); /* one at a time */
void processors_make_boot_vcpu(void);
struct vcpu *processors_join_l1(struct cpu *cpu, const struct in_place_state *present, const bool *failed);
struct vcpu *processors_go_on(const struct in_place_state *present);

#endif
