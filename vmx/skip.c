/* The rarer halves of vmx/skip.h, which is inline because nearly every exit ends in it. A CPU that completes an
 * instruction does more than move RIP: the shadow of STI or MOV SS ends, RF is cleared, a single step or a
 * breakpoint becomes a pending debug exception. Forgetting one of these is a bug that only a debugger in the guest
 * sees. SDM 3B 18.3.1.4 "Single-Step Exception Condition" */
#include "vmx/skip.h"

#include "kernel/cmdline.h"
#include "vmx/vmcs_setup.h"

/* RF lasts for one instruction, and TF makes a trap behind it. */
void skip_flags(uint64_t rflags)
{
    if (rflags & RFLAGS_RF)
        vmcs_write(GUEST_RFLAGS, rflags & ~RFLAGS_RF);
    skip_trap(rflags);
}

/* They are pending in the VMCS until the next entry delivers them, together with a single step that is due. */
void skip_hits(struct vcpu *vcpu)
{
    vmcs_write(GUEST_PENDING_DEBUG, vmcs_read(GUEST_PENDING_DEBUG) | vcpu->debug_hits);
    vcpu->debug_hits = 0;
}

void vcpu_skip_instruction(struct vcpu *vcpu)
{
    EXPECT_GUEST(vcpu);
    vcpu_skip_from(vcpu->exit.rip, vcpu->exit.instruction_length, vmcs_read(GUEST_RFLAGS));
    skip_completed(vcpu);
}

/* The trap and the end of blocking are the iteration's; RF keeps an instruction breakpoint from being met at each. */
void vcpu_repeat_instruction(struct vcpu *vcpu)
{
    EXPECT_GUEST(vcpu);
    uint64_t rflags = vmcs_read(GUEST_RFLAGS);
    if (options.fault == FAULT_DROP_REPEAT_TRAP)
        vcpu_not_completed();
    else
        skip_trap(rflags);
    skip_shadows();
    vmcs_write(GUEST_RFLAGS, rflags | RFLAGS_RF);
    skip_completed(vcpu);
}

void vcpu_not_completed(void)
{
    if ((vmcs_read(GUEST_RFLAGS) & RFLAGS_TF) && !(vmcs_read(GUEST_INTERRUPTIBILITY) & BLOCKING_BY_MOV_SS))
        vmcs_write(GUEST_PENDING_DEBUG, 0);
}
