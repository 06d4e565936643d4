/* VMXON to INVVPID as L1 executes them (SDM 3C chapter 31 "VMX Instruction Reference").
 * Current: vmcs01, whose last exit is the instruction.
 * nested/nested.c enters them into the exit table, nested/exit calls the one for L2; nested/enter reports results by
 * the three functions. */
#ifndef NESTED_INSN_H
#define NESTED_INSN_H

#include "nested/nested.h"
#include "vmx/run.h"
#include "vmx/skip.h"
#include "vmx/vmx_insn.h"

void insn_exit_vmxon(struct vcpu *vcpu);
void insn_exit_vmxoff(struct vcpu *vcpu);
void insn_exit_vmclear(struct vcpu *vcpu);
void insn_exit_vmptrld(struct vcpu *vcpu);
void insn_exit_vmptrst(struct vcpu *vcpu);
/* nested_hooks.field_access */
void insn_field_access(struct vcpu *vcpu, uint32_t reason);
/* VMREAD or VMWRITE of an L2 whose exit L1's bitmaps do not ask for: does it on the shadow VMCS that vmcs12's link
 * pointer names. False: it became an exit for L1 instead. Current: vmcs02. SDM 3C 25.10 "VMCS Types: Ordinary and
 * Shadow" */
bool l2_shadow_access(struct vcpu *vcpu);
void insn_exit_vmlaunch(struct vcpu *vcpu);
void insn_exit_vmresume(struct vcpu *vcpu);
void insn_exit_vmcall(struct vcpu *vcpu);
void insn_exit_invept(struct vcpu *vcpu);
void insn_exit_invvpid(struct vcpu *vcpu);
/* nested_hooks.invept_usual, invvpid_usual, vmptrld_usual */
bool insn_invept_usual(struct vcpu *vcpu, uint64_t type, uint64_t eptp12);
bool insn_invvpid_usual(struct vcpu *vcpu, uint64_t type, const struct invalidate_descriptor *operand);
void insn_vmptrld_usual(struct vcpu *vcpu, const struct straight_plan *plan);

/* VMsucceed, VMfailInvalid, VMfail(error): flags of L1, error number, and on past the instruction. SDM 3C 31.2 */
static inline void insn_succeed(struct vcpu *vcpu)
{
    vcpu_skip_with_flags(vcpu, vmcs_read(GUEST_RFLAGS) & ~RFLAGS_ARITHMETIC);
}
/* The same where operand_plain() found the operand, so that no breakpoint is on it; L1's instruction alone. */
static inline void insn_succeed_plain(struct vcpu *vcpu)
{
    uint64_t rflags = vmcs_read(GUEST_RFLAGS) & ~RFLAGS_ARITHMETIC;
    vmcs_write(GUEST_RFLAGS, rflags);
    vcpu_skip_from(vcpu->exit.rip, vcpu->exit.instruction_length, rflags);
}
void insn_fail_invalid(struct vcpu *vcpu);
void insn_fail(struct vcpu *vcpu, uint32_t error);
/* The checks that all VMX instructions but VMXON share: #UD outside VMX operation, #GP(0) above CPL 0. What
 * the processor checks before it exits is not looked at again. False: the fault is queued. */
MUST_CHECK bool insn_permitted(struct vcpu *vcpu);

#endif
