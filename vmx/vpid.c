#include "vmx/vpid.h"

#include "kernel/panic.h"
#include "vmx/insn.h"

void vpid_flush(const struct vcpu *vcpu, uint16_t vpid)
{
    uint64_t caps = vcpu->vm->caps.ept_vpid;
    struct invalidate_descriptor descriptor = {.context = vpid};
    if (!(vcpu->vm->caps.proc2.may & PROC2_VPID) || !(caps & VPID_CAP_INVVPID))
        return;
    ASSERT(insn_invvpid(caps & VPID_CAP_SINGLE ? INVVPID_SINGLE : INVVPID_ALL, descriptor));
}

void vpid_flush_l1(const struct vcpu *vcpu)
{
    vpid_flush(vcpu, VPID_L1);
}
