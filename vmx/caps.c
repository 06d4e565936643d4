/* The capability MSRs, 480H and up, read in the order in which one says whether the next exists: one that the CPU
 * lacks would be #GP, in root operation before there is anybody to report to. SDM 3D A.2 "Reserved Controls and
 * Default Settings" */
#include "vmx/caps.h"

#include "kernel/msr.h"
#include "kernel/safe.h"
#include "kernel/x86.h"
#include "vmx/vmx_bits.h"
#include "vmx/vmx_insn.h"

#define CPUID_ADDRESS_SIZES 0x80000008u
#define ADDRESS_SIZES_PHYSICAL BITS(7, 0)
#define ADDRESS_SIZES_LINEAR BITS(15, 8)

/* Low half: bits that must be 1. High half: bits that may be 1. SDM 3D A.2 "Reserved Controls and Default Settings" */
static struct ctl_caps read_controls(uint32_t msr)
{
    uint64_t value = rdmsr(msr);

    return (struct ctl_caps){.must = (uint32_t)value, .may = (uint32_t)(value >> 32)};
}

/* Where the CPU has the TRUE MSRs they say which default1 controls may be 0 after all; the old ones stay, as L1 may
 * read them. */
static void read_primary_controls(struct vmx_caps *caps)
{
    bool true_controls = caps->basic & VMX_BASIC_TRUE_CONTROLS;

    caps->old_pin = read_controls(IA32_VMX_PINBASED_CTLS);
    caps->old_proc = read_controls(IA32_VMX_PROCBASED_CTLS);
    caps->old_exit = read_controls(IA32_VMX_EXIT_CTLS);
    caps->old_entry = read_controls(IA32_VMX_ENTRY_CTLS);
    caps->pin = true_controls ? read_controls(IA32_VMX_TRUE_PINBASED_CTLS) : caps->old_pin;
    caps->proc = true_controls ? read_controls(IA32_VMX_TRUE_PROCBASED_CTLS) : caps->old_proc;
    caps->exit = true_controls ? read_controls(IA32_VMX_TRUE_EXIT_CTLS) : caps->old_exit;
    caps->entry = true_controls ? read_controls(IA32_VMX_TRUE_ENTRY_CTLS) : caps->old_entry;
}

/* No capability MSR names them. */
static uint64_t find_spec_ctrl_bits(void)
{
    uint64_t own, bits = 0;

    if (!rdmsr_safe(IA32_SPEC_CTRL, &own))
        return 0;
    for (unsigned bit = 0; bit < 64; bit++)
        if (wrmsr_safe(IA32_SPEC_CTRL, BIT(bit)))
            bits |= BIT(bit);
    wrmsr(IA32_SPEC_CTRL, own);
    return bits;
}

/* An MSR that a missing feature takes away must not be read: #GP (SDM 3D A.3.3, A.10, A.11). */
static void read_optional_msrs(struct vmx_caps *caps)
{
    if (caps->proc.may & PROC_SECONDARY)
        caps->proc2 = read_controls(IA32_VMX_PROCBASED_CTLS2);
    if (caps->proc.may & PROC_TERTIARY)
        caps->proc3 = rdmsr(IA32_VMX_PROCBASED_CTLS3);
    if (caps->proc2.may & (PROC2_EPT | PROC2_VPID))
        caps->ept_vpid = rdmsr(IA32_VMX_EPT_VPID_CAP);
    if (caps->exit.may & EXITC_SECONDARY)
        caps->exit2 = rdmsr(IA32_VMX_EXIT_CTLS2);
    if (caps->exit2 & EXIT2_LOAD_SPEC_CTRL)
        caps->spec_ctrl = find_spec_ctrl_bits();
    caps_choose_invvpid(caps);
    if (caps->proc2.may & PROC2_VMFUNC)
        caps->vmfunc = rdmsr(IA32_VMX_VMFUNC);
}

/* CPUID.7.0:ECX[13]. SDM 4, table "IA-32 Architectural MSRs" */
static bool has_memory_encryption(void)
{
    return cpuid(0, 0).eax >= 7 && (cpuid(7, 0).ecx & BIT(13));
}

/* CPUID.7.1:EAX[26]. SDM 2A "CPUID—CPU Identification" */
static bool has_linear_address_masking(void)
{
    return cpuid(0, 0).eax >= 7 && cpuid(7, 0).eax >= 1 && (cpuid(7, 1).eax & BIT(26));
}

/* Bus-lock detection is CPUID.7.0:ECX[24], RTM is EBX[11]. SDM 2A "CPUID—CPU Identification" */
static uint64_t pending_debug_kinds(void)
{
    struct cpuid_result features = cpuid(0, 0);

    if (features.eax < 7)
        return 0;
    features = cpuid(7, 0);
    return (features.ecx & BIT(24) ? PENDING_DEBUG_BUS_LOCK : 0) | (features.ebx & BIT(11) ? PENDING_DEBUG_RTM : 0);
}

/* On each processor. Nothing is judged here: caps_meet() reduces the results to what all have in common, and only then
 * caps_missing() says whether that is enough. */
void caps_read(struct vmx_caps *caps)
{
    uint32_t sizes = cpuid(CPUID_ADDRESS_SIZES, 0).eax;

    *caps = (struct vmx_caps){
        .basic = rdmsr(IA32_VMX_BASIC),
        .misc = rdmsr(IA32_VMX_MISC),
        .vmcs_enum = rdmsr(IA32_VMX_VMCS_ENUM),
        .cr0_fixed0 = rdmsr(IA32_VMX_CR0_FIXED0),
        .cr0_fixed1 = rdmsr(IA32_VMX_CR0_FIXED1),
        .cr4_fixed0 = rdmsr(IA32_VMX_CR4_FIXED0),
        .cr4_fixed1 = rdmsr(IA32_VMX_CR4_FIXED1),
        .address_bits = (unsigned)GET(sizes, ADDRESS_SIZES_PHYSICAL),
        .address_mask = BITS((unsigned)GET(sizes, ADDRESS_SIZES_PHYSICAL) - 1, 12),
        .pending_debug = pending_debug_kinds(),
        .linear_bits = (unsigned)GET(sizes, ADDRESS_SIZES_LINEAR),
    };
    if (has_linear_address_masking())
        caps->cr3_flags = CR3_LAM_U48 | CR3_LAM_U57;
    caps->usable_bits = caps_usable_bits(caps->address_bits, has_memory_encryption() ? rdmsr(IA32_TME_ACTIVATE) : 0);
    read_primary_controls(caps);
    read_optional_msrs(caps);
}
