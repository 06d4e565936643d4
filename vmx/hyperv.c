/* L1's synthetic MSRs, and VMCALL as a hypercall. */
#include "vmx/hyperv.h"

#include "vmx/event.h"
#include "vmx/hooks.h"
#include "vmx/operand.h"
#include "vmx/refusal.h"
#include "vmx/skip.h"
#include "vmx/vcpu.h"

#define HV_GUEST_OS_ID 0x40000000u
#define HV_HYPERCALL 0x40000001u
#define HV_VP_INDEX 0x40000002u
#define HV_VP_ASSIST_PAGE 0x40000073u

#define HYPERCALL_LOCKED BIT(1)
#define HV_STATUS_INVALID_HYPERCALL_CODE 2u

/* Of L2 an access to an MSR outside the ranges of a bitmap is L1's; what comes here for L2 is an entry of L1's lists,
 * and these MSRs are none that L2 has. */
bool hyperv_has_msr(const struct vcpu *vcpu, uint32_t msr)
{
    if (!vcpu->vm->cpuid.hyperv || vcpu->in_l2)
        return false;
    return msr == HV_GUEST_OS_ID || msr == HV_HYPERCALL || msr == HV_VP_INDEX || msr == HV_VP_ASSIST_PAGE;
}

static unsigned vp_index(const struct vcpu *vcpu)
{
    unsigned index = 0;
    while (vcpu->vm->vcpu[index] != vcpu)
        index++;
    return index;
}

bool hyperv_read(const struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
    switch (msr) {
    case HV_GUEST_OS_ID:
        *value = vcpu->vm->hyperv.guest_os;
        return true;
    case HV_HYPERCALL:
        *value = vcpu->vm->hyperv.hypercall;
        return true;
    case HV_VP_INDEX:
        *value = vp_index(vcpu);
        return true;
    default:
        *value = vcpu->vp_assist;
        return true;
    }
}

/* A page that is named must be RAM of L1. */
static bool page_holds(const struct vcpu *vcpu, uint64_t value)
{
    return !(value & HYPERV_ENABLE) || gmem_is_ram(&vcpu->vm->gmem, ALIGN_DOWN(value, PAGE_SIZE));
}

/* The page gets the instructions that make a hypercall: VMCALL, RET. Without an identity of the guest it cannot be
 * enabled. */
static bool write_hypercall(struct vm *vm, uint64_t value)
{
    static const uint8_t code[] = {0x0f, 0x01, 0xc1, 0xc3};
    if (vm->hyperv.hypercall & HYPERCALL_LOCKED)
        return true;
    if (!vm->hyperv.guest_os)
        value &= ~HYPERV_ENABLE;
    vm->hyperv.hypercall = value;
    if (value & HYPERV_ENABLE)
        (void)gmem_write(&vm->gmem, ALIGN_DOWN(value, PAGE_SIZE), code, sizeof code);
    return true;
}

bool hyperv_write(struct vcpu *vcpu, uint32_t msr, uint64_t value)
{
    struct hyperv *hyperv = &vcpu->vm->hyperv;
    switch (msr) {
    case HV_GUEST_OS_ID:
        hyperv->guest_os = value;
        if (!value)
            hyperv->hypercall &= ~HYPERV_ENABLE;
        return true;
    case HV_HYPERCALL:
        return page_holds(vcpu, value) && write_hypercall(vcpu->vm, value);
    case HV_VP_ASSIST_PAGE:
        if (!page_holds(vcpu, value))
            return false;
        vcpu->vp_assist = value;
        nested_hooks.vp_assist_changed(vcpu);
        return true;
    default: /* the index is read-only */
        return false;
    }
}

bool hyperv_takes_vmcall(const struct vm *vm)
{
    return (vm->hyperv.hypercall & HYPERV_ENABLE) != 0;
}

/* The result is in RAX, or in EDX:EAX outside 64-bit mode. TLFS, "Hypercall Interface" */
void hyperv_call(struct vcpu *vcpu)
{
    if (operand_cpl() > 0) {
        refusal_log(vcpu, REFUSAL_HYPERCALL_CPL, operand_cpl(), 0);
        event_inject_ud(vcpu);
        return;
    }
    refusal_log(vcpu, REFUSAL_HYPERCALL, vcpu->regs[RCX], 0);
    vcpu->regs[RAX] = HV_STATUS_INVALID_HYPERCALL_CODE;
    if (!operand_long_mode())
        vcpu->regs[RDX] = 0;
    vcpu_skip_instruction(vcpu);
}
