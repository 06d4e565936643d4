/* The capability MSRs: consistent in themselves and with each other, and not to be written. */
#include "guests/lib/cpu.h"
#include "guests/scenarios/scenario.h"

#define MEMORY_TYPE_WB 6

/* Bits that are reserved and 1 whatever the control: the "default1" class. SDM 3D A.2 "Reserved Controls and Default
 * Settings" */
#define PIN_DEFAULT1 0x16u
#define PROC_DEFAULT1 0x401e172u
#define EXIT_DEFAULT1 0x36dffu
#define ENTRY_DEFAULT1 0x11ffu

static void check_pair(uint32_t msr, uint32_t true_msr, uint32_t default1)
{
    uint64_t plain = cpu_rdmsr(msr);
    uint64_t exact = cpu_rdmsr(true_msr);
    uint32_t must = (uint32_t)plain, may = (uint32_t)(plain >> 32);
    uint32_t true_must = (uint32_t)exact, true_may = (uint32_t)(exact >> 32);

    CHECK_EQ(must & ~may, 0);
    CHECK_EQ(true_must & ~true_may, 0);
    CHECK_EQ(true_may, may);
    CHECK_EQ(true_must & ~must, 0);
    CHECK_EQ(must & default1, default1);
    CHECK_EQ(true_must & ~default1, 0);
}

static void control_pairs(void)
{
    uint64_t proc2 = cpu_rdmsr(IA32_VMX_PROCBASED_CTLS2);

    check_pair(IA32_VMX_PINBASED_CTLS, IA32_VMX_TRUE_PINBASED_CTLS, PIN_DEFAULT1);
    check_pair(IA32_VMX_PROCBASED_CTLS, IA32_VMX_TRUE_PROCBASED_CTLS, PROC_DEFAULT1);
    check_pair(IA32_VMX_EXIT_CTLS, IA32_VMX_TRUE_EXIT_CTLS, EXIT_DEFAULT1);
    check_pair(IA32_VMX_ENTRY_CTLS, IA32_VMX_TRUE_ENTRY_CTLS, ENTRY_DEFAULT1);
    CHECK_EQ((uint32_t)proc2, 0);
}

static void basic(void)
{
    uint64_t basic = cpu_rdmsr(IA32_VMX_BASIC);

    CHECK_EQ(basic & BIT(31), 0);
    CHECK(GET(basic, VMX_BASIC_REVISION) != 0);
    CHECK(GET(basic, VMX_BASIC_REGION_SIZE) > 0 && GET(basic, VMX_BASIC_REGION_SIZE) <= PAGE_SIZE);
    CHECK_EQ(GET(basic, VMX_BASIC_MEMORY_TYPE), MEMORY_TYPE_WB);
    CHECK_EQ(basic & VMX_BASIC_32BIT_ADDRESSES, 0);
    CHECK(basic & VMX_BASIC_TRUE_CONTROLS);
}

static void fixed_bits(void)
{
    uint64_t cr0_must = cpu_rdmsr(IA32_VMX_CR0_FIXED0), cr0_may = cpu_rdmsr(IA32_VMX_CR0_FIXED1);
    uint64_t cr4_must = cpu_rdmsr(IA32_VMX_CR4_FIXED0), cr4_may = cpu_rdmsr(IA32_VMX_CR4_FIXED1);

    CHECK_EQ(cr0_must & ~cr0_may, 0);
    CHECK_EQ(cr4_must & ~cr4_may, 0);
    CHECK_EQ(cr0_must, CR0_PE | CR0_NE | CR0_PG);
    CHECK_EQ(cr4_must, CR4_VMXE);
    CHECK_EQ(cr0_may, UINT32_MAX);
    CHECK_EQ(cpu_read_cr4() & ~cr4_may, 0);
}

/* Controls that mean nothing without others. */
static void dependencies(void)
{
    uint32_t pin = vmx_control_caps(PIN_CONTROLS).may;
    uint32_t proc = vmx_control_caps(PROC_CONTROLS).may;
    uint32_t proc2 = proc & PROC_SECONDARY ? vmx_control_caps(PROC2_CONTROLS).may : 0;

    if (pin & PIN_VIRTUAL_NMIS)
        CHECK(pin & PIN_NMI);
    CHECK_EQ(!(proc & PROC_NMI_WINDOW), !(pin & PIN_VIRTUAL_NMIS));
    if (proc2 & (PROC2_UNRESTRICTED | PROC2_PML | PROC2_EPT_VE))
        CHECK(proc2 & PROC2_EPT);
    if (proc2 & (PROC2_X2APIC | PROC2_APIC_REGISTER | PROC2_VIRTUAL_INTERRUPTS))
        CHECK(proc & PROC_TPR_SHADOW);
    if (vmx_control_caps(EXIT_CONTROLS).may & EXITC_SAVE_TIMER)
        CHECK(pin & PIN_PREEMPTION_TIMER);
}

