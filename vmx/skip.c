#include "vmx/skip.h"

void vcpu_skip_instruction(struct vcpu *vcpu)
{
    vcpu_skip_from(vcpu->exit.rip, vcpu->exit.instruction_length, vmcs_read(GUEST_RFLAGS));
}

void vcpu_skip_with_flags(struct vcpu *vcpu, uint64_t rflags)
{
    vmcs_write(GUEST_RFLAGS, rflags);
    vcpu_skip_from(vcpu->exit.rip, vcpu->exit.instruction_length, rflags);
}
