/* Each capability that L1 sees is the AND of two lists: what the CPU has, and what Nestor virtualises. Nothing is
 * offered by version or by model. A bit that must be 1 stays so even if Nestor has no use for it: L1 could not set
 * up an entry that the CPU accepts otherwise. Some features exist in pairs or need others; drop_halves() and
 * drop_dependents() take away what would be left alone. SDM 3D A.2 "Reserved Controls and Default Settings" */
#include "nested/rules/caps12.h"

#include "kernel/msr.h"
#include "kernel/x86_bits.h"
#include "nested/rules/vmcs12.h"
#include "vmx/vmcs_exists.h"
#include "vmx/vmx_bits.h"

/* The features that Nestor virtualises: THE list. A feature joins by a line here once nested/ does it; what the CPU
 * lacks drops out by itself. */
#define VIRTUAL_PIN (PIN_EXTERNAL_INTERRUPT | PIN_NMI | PIN_VIRTUAL_NMIS | PIN_PREEMPTION_TIMER | PIN_POSTED_INTERRUPTS)
#define VIRTUAL_PROC                                                                                                   \
    (PROC_INTERRUPT_WINDOW | PROC_TSC_OFFSETTING | PROC_HLT | PROC_INVLPG | PROC_MWAIT | PROC_RDPMC | PROC_RDTSC |     \
     PROC_CR3_LOAD | PROC_CR3_STORE | PROC_CR8_LOAD | PROC_CR8_STORE | PROC_TPR_SHADOW | PROC_NMI_WINDOW |             \
     PROC_MOV_DR | PROC_UNCOND_IO | PROC_USE_IO_BITMAPS | PROC_MONITOR_TRAP | PROC_USE_MSR_BITMAPS | PROC_MONITOR |    \
     PROC_PAUSE | PROC_SECONDARY | PROC_TERTIARY)
#define VIRTUAL_PROC2                                                                                                  \
    (PROC2_APIC_ACCESS | PROC2_EPT | PROC2_DESC_TABLE | PROC2_RDTSCP | PROC2_X2APIC | PROC2_VPID | PROC2_WBINVD |      \
     PROC2_UNRESTRICTED | PROC2_APIC_REGISTER | PROC2_VIRTUAL_INTERRUPTS | PROC2_PAUSE_LOOP | PROC2_RDRAND |           \
     PROC2_INVPCID | PROC2_RDSEED | PROC2_XSAVES | PROC2_TSC_SCALING | PROC2_PML | PROC2_VMFUNC | PROC2_EPT_VE |       \
     PROC2_VMCS_SHADOWING | PROC2_MODE_BASED_EXECUTE | PROC2_USER_WAIT | PROC2_SPP)
#define VIRTUAL_PROC3 (PROC3_MSR_LIST | PROC3_SPEC_CTRL)
#define VIRTUAL_EXIT2 EXIT2_LOAD_SPEC_CTRL
#define VIRTUAL_EXIT                                                                                                   \
    (EXITC_SAVE_DEBUG | EXITC_HOST_64 | EXITC_ACK_INTERRUPT | EXITC_SAVE_PAT | EXITC_LOAD_PAT | EXITC_SAVE_EFER |      \
     EXITC_LOAD_EFER | EXITC_SAVE_TIMER | EXITC_CLEAR_UINV | EXITC_LOAD_CET | EXITC_LOAD_PKRS |                        \
     EXITC_LOAD_PERF_GLOBAL | EXITC_SAVE_PERF_GLOBAL | EXITC_SECONDARY)
#define VIRTUAL_ENTRY                                                                                                  \
    (ENTRY_LOAD_DEBUG | ENTRY_GUEST_64 | ENTRY_LOAD_PAT | ENTRY_LOAD_EFER | ENTRY_LOAD_UINV | ENTRY_LOAD_CET |         \
     ENTRY_LOAD_PKRS | ENTRY_LOAD_PERF_GLOBAL)
#define VIRTUAL_EPT                                                                                                    \
    (EPT_CAP_EXEC_ONLY | EPT_CAP_WALK4 | EPT_CAP_UC | EPT_CAP_WB | EPT_CAP_2M | EPT_CAP_1G | EPT_CAP_INVEPT |          \
     EPT_CAP_AD | EPT_CAP_ADVANCED_INFO | EPT_CAP_INVEPT_SINGLE | EPT_CAP_INVEPT_ALL)
#define VIRTUAL_VPID (VPID_CAP_INVVPID | VPID_CAP_ADDRESS | VPID_CAP_SINGLE | VPID_CAP_ALL | VPID_CAP_SINGLE_NONGLOBAL)
#define VIRTUAL_MISC                                                                                                   \
    (VMX_MISC_TIMER_RATE | VMX_MISC_STORE_LMA | VMX_MISC_ACTIVITY_HLT | VMX_MISC_ACTIVITY_WAIT_SIPI |                  \
     VMX_MISC_CR3_TARGETS | VMX_MISC_MSR_LIST_MAX | VMX_MISC_VMWRITE_ANY | VMX_MISC_INJECT_LENGTH0)
