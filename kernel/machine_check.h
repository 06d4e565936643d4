/* The machine-check banks in words.
 * In the #MC handler, or when a VM entry failed for a machine check; works on any stack.
 * kernel/trap and vmx/run tell by it why the run ends. */
#ifndef KERNEL_MACHINE_CHECK_H
#define KERNEL_MACHINE_CHECK_H

#include "kernel/base.h"

/* Logs one line for each bank that holds an error, and what to do. The banks keep their contents, which outlive a warm
 * reset: firmware and the next operating system can read them. SDM 3B 16.3.2.2 "IA32_MCi_STATUS MSRS" */
void machine_check_report(void);

#endif
