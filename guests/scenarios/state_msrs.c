/* MSRs that L2 writes without an exit: what it wrote L1 reads, where nothing switches them, and what is switched is in
 * the VMCS. */
#include "guests/lib/cpu.h"
#include "guests/scenarios/scenario.h"

#define TSX_CTRL 0x122

static const struct {
    uint32_t msr;
    uint64_t by_l2, by_l1;
} rows[] = {
    {IA32_STAR, 0x1122334455667788, 0x8877665544332211},
    {IA32_LSTAR, 0x123456, 0xffff800000001234},
    {IA32_CSTAR, 0x234567, 0x345678},
    {IA32_FMASK, 0x47700, 0x300},
    {IA32_KERNEL_GS_BASE, 0xffff888000000000, 0x7f0000000000},
    {IA32_TSC_AUX, 0x12345678, 0x9abcdef0},
    /* This CPU may have these or not, and take some of the bits. */
    {IA32_XSS, BIT(8), 0},
    {IA32_SPEC_CTRL, BIT(0), 0},
    {IA32_SPEC_CTRL, BIT(2), BIT(0)},
    {TSX_CTRL, BIT(0), 0},
    {IA32_MISC_ENABLE, BIT(0) | BIT(18), BIT(0)},
    {IA32_TSC_DEADLINE, 0, 0},
};

struct outcome {
    uint8_t write, read; /* the fault, or NO_FAULT */
    uint64_t value;
};

static volatile struct outcome l2_outcome[ARRAY_SIZE(rows)];

static void access_msr(uint32_t msr, uint64_t value, volatile struct outcome *out)
{
    out->value = 0;
    out->write = FAULT_OF(cpu_wrmsr(msr, value));
    out->read = FAULT_OF(out->value = cpu_rdmsr(msr));
}

static void l2_access(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
        access_msr(rows[i].msr, rows[i].by_l2, &l2_outcome[i]);
}

static void l2_read(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
        l2_outcome[i].read = FAULT_OF(l2_outcome[i].value = cpu_rdmsr(rows[i].msr));
}

/* The value that L1 finds there; a fault of L1 is 0. */
static uint64_t read_msr(uint32_t msr)
{
    volatile uint64_t value = 0;

    (void)FAULT_OF(value = cpu_rdmsr(msr));
    return value;
}

/* The row that says last what is in the MSR. */
static bool is_last(unsigned row)
{
    for (unsigned i = row + 1; i < ARRAY_SIZE(rows); i++)
        if (rows[i].msr == rows[row].msr)
            return false;
    return true;
}

/* L2 is answered as L1 is, and what it leaves there is what L1 reads after the exit, and the other way round. */
static void nobody_switches(void)
{
    uint64_t own[ARRAY_SIZE(rows)];
    struct outcome l1[ARRAY_SIZE(rows)];
    struct vm vm;

    vm_start(&vm, l2_access, 0);
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        own[i] = read_msr(rows[i].msr);
        access_msr(rows[i].msr, rows[i].by_l2, &l1[i]);
        (void)FAULT_OF(cpu_wrmsr(rows[i].msr, own[i]));
    }
    EXPECT_DONE(&vm);
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        CHECK_EQ(l2_outcome[i].write, l1[i].write);
        CHECK_EQ(l2_outcome[i].read, l1[i].read);
        CHECK_EQ(l2_outcome[i].value, l1[i].value);
        if (is_last(i))
            CHECK_EQ(read_msr(rows[i].msr), l2_outcome[i].value);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
        access_msr(rows[i].msr, rows[i].by_l1, &l1[i]);
    vm_set_code(&vm, l2_read);
    EXPECT_DONE(&vm);
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
        if (is_last(i))
            CHECK_EQ(l2_outcome[i].value, l1[i].value);
    for (unsigned i = ARRAY_SIZE(rows); i > 0; i--)
        (void)FAULT_OF(cpu_wrmsr(rows[i - 1].msr, own[i - 1]));
}

static volatile uint64_t l2_before, l2_after;

static void l2_use_debugctl(void)
{
    l2_before = cpu_rdmsr(IA32_DEBUGCTL);
    cpu_wrmsr(IA32_DEBUGCTL, DEBUGCTL_BTF);
    l2_after = cpu_rdmsr(IA32_DEBUGCTL);
}

/* Loaded and saved when L1 says so; L1 finds 0 after each exit. SDM 3C 28.5.1 "Loading Host Control Registers, Debug
 * Registers, MSRs" */
static void debugctl(void)
{
    uint64_t l2_saved;
    struct vm vm;

    vm_start(&vm, l2_use_debugctl, 0);
    vm_control_set(ENTRY_CONTROLS, (uint32_t)ENTRY_LOAD_DEBUG);
    vm_control_set(EXIT_CONTROLS, (uint32_t)EXITC_SAVE_DEBUG);
    vmx_set(GUEST_DEBUGCTL, 0);
    EXPECT_DONE(&vm);
    CHECK_EQ(l2_before, 0);
    CHECK(l2_after == DEBUGCTL_BTF || l2_after == 0); /* an emulated CPU keeps none of it */
    CHECK_EQ(vmx_get(GUEST_DEBUGCTL), l2_after);
    CHECK_EQ(cpu_rdmsr(IA32_DEBUGCTL), 0);
    l2_saved = l2_after;
    vm_set_code(&vm, l2_use_debugctl);
    EXPECT_DONE(&vm);
    CHECK_EQ(l2_before, l2_saved);
    CHECK_EQ(cpu_rdmsr(IA32_DEBUGCTL), 0);
}

const struct scenario state_msr_scenarios[] = {
    {"state-msrs-nobody-switches", nobody_switches, NULL},
    {"state-debugctl", debugctl, NULL},
    {0},
};
