/* One instruction with a page of the carve-out opened: how a guest's store to Nestor's memory does nothing.
 * The page that stands for the carve-out (all-ones, read-only) becomes writable, the guest runs one instruction, and
 * the page is filled with ones and closed again at the next exit, which the monitor trap flag or the preemption timer
 * brings about at once.
 * vmx/exit_ept.c and nested/ begin a step, vmx/event.c asks for one without a page; vmx/run.c ends it. */
#ifndef VMX_STEP_H
#define VMX_STEP_H

#include "vmx/vcpu.h"

/* Makes the guest come back before its first instruction, after the event that the entry injects. False: the CPU has no
 * preemption timer. Current: the VMCS to enter. SDM 3C 27.7.4 "VMX-Preemption Timer" */
bool step_return_at_once(struct vcpu *vcpu);
/* Opens `entry`, a leaf of EPT01 that leads to the page of ones; again for each further page that the instruction
 * stores to. While another processor has one open nothing is done, and the guest's next try comes here again. Current:
 * the VMCS of the guest that stored. */
void step_begin(struct vcpu *vcpu, uint64_t *entry);
/* The same of a leaf of the current EPT02 at gpa2. It is looked for again when it is closed: pages may run out
 * meanwhile, and its table go. Current: vmcs02. */
void step_begin_in_l2(struct vcpu *vcpu, uint64_t *entry, gpa_t gpa2);
/* vcpu->step.active: the guest comes back after one instruction, or none; the debugger changed what its entry loaded
 * (debug_hooks). */
#define STEP_ONE 1u
#define STEP_DEBUG 2u
static inline bool step_active(const struct vcpu *vcpu)
{
    return vcpu->step.active & STEP_ONE;
}
/* Closes all that is open. Current: the VMCS that exited. True when the exit is the step's own and nobody else's. */
bool step_end(struct vcpu *vcpu);

#endif
