/* The common part of the scenarios of the MSR bitmap: an L2 that reads one MSR, and what must come of it.
 * bitmap_start() or vm_create() first; the VM's VMCS is current.
 * For guests/scenarios/bitmap*.c. */
#ifndef GUESTS_SCENARIOS_BITMAP_H
#define GUESTS_SCENARIOS_BITMAP_H

#include "guests/lib/l2_msr.h"
#include "guests/scenarios/scenario.h"

/* A VM on l2_rdmsr(), in VMX operation. */
void bitmap_start(struct vm *);

/* L2 runs `code` to its end; before that its read of `msr` (in RCX) exits, or does not. */
void bitmap_expect_read(struct vm *, void (*code)(void), uint32_t msr, bool exits, const char *file, int line);
#define EXITS(vm, msr) bitmap_expect_read(vm, l2_rdmsr, msr, true, __FILE__, __LINE__)
#define PASSES(vm, msr) bitmap_expect_read(vm, l2_rdmsr, msr, false, __FILE__, __LINE__)

/* The same for an MSR that this CPU may not have: L2 catches the fault. */
void bitmap_l2_rdmsr_caught(void);
#define EXITS_CAUGHT(vm, msr) bitmap_expect_read(vm, bitmap_l2_rdmsr_caught, msr, true, __FILE__, __LINE__)
#define PASSES_CAUGHT(vm, msr) bitmap_expect_read(vm, bitmap_l2_rdmsr_caught, msr, false, __FILE__, __LINE__)

#endif
