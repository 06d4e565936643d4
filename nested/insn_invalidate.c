/* INVEPT and INVVPID of L1. Neither is handed to the CPU as it is: EPTPs and VPIDs of L1 are not the hardware's.
 * INVEPT becomes a debt of the EPT02s that it names, paid before the next entry that uses them; INVVPID becomes one
 * of the hardware VPID that serves L1's. SDM 3C 29.4.3.1 "Operations that Invalidate Cached Mappings" */
#include "kernel/cmdline.h"
#include "kernel/x86.h"
#include "nested/insn.h"
#include "nested/lint.h"
#include "nested/rules/check.h"
#include "nested/vpid12.h"
#include "vmx/event.h"
#include "vmx/operand.h"
#include "vmx/refusal.h"
#include "vmx/vmcs_setup.h"
#include "vmx/vmx_insn.h"

/* The register operand holds the type; its number is in the instruction information. */
static uint64_t operand_type(struct vcpu *vcpu)
{
    return operand_register_read(vcpu, (unsigned)GET(vcpu->exit.instruction_info, INSN_INFO_REG2), operand_long_mode());
}

/* The 128-bit descriptor is read whatever the type. False: the fault is queued. */
static bool read_descriptor(struct vcpu *vcpu, struct invalidate_descriptor *descriptor)
{
    struct fault fault;
    const struct invalidate_descriptor *plain = operand_plain(vcpu, sizeof(*descriptor));
    if (plain) {
        *descriptor = *plain;
        return true;
    }
    if (operand_read(vcpu, descriptor, sizeof(*descriptor), &fault))
        return true;
    event_inject(vcpu, &fault);
    return false;
}

/* Types 1 and 2 have capability bits of their own; all other types are VMfail 28. */
static bool invept_type_supported(const struct vmx_caps *caps, uint64_t type)
{
    return (type == INVEPT_SINGLE && (caps->ept_vpid & EPT_CAP_INVEPT_SINGLE)) ||
           (type == INVEPT_ALL && (caps->ept_vpid & EPT_CAP_INVEPT_ALL));
}

/* Another one of the same EPTP owes no more, until L2 is entered: vmx/straight_l1.asm. */
static inline void owe_single(struct vcpu *vcpu, uint64_t eptp12)
{
    ept02_invept_single(&vcpu->nested->ept02s, eptp12);
    straight_of(vcpu->cpu)->eptp_owed = eptp12;
    straight_of(vcpu->cpu)->eptp_is_owed = options.fault == NO_INJECTED_FAULT;
}

/* An EPTP that has passed the checks before; of that type alone it is kept. */
bool insn_invept_usual(struct vcpu *vcpu, uint64_t type, uint64_t eptp12)
{
    EXPECT_CURRENT(vcpu->vmcs01);
    bool single = type == INVEPT_SINGLE && eptp12 && eptp12 == vcpu->nested->eptp12_valid;
    if (!single && (type != INVEPT_ALL || !invept_type_supported(&vcpu->vm->caps12, type)))
        return false;
    straight_of(vcpu->cpu)->quiet = 0; /* the next entry has it to pay */
    sppt02_invept(&vcpu->nested->sppt02);
    if (single)
        owe_single(vcpu, eptp12);
    else
        ept02_invept_all(&vcpu->nested->ept02s);
    return true;
}

/* Bits 127:64 of the descriptor are not looked at: L1s leave junk there, and real CPUs accept it. */
static ALWAYS_INLINE void invept(struct vcpu *vcpu, uint64_t type, uint64_t eptp12, bool plain)
{
    struct nested *nested = vcpu->nested;
    sppt02_invept(&nested->sppt02); /* of whichever EPTP */
    if (type == INVEPT_ALL) {
        ept02_invept_all(&nested->ept02s);
    } else if (eptp12 == nested->eptp12_valid || check_eptp(&vcpu->vm->caps12, eptp12)) {
        nested->eptp12_valid = eptp12;
        owe_single(vcpu, eptp12);
    } else {
        refusal_log(vcpu, REFUSAL_INVEPT_EPTP, eptp12, 0);
        insn_fail(vcpu, VMXERR_INVALID_OPERAND);
        return;
    }
    if (plain)
        insn_succeed_plain(vcpu);
    else
        insn_succeed(vcpu);
}

/* The order of the SDM: #UD for an instruction that L1 is not offered, then mode and CPL, the type, and last the
 * descriptor, whose read may fault. */