#define VIRTUAL_BASIC (VMX_BASIC_INS_OUTS_INFO | VMX_BASIC_TRUE_CONTROLS | VMX_BASIC_NO_ERROR_CODE_CHECK)
#define HIDDEN_CR4 (CR4_SMXE | CR4_KL | CR4_FRED) /* CPUID hides what they turn on */
#define VIRTUAL_VMFUNC BIT(0)                     /* EPTP switching */

#define MEMORY_TYPE_WB 6

/* Bits that must be 1 stay (the default1 class and what the CPU insists on); of the others, those that the list has. */
static struct ctl_caps offer(struct ctl_caps cpu, uint64_t virtualised)
{
    return (struct ctl_caps){.must = cpu.must, .may = (cpu.may & (uint32_t)virtualised) | cpu.must};
}

/* Drops capabilities whose feature is not offered: a CPU without the feature would not have them either. */
static void drop_dependents(struct vmx_caps *offered)
{
    if (!(offered->pin.may & PIN_PREEMPTION_TIMER))
        offered->misc &= ~VMX_MISC_TIMER_RATE;
    if (!(offered->proc2.may & PROC2_EPT))
        offered->ept_vpid &= ~VIRTUAL_EPT;
    if (!(offered->proc2.may & PROC2_VPID))
        offered->ept_vpid &= ~VIRTUAL_VPID;
    if (!(offered->proc2.may & PROC2_VMFUNC))
        offered->vmfunc = 0;
}

/* IA32_VMX_VMCS_ENUM: the highest index of a field that L1 has. SDM 3D A.9 "VMCS Enumeration" */
static uint64_t highest_index(const struct vmx_caps *offered)
{
    uint64_t highest = 0;

    for (unsigned i = 0; i < FIELD_COUNT; i++)
        if (vmcs_field_exists(offered, i))
            highest = MAX(highest, vmcs_fields[i].encoding & ENCODING_INDEX);
    return highest;
}

/* vmcs02 loads at each entry what its exits change (nested/switched), so a register is switched with both controls
 * or not at all. IA32_PERF_GLOBAL_CTRL is saved by a control of its own. */
static void drop_halves(struct ctl_caps *exit, struct ctl_caps *entry)
{
    static const struct {
        uint32_t exit, entry;
    } pairs[] = {
        {EXITC_CLEAR_UINV, ENTRY_LOAD_UINV},
        {EXITC_LOAD_CET, ENTRY_LOAD_CET},
        {EXITC_LOAD_PKRS, ENTRY_LOAD_PKRS},
        {EXITC_LOAD_PERF_GLOBAL | EXITC_SAVE_PERF_GLOBAL, ENTRY_LOAD_PERF_GLOBAL},
    };

    for (unsigned i = 0; i < ARRAY_SIZE(pairs); i++) {
        if ((exit->may & pairs[i].exit) == pairs[i].exit && entry->may & pairs[i].entry)
            continue;
        exit->may &= ~pairs[i].exit | exit->must;
        entry->may &= ~pairs[i].entry | entry->must;
    }
}

/* Old and TRUE control MSRs are computed alike: L1 may read either, and a CPU without the TRUE ones has them equal. */
void caps12_compute(const struct vmx_caps *cpu, struct vmx_caps *offered)
{
    /* Controls that only count when another one brings them: none of them without it. */
    uint64_t proc2 = cpu->proc.may & PROC_SECONDARY ? VIRTUAL_PROC2 : 0;
    uint64_t exit = VIRTUAL_EXIT & (cpu->pin.may & PIN_PREEMPTION_TIMER ? ~0ull : ~EXITC_SAVE_TIMER);

    uint64_t proc3 = cpu->proc.may & PROC_TERTIARY ? cpu->proc3 & VIRTUAL_PROC3 : 0;
    uint64_t proc = proc3 ? VIRTUAL_PROC : VIRTUAL_PROC & ~PROC_TERTIARY;

    uint64_t exit2 = cpu->exit.may & EXITC_SECONDARY ? cpu->exit2 & VIRTUAL_EXIT2 : 0;
    exit &= exit2 ? ~0ull : ~EXITC_SECONDARY;

    *offered = *cpu; /* the fixed bits of CR0 and CR4 and the address widths are the CPU's */
    offered->basic = (cpu->basic & VIRTUAL_BASIC) | VMCS12_REVISION | PUT(PAGE_SIZE, VMX_BASIC_REGION_SIZE) |
                     PUT(MEMORY_TYPE_WB, VMX_BASIC_MEMORY_TYPE);
    offered->misc = cpu->misc & VIRTUAL_MISC;
    offered->ept_vpid = cpu->ept_vpid & (VIRTUAL_EPT | VIRTUAL_VPID);
    offered->vmfunc = cpu->vmfunc & VIRTUAL_VMFUNC;
    offered->pin = offer(cpu->pin, VIRTUAL_PIN);
    offered->proc = offer(cpu->proc, proc);
    offered->proc3 = proc3;
    offered->exit2 = exit2;
    offered->cr4_fixed1 = cpu->cr4_fixed1 & ~HIDDEN_CR4;
    if (cpu->linear_bits <= CAPS_LINEAR_BITS_4_LEVEL)
        offered->cr4_fixed1 &= ~CR4_LA57;
    offered->proc2 = offer(cpu->proc2, proc2);
    offered->exit = offer(cpu->exit, exit);
    offered->entry = offer(cpu->entry, VIRTUAL_ENTRY);
    offered->old_pin = offer(cpu->old_pin, VIRTUAL_PIN);
    offered->old_proc = offer(cpu->old_proc, proc);
    offered->old_exit = offer(cpu->old_exit, exit);
    offered->old_entry = offer(cpu->old_entry, VIRTUAL_ENTRY);
    drop_halves(&offered->exit, &offered->entry);
    drop_halves(&offered->old_exit, &offered->old_entry);
    drop_dependents(offered);
    offered->vmcs_enum = highest_index(offered);
}