static void ept_and_vpid(void)
{
    uint64_t cap;

    if (!vm_control_offered(PROC2_CONTROLS, (uint32_t)PROC2_EPT))
        return;
    cap = vmx_ept_vpid_cap();
    CHECK(cap & EPT_CAP_WALK4);
    CHECK(cap & EPT_CAP_WB);
    CHECK(cap & EPT_CAP_INVEPT);
    CHECK(cap & (EPT_CAP_INVEPT_SINGLE | EPT_CAP_INVEPT_ALL));
    if (vm_control_offered(PROC2_CONTROLS, (uint32_t)PROC2_VPID)) {
        CHECK(cap & VPID_CAP_INVVPID);
        CHECK(cap & (VPID_CAP_SINGLE | VPID_CAP_ALL));
    }
}

static void misc(void)
{
    uint64_t value = cpu_rdmsr(IA32_VMX_MISC);

    CHECK(GET(value, VMX_MISC_CR3_TARGETS) <= 256);
    if (vm_control_offered(PROC2_CONTROLS, (uint32_t)PROC2_UNRESTRICTED))
        CHECK(value & VMX_MISC_STORE_LMA);
    if (vm_control_offered(PROC2_CONTROLS, (uint32_t)PROC2_VMCS_SHADOWING))
        CHECK(value & VMX_MISC_VMWRITE_ANY);
}

static void writes_fault(void)
{
    for (uint32_t msr = IA32_VMX_BASIC; msr <= IA32_VMX_TRUE_ENTRY_CTLS; msr++) {
        uint64_t before = cpu_rdmsr(msr);
        CHECK_FAULT(cpu_wrmsr(msr, before), VECTOR_GP);
        CHECK_EQ(cpu_rdmsr(msr), before);
    }
}

static void feature_control(void)
{
    uint64_t value = cpu_rdmsr(IA32_FEATURE_CONTROL);

    CHECK(value & FEATURE_CONTROL_LOCK);
    CHECK(value & FEATURE_CONTROL_VMX_OUTSIDE_SMX);
    CHECK_FAULT(cpu_wrmsr(IA32_FEATURE_CONTROL, value & ~FEATURE_CONTROL_LOCK), VECTOR_GP);
    CHECK_EQ(cpu_rdmsr(IA32_FEATURE_CONTROL), value);
}

static void l2_nothing(void)
{
}

/* Each primary and exit or entry control that is optional and needs no address can be turned on alone. */
static void each_control_enters(void)
{
    static const struct {
        enum vmcs_field field;
        uint64_t leave_out;
    } words[] = {
        {PROC_CONTROLS, PROC_INTERRUPT_WINDOW | PROC_NMI_WINDOW | PROC_TERTIARY | PROC_TPR_SHADOW |
                            PROC_USE_IO_BITMAPS | PROC_SECONDARY | PROC_MONITOR_TRAP},
        {EXIT_CONTROLS, EXITC_SAVE_TIMER | EXITC_LOAD_PAT | EXITC_LOAD_EFER | EXITC_LOAD_PERF_GLOBAL | BIT(28)},
        {ENTRY_CONTROLS,
         ENTRY_TO_SMM | ENTRY_NO_DUAL_MONITOR | ENTRY_LOAD_PAT | ENTRY_LOAD_EFER | ENTRY_LOAD_PERF_GLOBAL | BIT(20)},
    };
    struct vm vm;

    vm_start(&vm, l2_nothing, 0);
    for (unsigned i = 0; i < ARRAY_SIZE(words); i++) {
        uint64_t before = vmx_get(words[i].field);
        uint64_t may = vmx_control_caps(words[i].field).may & ~words[i].leave_out;
        for (unsigned bit = 0; bit < 32; bit++) {
            if (!(may & BIT(bit)))
                continue;
            vm_set_code(&vm, l2_nothing);
            vmx_set(words[i].field, before | BIT(bit));
            EXPECT_DONE(&vm);
        }
        vmx_set(words[i].field, before);
    }
}

const struct scenario caps_scenarios[] = {
    {"caps-control-pairs", control_pairs, NULL},
    {"caps-basic", basic, NULL},
    {"caps-fixed-bits", fixed_bits, NULL},
    {"caps-dependencies", dependencies, NULL},
    {"caps-ept-and-vpid", ept_and_vpid, NULL},
    {"caps-misc", misc, NULL},
    {"caps-writes-fault", writes_fault, NULL},
    {"caps-feature-control", feature_control, NULL},
    {"caps-each-control-enters", each_control_enters, NULL},
    {0},
};
