/* gdb's `monitor`: what Nestor knows of its guests, in lines.
 * While the guest stands; the VMCS to enter is current. Lines go to the log, which debug/stub leads to gdb.
 * debug/stub calls it. */
#ifndef DEBUG_MONITOR_H
#define DEBUG_MONITOR_H

#include "vmx/vcpu.h"

/* Where there is no such command the known ones are listed. */
void monitor_run(struct vcpu *vcpu, const char *command);

#endif
