/* The mini hypervisor and its mistakes.
 * main.c calls mini_run() once for each mistake that it is told, by check_run(). */
#ifndef GUESTS_MINI_MINI_H
#define GUESTS_MINI_MINI_H

#include "kernel/base.h"

/* Runs the guest from VMXON to its last exit, with the mistake that wrong() tells of; prints what it cost. */
void mini_run(void);
/* True if the mistake of this name is to be made now. */
bool wrong(const char *name);
/* Those that are a wrong value in the finished VMCS, or in the EPT tables that map the guest's code. */
void spoil_vmcs(uint64_t *ept, uint64_t guest_code);

#endif
