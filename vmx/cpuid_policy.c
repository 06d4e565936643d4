/* L1 sees the CPU that it runs on: a leaf without a row passes as it is. A row hides a feature for one of two
 * reasons. Either the feature reaches past EPT, as Processor Trace and the debug store do, which write to memory by
 * addresses that no table of Nestor's checks; or the instruction needs a control that vmcs01 does not have on, and
 * would be #UD although CPUID promises it. The reason stands in each row, for the next who wants to take one away.
 *
 * A feature that is hidden here must be closed elsewhere as well: its MSRs in vmx/msr_policy.def, its bit of CR4 in
 * vmx/vmcs_setup. L1 may try what CPUID denies. */
#include "vmx/cpuid_policy.h"

#include "kernel/inspect_abi.h"
#include "kernel/string.h"
#include "vmx/hyperv_cpuid.h"
#include "vmx/vmx_bits.h"

#define LEAF_EXTENDED 0x80000000u
#define ANY_SUBLEAF 0xffffffffu
#define ALL BITS(31, 0)
#define LEAF1_ECX_OSXSAVE BIT(27)
#define LEAF1_ECX_HYPERVISOR BIT(31)
#define LEAF1_EDX_APIC BIT(9)
#define LEAF7_ECX_OSPKE BIT(4)

enum reg { EAX, EBX, ECX, EDX };
/* When a row hides its bits. */
enum condition { ALWAYS, UNLESS_PROC2, UNLESS_PROC3, IF_MONITOR_BROKEN, IF_X2APIC_BROKEN, IF_LA57_BROKEN };

struct hidden {
    uint32_t leaf, subleaf;
    enum reg reg;
    enum condition condition;
    uint32_t control; /* of UNLESS_PROC2 and UNLESS_PROC3: the instruction is #UD in a guest without this control */
    uint32_t bits;
    const char *reason;
};

static const char no_control[] = "needs a VM-execution control that vmcs01 does not have on";
static const char no_monitor[] = "MONITOR of this machine does not wake";
static const char no_x2apic[] = "x2APIC mode of this machine cannot be left";
static const char no_la57[] = "5-level paging: bases of 57 bits depend on the mode here";
static const char no_sgx[] = "no ENCLS exiting is offered, so L1 could not keep its guests from enclaves";
static const char no_trace[] = "Processor Trace writes to host-physical memory past EPT";
static const char no_debug_store[] = "BTS and PEBS store by linear address, in root operation as well";
static const char no_feedback[] = "hardware feedback is written to host-physical memory past EPT";
static const char no_key_locker[] = "its state follows CR4.KL, and no LOADIWKEY exiting is offered";