/* Bits that must be 1 below, bits that may be 1 above, as the CPU's own MSR has them. */
static uint64_t controls_value(struct ctl_caps caps)
{
    return (uint64_t)caps.may << 32 | caps.must;
}

/* True if the CPU that L1 sees has the MSR at all (SDM 3D A.2 to A.11). */
static bool msr_exists(const struct vmx_caps *offered, uint32_t msr)
{
    switch (msr) {
    case IA32_VMX_PROCBASED_CTLS2:
        return offered->proc.may & PROC_SECONDARY;
    case IA32_VMX_EPT_VPID_CAP:
        return offered->proc2.may & (PROC2_EPT | PROC2_VPID);
    case IA32_VMX_TRUE_PINBASED_CTLS:
    case IA32_VMX_TRUE_PROCBASED_CTLS:
    case IA32_VMX_TRUE_EXIT_CTLS:
    case IA32_VMX_TRUE_ENTRY_CTLS:
        return offered->basic & VMX_BASIC_TRUE_CONTROLS;
    case IA32_VMX_VMFUNC:
        return offered->proc2.may & PROC2_VMFUNC;
    case IA32_VMX_PROCBASED_CTLS3:
        return offered->proc.may & PROC_TERTIARY;
    case IA32_VMX_EXIT_CTLS2:
        return offered->exit.may & EXITC_SECONDARY;
    default:
        return msr >= IA32_VMX_BASIC && msr < IA32_VMX_VMFUNC;
    }
}

bool caps12_msr(const struct vmx_caps *offered, uint32_t msr, uint64_t *value)
{
    /* By number, from IA32_VMX_BASIC on; all are read-only to L1. */
    const uint64_t values[] = {
        [IA32_VMX_BASIC - IA32_VMX_BASIC] = offered->basic,
        [IA32_VMX_PINBASED_CTLS - IA32_VMX_BASIC] = controls_value(offered->old_pin),
        [IA32_VMX_PROCBASED_CTLS - IA32_VMX_BASIC] = controls_value(offered->old_proc),
        [IA32_VMX_EXIT_CTLS - IA32_VMX_BASIC] = controls_value(offered->old_exit),
        [IA32_VMX_ENTRY_CTLS - IA32_VMX_BASIC] = controls_value(offered->old_entry),
        [IA32_VMX_MISC - IA32_VMX_BASIC] = offered->misc,
        [IA32_VMX_CR0_FIXED0 - IA32_VMX_BASIC] = offered->cr0_fixed0,
        [IA32_VMX_CR0_FIXED1 - IA32_VMX_BASIC] = offered->cr0_fixed1,
        [IA32_VMX_CR4_FIXED0 - IA32_VMX_BASIC] = offered->cr4_fixed0,
        [IA32_VMX_CR4_FIXED1 - IA32_VMX_BASIC] = offered->cr4_fixed1,
        [IA32_VMX_VMCS_ENUM - IA32_VMX_BASIC] = offered->vmcs_enum,
        [IA32_VMX_PROCBASED_CTLS2 - IA32_VMX_BASIC] = controls_value(offered->proc2),
        [IA32_VMX_EPT_VPID_CAP - IA32_VMX_BASIC] = offered->ept_vpid,
        [IA32_VMX_TRUE_PINBASED_CTLS - IA32_VMX_BASIC] = controls_value(offered->pin),
        [IA32_VMX_TRUE_PROCBASED_CTLS - IA32_VMX_BASIC] = controls_value(offered->proc),
        [IA32_VMX_TRUE_EXIT_CTLS - IA32_VMX_BASIC] = controls_value(offered->exit),
        [IA32_VMX_TRUE_ENTRY_CTLS - IA32_VMX_BASIC] = controls_value(offered->entry),
        [IA32_VMX_VMFUNC - IA32_VMX_BASIC] = offered->vmfunc,
        [IA32_VMX_PROCBASED_CTLS3 - IA32_VMX_BASIC] = offered->proc3,
        [IA32_VMX_EXIT_CTLS2 - IA32_VMX_BASIC] = offered->exit2,
    };

    if (!msr_exists(offered, msr))
        return false;
    *value = values[msr - IA32_VMX_BASIC];
    return true;
}
