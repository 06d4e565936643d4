/* Events for the guest: exceptions, NMIs, and those whose delivery an exit interrupted.
 * One slot, vcpu->inject_*; event_prepare() moves it into the current VMCS just before entry.
 * Current: the VMCS of the level that gets the event. */
#ifndef VMX_EVENT_H
#define VMX_EVENT_H

#include "vmx/gva.h"
#include "vmx/vcpu.h"

/* A fault (not a trap) at the current instruction. The error code is ignored for vectors that have none. */
void event_inject_fault(struct vcpu *vcpu, unsigned vector, uint32_t error_code);
void event_inject_ud(struct vcpu *vcpu);
void event_inject_gp(struct vcpu *vcpu, uint32_t error_code);
/* The fault that an operand access found; sets CR2 for #PF. */
void event_inject(struct vcpu *vcpu, const struct fault *fault);
/* Queues again the event whose delivery the exit interrupted (IDT-vectoring information). SDM 3C 28.2.4 */
void event_requeue(struct vcpu *vcpu);
/* Takes back what event_prepare() wrote into the current VMCS, when the entry did not happen. */
void event_recall(struct vcpu *vcpu);
/* Before each entry: injects what is queued, else a pending NMI or the wish for an NMI window. */
void event_prepare(struct vcpu *vcpu);
/* Ends L0's own wait for an NMI window in the current VMCS, before another becomes current. */
void event_cancel_nmi_window(struct vcpu *vcpu);
/* After a fault that Nestor mended: if it hit an IRET that had ended the blocking of NMIs, they are blocked again for
 * the repetition. SDM 3C 28.2.3 "Information About NMI Unblocking Due to IRET" */
void event_restore_nmi_blocking(const struct vcpu *vcpu);
/* True if a vector pushes an error code. Pure. */
bool event_has_error_code(unsigned vector);

#endif
