/* The capabilities that all processors of a machine have: hybrid CPUs need not be alike. */
#include "kernel/msr.h"
#include "vmx/caps.h"
#include "vmx/vmx_bits.h"

#define BASIC_MUST_AGREE (VMX_BASIC_REVISION | VMX_BASIC_MEMORY_TYPE)
#define BASIC_FLAGS                                                                                                    \
    (VMX_BASIC_DUAL_MONITOR | VMX_BASIC_INS_OUTS_INFO | VMX_BASIC_TRUE_CONTROLS | VMX_BASIC_NO_ERROR_CODE_CHECK)
#define MISC_FLAGS                                                                                                     \
    (VMX_MISC_STORE_LMA | VMX_MISC_ACTIVITY_HLT | VMX_MISC_ACTIVITY_SHUTDOWN | VMX_MISC_ACTIVITY_WAIT_SIPI |           \
     VMX_MISC_PT | VMX_MISC_SMBASE_IN_SMM | VMX_MISC_SMM_BLOCK_CTL | VMX_MISC_VMWRITE_ANY | VMX_MISC_INJECT_LENGTH0)

unsigned caps_usable_bits(unsigned address_bits, uint64_t tme_activate)
{
    unsigned key_bits = (unsigned)GET(tme_activate, TME_ACTIVATE_KEYID_BITS);
    bool on = (tme_activate & TME_ACTIVATE_LOCK) && (tme_activate & TME_ACTIVATE_ENABLE);

    return on && key_bits < address_bits ? address_bits - key_bits : address_bits;
}

void caps_choose_invvpid(struct vmx_caps *caps)
{
    caps->vpid_flush = 0;
    if ((caps->proc2.may & PROC2_VPID) && (caps->ept_vpid & VPID_CAP_INVVPID))
        caps->vpid_flush = caps->ept_vpid & VPID_CAP_SINGLE ? INVVPID_SINGLE
                           : caps->ept_vpid & VPID_CAP_ALL  ? INVVPID_ALL
                                                            : 0;
    if (!caps->vpid_flush)
        caps->proc2.may &= ~(uint32_t)PROC2_VPID;
}

/* False: what one must have the other cannot. */
static bool controls_meet(struct ctl_caps *common, struct ctl_caps other)
{
    common->must |= other.must;
    common->may &= other.may;
    return (common->must & ~common->may) == 0;
}

/* Both sets of each word must leave some value that all processors take. NULL, or what is missing. */
static const char *control_words_meet(struct vmx_caps *common, const struct vmx_caps *other)
{
    bool pin = controls_meet(&common->pin, other->pin);
    pin &= controls_meet(&common->old_pin, other->old_pin);
    bool proc = controls_meet(&common->proc, other->proc);
    proc &= controls_meet(&common->old_proc, other->old_proc);
    bool proc2 = controls_meet(&common->proc2, other->proc2);
    bool exit = controls_meet(&common->exit, other->exit);
    exit &= controls_meet(&common->old_exit, other->old_exit);
    bool entry = controls_meet(&common->entry, other->entry);
    entry &= controls_meet(&common->old_entry, other->old_entry);

    if (!pin)
        return "one set of pin-based VM-execution controls";
    if (!proc)
        return "one set of primary processor-based VM-execution controls";
    if (!proc2)
        return "one set of secondary processor-based VM-execution controls";
    if (!exit)
        return "one set of VM-exit controls";
    return entry ? NULL : "one set of VM-entry controls";
}

/* Fixed bits add up, widths are the smaller ones. NULL, or what is missing. */
static const char *registers_meet(struct vmx_caps *common, const struct vmx_caps *other)
{
    common->cr0_fixed0 |= other->cr0_fixed0;
    common->cr0_fixed1 &= other->cr0_fixed1;
    common->cr4_fixed0 |= other->cr4_fixed0;
    common->cr4_fixed1 &= other->cr4_fixed1;
    if ((common->cr0_fixed0 & ~common->cr0_fixed1) || (common->cr4_fixed0 & ~common->cr4_fixed1))
        return "one set of fixed bits in CR0 and CR4";
    common->address_bits = MIN(common->address_bits, other->address_bits);
    common->usable_bits = MIN(common->usable_bits, other->usable_bits);
    common->address_mask &= other->address_mask;
    common->cr3_flags &= other->cr3_flags;
    common->linear_bits = MIN(common->linear_bits, other->linear_bits);
    return NULL;
}

/* Flags that both have; limits that both keep. */
static void misc_meets(struct vmx_caps *common, const struct vmx_caps *other)
{
    uint64_t a = common->misc, b = other->misc;

    common->misc = (a & b & MISC_FLAGS) | (a & (VMX_MISC_TIMER_RATE | VMX_MISC_MSEG_REVISION)) |
                   PUT(MIN(GET(a, VMX_MISC_CR3_TARGETS), GET(b, VMX_MISC_CR3_TARGETS)), VMX_MISC_CR3_TARGETS) |
                   PUT(MIN(GET(a, VMX_MISC_MSR_LIST_MAX), GET(b, VMX_MISC_MSR_LIST_MAX)), VMX_MISC_MSR_LIST_MAX);
    if ((a ^ b) & VMX_MISC_TIMER_RATE) { /* an L2 that moves would find another unit of time */
        common->pin.may &= ~(uint32_t)PIN_PREEMPTION_TIMER;
        common->old_pin.may &= ~(uint32_t)PIN_PREEMPTION_TIMER;
        common->exit.may &= ~(uint32_t)EXITC_SAVE_TIMER;
        common->old_exit.may &= ~(uint32_t)EXITC_SAVE_TIMER;
    }
}

/* Virtual processors stay where they are, but L1 moves its L2s between them: a VMCS region that one processor wrote
 * must mean the same to the other, hence the same revision. Of everything else L1 is offered the part that both
 * have. */
const char *caps_meet(struct vmx_caps *common, const struct vmx_caps *other)
{
    const char *missing;

    if ((common->basic ^ other->basic) & BASIC_MUST_AGREE)
        return "one VMCS revision and memory type";
    common->basic = (common->basic & BASIC_MUST_AGREE) | (common->basic & other->basic & BASIC_FLAGS) |
                    ((common->basic | other->basic) & VMX_BASIC_32BIT_ADDRESSES) |
                    (MAX(common->basic & VMX_BASIC_REGION_SIZE, other->basic & VMX_BASIC_REGION_SIZE));
    if ((missing = control_words_meet(common, other)) || (missing = registers_meet(common, other)))
        return missing;
    misc_meets(common, other);
    common->proc3 &= other->proc3;
    common->exit2 &= other->exit2;
    common->spec_ctrl &= other->spec_ctrl;
    common->pending_debug &= other->pending_debug;
    common->ept_vpid &= other->ept_vpid;
    common->vmfunc &= other->vmfunc;
    common->vmcs_enum = MIN(common->vmcs_enum, other->vmcs_enum);
    caps_choose_invvpid(common);
    return caps_missing(common);
}
