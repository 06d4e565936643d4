/* INIT, start-up IPIs and NMIs that L1's processors send each other.
 * On a CPU where INIT and start-up IPI are VM exits they arrive as such, and a waiting processor waits in the guest.
 * Where that does not work (vmx/probe.h) L1's stores to its APIC are trapped, and a processor waits inside Nestor.
 * Current: the VMCS that exited; for what resets a processor, vmcs01. */
#ifndef VMX_STARTUP_H
#define VMX_STARTUP_H

#include "vmx/vcpu.h"

/* Traps the stores to the APIC's page, from now on. Before a processor runs L1, or under mm/ept_watch:ept_revoke(). 0,
 * or -1 when pages run out. */
MUST_CHECK int startup_trap(struct vm *vm);
static inline bool startup_is_trapped(const struct vm *vm, gpa_t gpa)
{
    return vm->apic_page && ALIGN_DOWN(gpa, PAGE_SIZE) == vm->apic_page;
}
/* A store of 32 bits to the trapped page that Nestor makes for its guest. */
void startup_write_register(struct vcpu *vcpu, gpa_t gpa, uint32_t value);
/* WRMSR to the x2APIC's ICR. False: #GP. */
MUST_CHECK bool startup_write_icr(struct vcpu *vcpu, uint64_t value);
/* Does what the requests ask for. */
void startup_attend(struct vcpu *vcpu);
/* Puts the processor into the state after INIT, and waits (trapped), or makes it wait in the guest. Current: vmcs01. */
void startup_reset(struct vcpu *vcpu);

/* L2 enters in the activity state wait-for-SIPI: there it waits, or inside Nestor (trapped) before the CPU enters.
 * Current: vmcs02. SDM 3C 25.4.2 "Guest Non-Register State" */
void startup_wait_in_l2(struct vcpu *vcpu);
/* The start-up IPI came: from here on an INVEPT is passed before each entry again. */
void startup_wait_no_more(struct vcpu *vcpu);

void exit_init(struct vcpu *vcpu);
void exit_sipi(struct vcpu *vcpu);

#endif
