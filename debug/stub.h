/* The option gdb=: a stub for gdb's remote protocol on a UART. docs/DEBUG.md
 * On the one processor that runs then. Off, nothing of it is reached.
 * start/ calls debug_start() before L1's first instruction. */
#ifndef DEBUG_STUB_H
#define DEBUG_STUB_H

#include "vmx/vcpu.h"

/* Waits for gdb before the first instruction of the guest. Ends the run when the UART is not there. */
void debug_start(struct vcpu *vcpu);

#endif