/* Everything that is hidden; what has no row is the CPU's. SDM 2A "CPUID—CPU Identification" */
static const struct hidden hidden[] = {
    {0x01, ANY_SUBLEAF, ECX, ALWAYS, 0, BIT(6),
     "SMX: GETSEC leaves always exit, and a measured launch would end Nestor"},
    {0x01, ANY_SUBLEAF, ECX, ALWAYS, 0, BIT(2) | BIT(4), no_debug_store},
    {0x01, ANY_SUBLEAF, EDX, ALWAYS, 0, BIT(21), no_debug_store},
    {0x01, ANY_SUBLEAF, ECX, IF_MONITOR_BROKEN, 0, BIT(3), no_monitor},
    {0x01, ANY_SUBLEAF, ECX, IF_X2APIC_BROKEN, 0, BIT(21), no_x2apic},
    {0x05, ANY_SUBLEAF, EAX, IF_MONITOR_BROKEN, 0, ALL, no_monitor},
    {0x05, ANY_SUBLEAF, EBX, IF_MONITOR_BROKEN, 0, ALL, no_monitor},
    {0x05, ANY_SUBLEAF, ECX, IF_MONITOR_BROKEN, 0, ALL, no_monitor},
    {0x05, ANY_SUBLEAF, EDX, IF_MONITOR_BROKEN, 0, ALL, no_monitor},
    {0x06, ANY_SUBLEAF, EAX, ALWAYS, 0, BIT(19) | BIT(23), no_feedback},
    {0x07, 0, EBX, ALWAYS, 0, BIT(2), no_sgx},
    {0x07, 0, EBX, UNLESS_PROC2, PROC2_INVPCID, BIT(10), no_control},
    {0x07, 0, EBX, ALWAYS, 0, BIT(25), no_trace},
    {0x07, 0, ECX, UNLESS_PROC2, PROC2_USER_WAIT, BIT(5), no_control},
    {0x07, 0, ECX, IF_LA57_BROKEN, 0, BIT(16), no_la57},
    {0x07, 0, ECX, IF_MONITOR_BROKEN, 0, BIT(5), no_monitor},
    {0x07, 0, ECX, ALWAYS, 0, BIT(23), no_key_locker},
    {0x07, 0, ECX, ALWAYS, 0, BIT(30), no_sgx},
    {0x07, 0, EDX, UNLESS_PROC2, PROC2_PCONFIG, BIT(18), no_control},
    {0x07, 1, EAX, ALWAYS, 0, BIT(17), "FRED: events that Nestor injects would lack the injected-event data"},
    {0x07, 1, EAX, UNLESS_PROC3, PROC3_MSR_LIST, BIT(27), no_control},
    {0x07, 1, EDX, ALWAYS, 0, BIT(15), "URDMSR and UWRMSR exit by the MSR bitmap for reasons that are not offered"},
    {0x0d, 1, EAX, UNLESS_PROC2, PROC2_XSAVES, BIT(3), no_control},
    {0x0d, 1, ECX, ALWAYS, 0, BIT(8), no_trace},
    {0x0d, 8, EAX, ALWAYS, 0, ALL, no_trace},
    {0x0d, 8, EBX, ALWAYS, 0, ALL, no_trace},
    {0x0d, 8, ECX, ALWAYS, 0, ALL, no_trace},
    {0x0d, 8, EDX, ALWAYS, 0, ALL, no_trace},
    {0x12, ANY_SUBLEAF, EAX, ALWAYS, 0, ALL, no_sgx},
    {0x12, ANY_SUBLEAF, EBX, ALWAYS, 0, ALL, no_sgx},
    {0x12, ANY_SUBLEAF, ECX, ALWAYS, 0, ALL, no_sgx},
    {0x12, ANY_SUBLEAF, EDX, ALWAYS, 0, ALL, no_sgx},
    {0x14, ANY_SUBLEAF, EAX, ALWAYS, 0, ALL, no_trace},
    {0x14, ANY_SUBLEAF, EBX, ALWAYS, 0, ALL, no_trace},
    {0x14, ANY_SUBLEAF, ECX, ALWAYS, 0, ALL, no_trace},
    {0x14, ANY_SUBLEAF, EDX, ALWAYS, 0, ALL, no_trace},
    {0x19, ANY_SUBLEAF, EAX, ALWAYS, 0, ALL, no_key_locker},
    {0x19, ANY_SUBLEAF, EBX, ALWAYS, 0, ALL, no_key_locker},
    {0x19, ANY_SUBLEAF, ECX, ALWAYS, 0, ALL, no_key_locker},
    {0x19, ANY_SUBLEAF, EDX, ALWAYS, 0, ALL, no_key_locker},
    {0x23, 0, EAX, ALWAYS, 0, BITS(5, 4), no_debug_store},
    {0x23, 4, EAX, ALWAYS, 0, ALL, no_debug_store},
    {0x23, 4, EBX, ALWAYS, 0, ALL, no_debug_store},
    {0x23, 4, ECX, ALWAYS, 0, ALL, no_debug_store},
    {0x23, 4, EDX, ALWAYS, 0, ALL, no_debug_store},
    {0x23, 5, EAX, ALWAYS, 0, ALL, no_debug_store},
    {0x23, 5, EBX, ALWAYS, 0, ALL, no_debug_store},
    {0x23, 5, ECX, ALWAYS, 0, ALL, no_debug_store},
    {0x23, 5, EDX, ALWAYS, 0, ALL, no_debug_store},
    {0x80000001, ANY_SUBLEAF, EDX, UNLESS_PROC2, PROC2_RDTSCP, BIT(27), no_control},
    {0x80000008, ANY_SUBLEAF, EAX, IF_LA57_BROKEN, 0, BIT(8) | BIT(11), no_la57}, /* 57 is 48 + 9 */
};

