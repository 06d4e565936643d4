/* The VMX instructions' times that Nestor printed before this L1 started (option measure=1), from its log by the port
 * of the option inspect=: a machine without a serial port shows them nowhere else for long. table.c asks. */
#ifndef GUESTS_BENCH_MEASURED_H
#define GUESTS_BENCH_MEASURED_H

#include "kernel/base.h"

/* The lines, without what each of them begins with, at most `room`; how many there are. 0: it is not there. */
unsigned measured_read(const char **lines, unsigned room);

#endif
