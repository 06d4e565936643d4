/* The kick: an NMI of Nestor's own by which one processor makes another leave guest mode, pass an INVEPT, and look at
 * its requests. A processor inside Nestor answers from the NMI handler, so one may wait for another whatever that one
 * does.
 *
 * Nothing on the way into a guest is locked or fenced for it: the sender moves EPT01's generation first and sends the
 * NMI then. The NMI meets the guest (an exit), or Nestor before the entry (the handler passes the INVEPT, and entry.asm
 * looks once more).
 * vmx/run and mm/ept_watch (by its slot) use it. */
#ifndef VMX_KICK_H
#define VMX_KICK_H

#include "vmx/vcpu.h"

/* Takes over the NMI handler, and the stop of all processors at the end. Before the others are started. */
void kick_init(void);
/* Several processors run L1: traced pages concern them all. */
void kick_watch(struct vm *vm);
/* Makes the processor of `vcpu` pass by its requests soon; does not wait. For oneself that is at the next entry. */
void kick_send(struct vcpu *vcpu);
/* Passes the INVEPT that EPT01's generation asks for. */
void kick_answer(struct vcpu *vcpu);
/* True if the exit, for an exception or NMI, is a kick's and all is done about it. Current: the VMCS that exited. */
bool kick_exit(struct vcpu *vcpu);
/* The generation of EPT01 that all processors have passed. */
uint64_t kick_oldest_generation(const struct vm *vm);

#endif
