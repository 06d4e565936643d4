/* Moving on past an instruction that Nestor executed for the guest.
 * Current: the VMCS that exited.
 * Exit handlers of vmx/ and nested/ use it. */
#ifndef VMX_SKIP_H
#define VMX_SKIP_H

#include "kernel/msr.h"
#include "kernel/x86_bits.h"
#include "vmx/vcpu.h"

/* Moves on past the instruction of `length` at `from`, which left `rflags`. Current: the VMCS that exited. */
static inline void vcpu_skip_from(uint64_t from, uint64_t length, uint64_t rflags)
{
    uint64_t rip = from + length;
    uint32_t state = vmcs_read(GUEST_INTERRUPTIBILITY);
    /* Outside 64-bit mode the instruction pointer wraps. */
    if (__builtin_expect((rip ^ from) >> 32, 0) && !(vmcs_read(GUEST_CS_AR_BYTES) & AR_L))
        rip = (uint32_t)rip;
    vmcs_write(GUEST_RIP, rip);
    if (state & (BLOCKING_BY_STI | BLOCKING_BY_MOV_SS))
        vmcs_write(GUEST_INTERRUPTIBILITY, state & ~(uint32_t)(BLOCKING_BY_STI | BLOCKING_BY_MOV_SS));
    /* The instruction completed here, so the trap that RFLAGS.TF asks for is due (SDM 3C 27.3.1.5 requires BS then),
     * but for one that waits for branches only. */
    if (__builtin_expect(rflags & RFLAGS_TF, 0) && !(vmcs_read(GUEST_DEBUGCTL) & DEBUGCTL_BTF))
        vmcs_write(GUEST_PENDING_DEBUG, vmcs_read(GUEST_PENDING_DEBUG) | PENDING_DEBUG_BS);
}
/* Moves on past the instruction that exited. Current: the VMCS that exited. */
void vcpu_skip_instruction(struct vcpu *vcpu);
/* The same for one that left `rflags`. */
void vcpu_skip_with_flags(struct vcpu *vcpu, uint64_t rflags);

#endif
