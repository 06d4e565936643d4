/* Linux looks for the vendor's name, the specification for the interface's; the privileges are those of the three MSRs
 * that each conforming hypervisor has. The VP assist page has no privilege of its own: with that of the interrupt
 * controller's MSRs come three others, which nobody needs where the APIC is L1's. */
#include "vmx/hyperv_cpuid.h"

#include "kernel/string.h"

#define HYPERV_LEAF_FIRST 0x40000000u
#define HYPERV_LEAF_INTERFACE 0x40000001u
#define HYPERV_LEAF_FEATURES 0x40000003u
#define HYPERV_LEAF_HINTS 0x40000004u
#define HYPERV_LEAF_LIMITS 0x40000005u
#define HYPERV_LEAF_NESTED 0x4000000au
#define HYPERV_LEAF_LAST 0x400000ffu

#define HYPERV_VENDOR "Microsoft Hv"
#define HYPERV_INTERFACE 0x31237648u /* "Hv#1" */
#define FEATURE_HYPERCALL_MSRS BIT(5)
#define FEATURE_VP_INDEX BIT(6)
#define HINT_ENLIGHTENED_VMCS BIT(14)
#define HINT_NEVER_NOTIFY_SPINLOCKS 0xffffffffu
#define NESTED_VERSIONS 0x0101u /* of the enlightened VMCS: highest and lowest */
#define NESTED_MSR_BITMAP BIT(19)
#define NESTED_PERF_GLOBAL_CTRL BIT(0) /* of EBX: the fields of that MSR are there */

bool hyperv_cpuid(uint32_t leaf, unsigned processors, struct cpuid_result *result)
{
    if (leaf < HYPERV_LEAF_FIRST || leaf > HYPERV_LEAF_LAST)
        return false;
    *result = (struct cpuid_result){0};
    switch (leaf) {
    case HYPERV_LEAF_FIRST:
        result->eax = HYPERV_LEAF_NESTED;
        memcpy(&result->ebx, HYPERV_VENDOR, 4);
        memcpy(&result->ecx, HYPERV_VENDOR + 4, 4);
        memcpy(&result->edx, HYPERV_VENDOR + 8, 4);
        break;
    case HYPERV_LEAF_INTERFACE:
        result->eax = HYPERV_INTERFACE;
        break;
    case HYPERV_LEAF_FEATURES:
        result->eax = FEATURE_HYPERCALL_MSRS | FEATURE_VP_INDEX;
        break;
    case HYPERV_LEAF_HINTS:
        result->eax = HINT_ENLIGHTENED_VMCS;
        result->ebx = HINT_NEVER_NOTIFY_SPINLOCKS;
        break;
    case HYPERV_LEAF_LIMITS:
        result->eax = result->ebx = processors;
        break;
    case HYPERV_LEAF_NESTED:
        result->eax = (uint32_t)(NESTED_VERSIONS | NESTED_MSR_BITMAP);
        result->ebx = NESTED_PERF_GLOBAL_CTRL;
        break;
    default:
        break;
    }
    return true;
}
