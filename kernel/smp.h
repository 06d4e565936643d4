/* Starting the other processors, by INIT and two start-up IPIs, one after the other.
 * The final page tables are loaded, those of boot/entry.asm still lie where they were made.
 * start/ calls it once, before L1 is loaded. */
#ifndef KERNEL_SMP_H
#define KERNEL_SMP_H

#include "kernel/percpu.h"

/* Starts the processor of `cpu` (entered by percpu_init) at `main`, on the stack that ends at `stack_top`. `page`: a
 * page below 1 MiB that is borrowed meanwhile. False: it did not come within a second. */
MUST_CHECK bool smp_start(struct cpu *cpu, void *stack_top, void (*main)(struct cpu *cpu), hpa_t page);

/* Waits at least so long, by the PIT: one processor at a time. */
void smp_delay_us(unsigned us);

#endif
