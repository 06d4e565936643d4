/* INVEPT and INVVPID. */
#include "kernel/x86.h"
#include "nested/check.h"
#include "nested/insn.h"
#include "nested/vpid.h"
#include "vmx/event.h"
#include "vmx/insn.h"
#include "vmx/operand.h"

static uint64_t operand_type(struct vcpu *vcpu)
{
    return operand_register_read(vcpu, (unsigned)GET(vcpu->exit.instruction_info, INSN_INFO_REG2), operand_long_mode());
}

/* The 128-bit descriptor is read whatever the type. False: the fault is queued. */
static bool read_descriptor(struct vcpu *vcpu, struct invalidate_descriptor *descriptor)
{
    struct fault fault;
    if (operand_read(vcpu, descriptor, sizeof(*descriptor), &fault))
        return true;
    event_inject(vcpu, &fault);
    return false;
}

void insn_exit_invept(struct vcpu *vcpu)
{
    const struct vmx_caps *caps = &vcpu->vm->caps12;
    struct invalidate_descriptor descriptor;
    uint64_t type = operand_type(vcpu);
    if (!(caps->proc2.may & PROC2_EPT) || !(caps->ept_vpid & EPT_CAP_INVEPT)) {
        event_inject_ud(vcpu);
        return;
    }
    if (!insn_permitted(vcpu))
        return;
    bool supported = (type == INVEPT_SINGLE && (caps->ept_vpid & EPT_CAP_INVEPT_SINGLE)) ||
                     (type == INVEPT_ALL && (caps->ept_vpid & EPT_CAP_INVEPT_ALL));
    if (!supported) {
        insn_fail(vcpu, VMXERR_INVALID_OPERAND);
        return;
    }
    if (!read_descriptor(vcpu, &descriptor))
        return;
    /* Bits 127:64 are not looked at: L1s leave junk there, and real CPUs accept it. */
    if (type == INVEPT_SINGLE && !check_eptp(caps, descriptor.context)) {
        insn_fail(vcpu, VMXERR_INVALID_OPERAND);
        return;
    }
    if (type == INVEPT_SINGLE)
        ept12_invept_single(&vcpu->nested->ept12, descriptor.context);
    else
        ept12_invept_all(&vcpu->nested->ept12);
    insn_succeed(vcpu);
}

static bool is_canonical(const struct vmx_caps *caps, gva_t address)
{
    uint64_t sign = BITS(63, caps->linear_bits - 1);
    return (address & sign) == 0 || (address & sign) == sign;
}

static bool invvpid_operands_valid(const struct vmx_caps *caps, uint64_t type,
                                   const struct invalidate_descriptor *descriptor)
{
    if (descriptor->context >> 16)
        return false;
    if (type != INVVPID_ALL && !descriptor->context)
        return false;
    return type != INVVPID_ADDRESS || is_canonical(caps, descriptor->address);
}

void insn_exit_invvpid(struct vcpu *vcpu)
{
    const struct vmx_caps *caps = &vcpu->vm->caps12;
    struct invalidate_descriptor descriptor;
    uint64_t type = operand_type(vcpu);
    if (!(caps->proc2.may & PROC2_VPID) || !(caps->ept_vpid & VPID_CAP_INVVPID)) {
        event_inject_ud(vcpu);
        return;
    }
    if (!insn_permitted(vcpu))
        return;
    if (type > INVVPID_SINGLE_NONGLOBAL || !(caps->ept_vpid & VPID_CAP_ADDRESS << type)) {
        insn_fail(vcpu, VMXERR_INVALID_OPERAND);
        return;
    }
    if (!read_descriptor(vcpu, &descriptor))
        return;
    if (!invvpid_operands_valid(caps, type, &descriptor)) {
        insn_fail(vcpu, VMXERR_INVALID_OPERAND);
        return;
    }
    nested_vpid_invalidate(vcpu->nested, (unsigned)type, (uint16_t)descriptor.context, descriptor.address);
    insn_succeed(vcpu);
}