/* A leaf that the CPU does not have is answered as the highest basic one. */
static uint32_t leaf_answered(uint32_t leaf, const struct cpuid_context *context)
{
    bool exists = leaf < LEAF_EXTENDED ? leaf <= context->max_basic : leaf <= context->max_extended;

    return exists ? leaf : context->max_basic;
}

/* True if the row hides its bits here and now. Rows with a control count as long as vmcs01 lacks that control. */
static bool applies(const struct hidden *row, const struct cpuid_context *context)
{
    if (row->condition == UNLESS_PROC2)
        return !(context->proc2 & row->control);
    if (row->condition == UNLESS_PROC3)
        return !(context->proc3 & row->control);
    if (row->condition == IF_MONITOR_BROKEN)
        return context->monitor_broken;
    if (row->condition == IF_LA57_BROKEN)
        return context->la57_broken;
    return row->condition == ALWAYS || context->x2apic_broken;
}

static uint32_t *register_of(struct cpuid_result *result, enum reg reg)
{
    uint32_t *const registers[] = {&result->eax, &result->ebx, &result->ecx, &result->edx};

    return registers[reg];
}

/* A bit of CPUID that mirrors one of CR4: the CPU answered with Nestor's own. */
static void mirror(uint32_t *reg, uint64_t bit, bool on)
{
    *reg = (uint32_t)(on ? *reg | bit : *reg & ~bit);
}

/* The leaves that tell a program in L1 that Nestor runs, and where it can be read: behind those of another interface,
 * if there are such. */
static bool tell_of_nestor(uint32_t leaf, const struct cpuid_context *context, struct cpuid_result *result)
{
    uint32_t behind = context->hyperv ? INSPECT_LEAF_STEP : 0;
    leaf -= behind;
    if (!context->inspect_port || (leaf != INSPECT_LEAF && leaf != INSPECT_LEAF_PORT))
        return false;
    if (leaf == INSPECT_LEAF) {
        uint32_t name[3];
        memcpy(name, INSPECT_SIGNATURE, sizeof name);
        *result = (struct cpuid_result){INSPECT_LEAF_PORT + behind, name[0], name[1], name[2]};
    } else {
        *result = (struct cpuid_result){INSPECT_VERSION, context->inspect_port, context->processors, 0};
    }
    return true;
}

/* The leaves that are Nestor's own come first, since the CPU has none under these numbers. Then the rows; and last the
 * bits that copy CR4, for which the CPU answered with the CR4 of root operation. */
void cpuid_filter(uint32_t leaf, uint32_t subleaf, const struct cpuid_context *context, struct cpuid_result *result)
{
    if (tell_of_nestor(leaf, context, result))
        return;
    if (context->hyperv && hyperv_cpuid(leaf, context->processors, result))
        return;
    leaf = leaf_answered(leaf, context);
    for (unsigned i = 0; i < ARRAY_SIZE(hidden); i++) {
        const struct hidden *row = &hidden[i];

        if (row->leaf == leaf && (row->subleaf == ANY_SUBLEAF || row->subleaf == subleaf) && applies(row, context))
            *register_of(result, row->reg) &= ~row->bits;
    }
    if (leaf == 1)
        mirror(&result->ecx, LEAF1_ECX_OSXSAVE, context->cr4 & CR4_OSXSAVE);
    if (leaf == 1 && context->hyperv)
        result->ecx |= (uint32_t)LEAF1_ECX_HYPERVISOR;
    if (leaf == 1 && context->apic_off)
        result->edx &= ~(uint32_t)LEAF1_EDX_APIC;
    if (leaf == 7 && subleaf == 0)
        mirror(&result->ecx, LEAF7_ECX_OSPKE, context->cr4 & CR4_PKE);
}

/* Most exits for CPUID ask for a leaf that no row and no bit of CR4 concerns. These are found once, as a bit each, so
 * that the handler of such an exit gives L1 what the CPU said and looks at nothing else. */
void cpuid_find_plain(struct cpuid_context *context)
{
    uint64_t rows = BIT(1) | BIT(7); /* they mirror CR4 */
    context->plain_leaves = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(hidden); i++)
        if (hidden[i].leaf < 64)
            rows |= BIT(hidden[i].leaf);
    for (unsigned leaf = 0; leaf < 64 && leaf <= context->max_basic; leaf++)
        if (!(rows >> leaf & 1))
            context->plain_leaves |= BIT(leaf);
}
