/* Moving on past an instruction that Nestor executed for the guest, with the debug exceptions that it leaves behind:
 * single step, data and I/O breakpoints, RF. The one place for them: whatever completes an instruction goes through
 * here, and vmx/run makes of it the exit that the monitor trap flag of L1 asks for.
 * Current: the VMCS that exited.
 * Exit handlers of vmx/ and nested/ use it. */
#ifndef VMX_SKIP_H
#define VMX_SKIP_H

#include "kernel/msr.h"
#include "kernel/x86_bits.h"
#include "vmx/vcpu.h"

/* Shadows of STI and MOV SS end with the instruction. */
static inline void skip_shadows(void)
{
    uint32_t state = vmcs_read(GUEST_INTERRUPTIBILITY);
    if (state & (BLOCKING_BY_STI | BLOCKING_BY_MOV_SS))
        vmcs_write(GUEST_INTERRUPTIBILITY, state & ~(uint32_t)(BLOCKING_BY_STI | BLOCKING_BY_MOV_SS));
}

/* The trap that RFLAGS.TF asks for is due (SDM 3C 27.3.1.5 requires BS then), except for one that waits for branches
 * only. */
static inline void skip_trap(uint64_t rflags)
{
    if ((rflags & RFLAGS_TF) && !(vmcs_read(GUEST_DEBUGCTL) & DEBUGCTL_BTF))
        vmcs_write(GUEST_PENDING_DEBUG, vmcs_read(GUEST_PENDING_DEBUG) | PENDING_DEBUG_BS);
}

/* Does what TF and RF ask for: the trap, and that the next instruction's breakpoint counts again. */
void skip_flags(uint64_t rflags);

/* The data and I/O breakpoints that the instruction met. */
void skip_hits(struct vcpu *vcpu);
static inline void skip_completed(struct vcpu *vcpu)
{
    vcpu->completed = true;
    if (__builtin_expect(vcpu->debug_hits, 0))
        skip_hits(vcpu);
}

/* Goes on at `rip`, behind an instruction that left `rflags` and accessed neither memory nor ports; L1's. Current:
 * vmcs01. */
static inline void vcpu_skip_to(uint64_t rip, uint64_t rflags)
{
    skip_shadows();
    vmcs_write(GUEST_RIP, rip);
    if (__builtin_expect(rflags & (RFLAGS_TF | RFLAGS_RF), 0))
        skip_flags(rflags);
}

/* Moves on past the instruction of `length` at `from`, which left `rflags` and accessed neither memory nor ports; L1's.
 * Current: vmcs01. */
static inline void vcpu_skip_from(uint64_t from, uint64_t length, uint64_t rflags)
{
    uint64_t rip = from + length;
    /* Outside 64-bit mode the instruction pointer wraps. */
    if (__builtin_expect((rip ^ from) >> 32, 0) && !(vmcs_read(GUEST_CS_AR_BYTES) & AR_L))
        rip = (uint32_t)rip;
    vcpu_skip_to(rip, rflags);
}
/* Moves on past the instruction that exited. Current: the VMCS that exited. */
void vcpu_skip_instruction(struct vcpu *vcpu);
/* The same for one that leaves `rflags`. */
static inline void vcpu_skip_with_flags(struct vcpu *vcpu, uint64_t rflags)
{
    vmcs_write(GUEST_RFLAGS, rflags);
    vcpu_skip_from(vcpu->exit.rip, vcpu->exit.instruction_length, rflags);
    skip_completed(vcpu);
}
/* One iteration of a string instruction is done, not the last: it is executed again, with all that happens between two
 * iterations. SDM 3B 18.3.1.4 "Single-Step Exception Condition", 18.3.1.1 "Instruction-Breakpoint Exception
 * Condition" */
void vcpu_repeat_instruction(struct vcpu *vcpu);
/* An exit was dealt with and the instruction is executed anew, or faulted. A CPU saves no pending debug exception then
 * but those that MOV SS holds back (SDM 3C 28.3.4 "Saving Non-Register State"); Bochs 2.7 saves BS of the instruction
 * that has not completed. Current: the VMCS that exited. */
void vcpu_not_completed(void);

#endif
