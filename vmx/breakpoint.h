/* Data and I/O breakpoints (DR0 to DR3) on what Nestor accesses in the guest's place.
 * Current: the VMCS of the guest whose instruction Nestor executes; DR0 to DR3 are the guest's at all times.
 * vmx/gva_access, vmx/operand and vmx/exit_io note each access; vmx/skip makes the trap of it when the instruction has
 * completed. SDM 3B 18.2 "Debug Registers" */
#ifndef VMX_BREAKPOINT_H
#define VMX_BREAKPOINT_H

#include "vmx/vcpu.h"

enum breakpoint_access { BREAKPOINT_READ, BREAKPOINT_WRITE, BREAKPOINT_PORT };

/* Which enabled breakpoints `len` bytes at `at` meet, as bits of GUEST_PENDING_DEBUG: B0 to B3, and "enabled
 * breakpoint" if any. Pure. */
uint64_t breakpoints_met(uint64_t dr7, const uint64_t address[4], enum breakpoint_access access, uint64_t at,
                         unsigned len);
/* The same with the guest's registers, kept in vcpu->debug_hits. */
void breakpoint_note(struct vcpu *vcpu, enum breakpoint_access access, uint64_t at, unsigned len);
/* The instruction that Nestor executes accesses memory, by linear address, or ports. */
static inline void breakpoint_memory(struct vcpu *vcpu, bool write, gva_t gva, unsigned len)
{
    if (__builtin_expect(vmcs_read(GUEST_DR7) & DR7_ENABLED, 0))
        breakpoint_note(vcpu, write ? BREAKPOINT_WRITE : BREAKPOINT_READ, gva, len);
}
void breakpoint_port(struct vcpu *vcpu, uint16_t port, unsigned size);

#endif
