/* RDMSR and WRMSR of an MSR that Nestor keeps, or that lies in neither range of the bitmap. */
#include "vmx/event.h"
#include "vmx/exit_handlers.h"
#include "vmx/msr_guest.h"
#include "vmx/run.h"
#include "vmx/skip.h"

void exit_rdmsr(struct vcpu *vcpu)
{
    uint64_t value;
    if (!msr_guest_read(vcpu, (uint32_t)vcpu->regs[RCX], &value)) {
        event_inject_gp(vcpu, 0);
        return;
    }
    vcpu->regs[RAX] = (uint32_t)value;
    vcpu->regs[RDX] = value >> 32;
    vcpu_skip_instruction(vcpu);
}

void exit_wrmsr(struct vcpu *vcpu)
{
    uint64_t value = vcpu->regs[RDX] << 32 | (uint32_t)vcpu->regs[RAX];
    if (!msr_guest_write(vcpu, (uint32_t)vcpu->regs[RCX], value)) {
        event_inject_gp(vcpu, 0);
        return;
    }
    vcpu_skip_instruction(vcpu);
}