static NOINLINE void invept_any(struct vcpu *vcpu)
{
    const struct vmx_caps *caps = &vcpu->vm->caps12;
    struct invalidate_descriptor descriptor;
    uint64_t type = operand_type(vcpu);
    if (!(caps->proc2.may & PROC2_EPT) || !(caps->ept_vpid & EPT_CAP_INVEPT)) {
        refusal_log(vcpu, REFUSAL_INVALIDATE_ABSENT, caps->ept_vpid, 0);
        event_inject_ud(vcpu);
        return;
    }
    if (!insn_permitted(vcpu))
        return;
    if (!invept_type_supported(caps, type)) {
        refusal_log(vcpu, REFUSAL_INVALIDATE_TYPE, type, caps->ept_vpid);
        insn_fail(vcpu, VMXERR_INVALID_OPERAND);
        return;
    }
    if (read_descriptor(vcpu, &descriptor))
        invept(vcpu, type, descriptor.context, false);
}

/* KVM executes INVEPT often, with a descriptor on its kernel's stack: that form needs no check beyond the operand's. */
void insn_exit_invept(struct vcpu *vcpu)
{
    /* That a plain operand was found says 64-bit mode and CPL 0, and has read RSP. */
    const struct invalidate_descriptor *plain =
        vcpu->nested->vmxon ? operand_plain(vcpu, sizeof(struct invalidate_descriptor)) : NULL;
    uint64_t type = vcpu->regs[GET(vcpu->exit.instruction_info, INSN_INFO_REG2)];
    if (plain && invept_type_supported(&vcpu->vm->caps12, type))
        invept(vcpu, type, __atomic_load_n(&plain->context, __ATOMIC_RELAXED), true);
    else
        invept_any(vcpu);
}

/* Reserved bits 63:16, VPID 0000H where a VPID is named, and an address that is not canonical: VMfail 28 each. SDM 3C
 * 31.3 "VMX Instructions" */
static bool invvpid_operands_valid(const struct vmx_caps *caps, uint64_t type,
                                   const struct invalidate_descriptor *descriptor)
{
    if (descriptor->context >> 16)
        return false;
    if (type != INVVPID_ALL && !descriptor->context)
        return false;
    return type != INVVPID_ADDRESS || x86_is_canonical(descriptor->address, caps->linear_bits);
}

static bool invvpid_offered(const struct vmx_caps *caps)
{
    return (caps->proc2.may & PROC2_VPID) && (caps->ept_vpid & VPID_CAP_INVVPID);
}

/* The four types are numbered as their capability bits lie, from bit 40 on. */
static bool invvpid_type_supported(const struct vmx_caps *caps, uint64_t type)
{
    return type <= INVVPID_SINGLE_NONGLOBAL && (caps->ept_vpid & VPID_CAP_ADDRESS << type);
}

/* Done at once, by the CPU: no entry has anything to look at for it. */
static void invvpid(struct vcpu *vcpu, uint64_t type, const struct invalidate_descriptor *descriptor)
{
    uint16_t vpid12 = (uint16_t)descriptor->context;
    if (type != INVVPID_ADDRESS)
        lint_invvpid(vcpu->nested, type == INVVPID_ALL ? 0 : vpid12);
    nested_vpid_invalidate(vcpu->nested, (unsigned)type, vpid12, descriptor->address);
}

bool insn_invvpid_usual(struct vcpu *vcpu, uint64_t type, const struct invalidate_descriptor *operand)
{
    EXPECT_CURRENT(vcpu->vmcs01);
    const struct vmx_caps *caps = &vcpu->vm->caps12;
    const struct invalidate_descriptor descriptor = *operand;
    if (!invvpid_offered(caps) || !invvpid_type_supported(caps, type) ||
        !invvpid_operands_valid(caps, type, &descriptor))
        return false;
    invvpid(vcpu, type, &descriptor);
    return true;
}

void insn_exit_invvpid(struct vcpu *vcpu)
{
    const struct vmx_caps *caps = &vcpu->vm->caps12;
    struct invalidate_descriptor descriptor;
    uint64_t type = operand_type(vcpu);
    if (!invvpid_offered(caps)) {
        refusal_log(vcpu, REFUSAL_INVALIDATE_ABSENT, caps->ept_vpid, 0);
        event_inject_ud(vcpu);
        return;
    }
    if (!insn_permitted(vcpu))
        return;
    if (!invvpid_type_supported(caps, type)) {
        refusal_log(vcpu, REFUSAL_INVALIDATE_TYPE, type, caps->ept_vpid);
        insn_fail(vcpu, VMXERR_INVALID_OPERAND);
        return;
    }
    if (!read_descriptor(vcpu, &descriptor))
        return;
    if (!invvpid_operands_valid(caps, type, &descriptor)) {
        refusal_log(vcpu, REFUSAL_INVVPID_OPERAND, descriptor.context, descriptor.address);
        insn_fail(vcpu, VMXERR_INVALID_OPERAND);
        return;
    }
    invvpid(vcpu, type, &descriptor);
    insn_succeed(vcpu);
}
