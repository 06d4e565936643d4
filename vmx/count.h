/* Counts the VMX instructions that Nestor executes: in a build with COUNT_VMX=1; else this is nothing.
 * Needs the per-CPU block.
 * The wrappers of the instructions use it, in vmx/vmcs.h and vmx/vmx_insn.h. */
#ifndef VMX_COUNT_H
#define VMX_COUNT_H

#ifdef COUNT_VMX
#include "kernel/percpu.h"
#define COUNT_INSN(name) count(COUNT_##name)
#else
#define COUNT_INSN(name) ((void)0)
#endif

#endif
