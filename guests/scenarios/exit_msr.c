/* RDMSR and WRMSR of L2: with the bitmap, without it, and outside its two ranges. */
#include "guests/lib/counters.h"
#include "guests/lib/cpu.h"
#include "guests/lib/l2_msr.h"
#include "guests/lib/msr_bits.h"
#include "guests/lib/page.h"
#include "guests/scenarios/scenario.h"

#define MSR_LOW IA32_SYSENTER_CS
#define MSR_HIGH IA32_LSTAR
#define MSR_OUTSIDE 0x40000000

static volatile uint64_t l2_fault;

static void start_read(struct vm *vm, uint32_t msr)
{
    vm_set_code(vm, l2_rdmsr);
    vm->regs[RCX] = msr;
}

static void start_write(struct vm *vm, uint32_t msr, uint64_t value)
{
    vm_set_code(vm, l2_wrmsr);
    vm->regs[RCX] = msr;
    vm->regs[RAX] = (uint32_t)value;
    vm->regs[RDX] = value >> 32;
}

static void expect_read_exit(struct vm *vm, uint32_t msr)
{
    start_read(vm, msr);
    EXPECT_EXIT_SKIP(vm, EXIT_RDMSR);
    CHECK_EQ(vm->exit.length, 2);
    CHECK_EQ(vm->regs[RCX], msr);
    vm->regs[RAX] = 0xcafe;
    vm->regs[RDX] = msr;
    EXPECT_DONE(vm);
    CHECK_EQ(l2_msr_value, 0xcafe | (uint64_t)msr << 32);
}

static void expect_write_exit(struct vm *vm, uint32_t msr)
{
    start_write(vm, msr, 0x123400005678);
    EXPECT_EXIT_SKIP(vm, EXIT_WRMSR);
    CHECK_EQ(vm->regs[RCX], msr);
    CHECK_EQ(vm->regs[RAX], 0x5678);
    CHECK_EQ(vm->regs[RDX], 0x1234);
    EXPECT_DONE(vm);
}

/* L1's control off: every access goes to L1, whatever the pointer holds. */
static void without_bitmap(void)
{
    static const uint32_t msrs[] = {MSR_LOW,       MSR_HIGH,     MSR_OUTSIDE,         IA32_TIME_STAMP_COUNTER,
                                    IA32_EFER,     IA32_FS_BASE, IA32_KERNEL_GS_BASE, IA32_VMX_BASIC,
                                    IA32_APIC_BASE};
    struct vm vm;

    vm_start(&vm, l2_rdmsr, 0);
    vm_control_clear(PROC_CONTROLS, (uint32_t)PROC_USE_MSR_BITMAPS);
    for (unsigned i = 0; i < ARRAY_SIZE(msrs); i++) {
        expect_read_exit(&vm, msrs[i]);
        expect_write_exit(&vm, msrs[i]);
    }
}

static void junk_pointer(void)
{
    struct vm vm;

    vm_start(&vm, l2_rdmsr, 0);
    vm_control_clear(PROC_CONTROLS, (uint32_t)PROC_USE_MSR_BITMAPS);
    vmx_set(MSR_BITMAP, UINT64_MAX);
    expect_read_exit(&vm, MSR_LOW);
    vmx_set(MSR_BITMAP, 0x123);
    expect_write_exit(&vm, MSR_HIGH);
    CHECK_EQ(vmx_get(MSR_BITMAP), 0x123);
}

static void pass_through(struct vm *vm, uint32_t msr)
{
    uint64_t value = cpu_rdmsr(msr);

    start_read(vm, msr);
    EXPECT_DONE(vm);
    CHECK_EQ(l2_msr_value, value);
    start_write(vm, msr, value);
    EXPECT_DONE(vm);
}

static void with_bitmap(void)
{
    struct vm vm;

    vm_start(&vm, l2_rdmsr, 0);
    pass_through(&vm, MSR_HIGH);
    pass_through(&vm, IA32_STAR);
    pass_through(&vm, IA32_PAT);
    msr_bit_set(vm.msr_bitmap, MSR_HIGH, MSR_READ);
    expect_read_exit(&vm, MSR_HIGH);
    start_write(&vm, MSR_HIGH, 0);
    EXPECT_DONE(&vm);
    msr_bit_set(vm.msr_bitmap, IA32_PAT, MSR_WRITE);
    expect_write_exit(&vm, IA32_PAT);
    start_read(&vm, IA32_PAT);
    EXPECT_DONE(&vm);
    CHECK_EQ(l2_msr_value, cpu_rdmsr(IA32_PAT));
}

/* Each bit is looked up at its own place: a neighbour's bit does nothing. */
static void four_quarters(void)
{
    static const uint32_t msrs[] = {0, 7, 8, 0x1fff, 0xc0000000, 0xc0000007, 0xc0000102, 0xc0001fff};
    struct vm vm;

    vm_start(&vm, l2_rdmsr, 0);
    for (unsigned i = 0; i < ARRAY_SIZE(msrs); i++) {
        msr_bit_set(vm.msr_bitmap, msrs[i], MSR_READ);
        expect_read_exit(&vm, msrs[i]);
        msr_bit_clear(vm.msr_bitmap, msrs[i], MSR_READ);
        msr_bit_set(vm.msr_bitmap, msrs[i], MSR_WRITE);
        expect_write_exit(&vm, msrs[i]);
        msr_bit_clear(vm.msr_bitmap, msrs[i], MSR_WRITE);
    }
}

/* MSRs in neither range always exit. SDM 3C 26.1.3 "Instructions That Cause VM Exits Conditionally" */
static void out_of_range(void)
{
    static const uint32_t msrs[] = {0x2000, 0xbfffffff, 0xc0002000, MSR_OUTSIDE, 0xffffffff};
    struct vm vm;

    vm_start(&vm, l2_rdmsr, 0);
    for (unsigned i = 0; i < ARRAY_SIZE(msrs); i++) {
        expect_read_exit(&vm, msrs[i]);
        expect_write_exit(&vm, msrs[i]);
    }
}

/* The upper half of RCX has no say. */
static void upper_half_of_rcx(void)
{
    struct vm vm;

    vm_start(&vm, l2_rdmsr, 0);
    start_read(&vm, IA32_PAT);
    vm.regs[RCX] |= 1ull << 40;
    EXPECT_DONE(&vm);
    CHECK_EQ(l2_msr_value, cpu_rdmsr(IA32_PAT));
    msr_bit_set(vm.msr_bitmap, IA32_PAT, MSR_READ);
    start_read(&vm, IA32_PAT);
    vm.regs[RCX] |= 1ull << 40;
    EXPECT_EXIT(&vm, EXIT_RDMSR);
}

/* L2's FS base, GS base, SYSENTER MSRs and EFER live in its VMCS: what it writes there L1 reads there. */
static void switched_msrs(void)
{
    static const struct {
        uint32_t msr;
        uint16_t field;
        uint64_t value;
    } rows[] = {
        {IA32_FS_BASE, GUEST_FS_BASE, 0x1234567890},       {IA32_GS_BASE, GUEST_GS_BASE, 0x2345678901},
        {IA32_SYSENTER_ESP, GUEST_SYSENTER_ESP, 0x345678}, {IA32_SYSENTER_EIP, GUEST_SYSENTER_EIP, 0x456789},
        {IA32_SYSENTER_CS, GUEST_SYSENTER_CS, 0x33},
    };
    struct vm vm;

    vm_start(&vm, l2_wrmsr, 0);
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        uint64_t own = cpu_rdmsr(rows[i].msr);
        start_write(&vm, rows[i].msr, rows[i].value);
        EXPECT_DONE(&vm);
        CHECK_EQ(vmx_get(rows[i].field), rows[i].value);
        CHECK_EQ(cpu_rdmsr(rows[i].msr), own);
        vmx_set(rows[i].field, rows[i].value + 4);
        start_read(&vm, rows[i].msr);
        EXPECT_DONE(&vm);
        CHECK_EQ(l2_msr_value, rows[i].value + 4);
    }
}

/* A value that the MSR does not take is #GP in L2, also when nobody intercepts the access. */
static void l2_wrmsr_caught(void)
{
    l2_fault = FAULT_OF(cpu_wrmsr(IA32_FS_BASE, NONCANONICAL_ADDRESS));
}

static void l2_write_capability_caught(void)
{
    l2_fault = FAULT_OF(cpu_wrmsr(IA32_VMX_BASIC, 0));
}

static void faults_of_passed_msrs(void)
{
    struct vm vm;

    vm_start(&vm, l2_wrmsr_caught, 0);
    l2_fault = 0;
    EXPECT_DONE(&vm);
    CHECK_EQ(l2_fault, VECTOR_GP);
    if (!counters_present()) /* bare: Bochs 3.1 ends when a read-only MSR is written */
        return;
    vm_set_code(&vm, l2_write_capability_caught);
    l2_fault = 0;
    EXPECT_DONE(&vm);
    CHECK_EQ(l2_fault, VECTOR_GP);
}

/* An MSR that L1 lets through reads the same in L2 as in L1, also those of VMX. */
static void passed_capability_msrs(void)
{
    struct vm vm;

    vm_start(&vm, l2_rdmsr, 0);
    for (uint32_t msr = IA32_VMX_BASIC; msr <= IA32_VMX_TRUE_ENTRY_CTLS; msr++) {
        start_read(&vm, msr);
        EXPECT_DONE(&vm);
        CHECK_EQ(l2_msr_value, cpu_rdmsr(msr));
    }
    start_read(&vm, IA32_FEATURE_CONTROL);
    EXPECT_DONE(&vm);
    CHECK_EQ(l2_msr_value, cpu_rdmsr(IA32_FEATURE_CONTROL));
    start_read(&vm, IA32_APIC_BASE);
    EXPECT_DONE(&vm);
    CHECK_EQ(l2_msr_value, cpu_rdmsr(IA32_APIC_BASE));
}

const struct scenario exit_msr_scenarios[] = {
    {"msr-without-bitmap", without_bitmap, NULL},
    {"msr-junk-pointer", junk_pointer, NULL},
    {"msr-with-bitmap", with_bitmap, NULL},
    {"msr-four-quarters", four_quarters, NULL},
    {"msr-out-of-range", out_of_range, NULL},
    {"msr-upper-half-of-rcx", upper_half_of_rcx, NULL},
    {"msr-switched", switched_msrs, NULL},
    {"msr-faults-of-passed", faults_of_passed_msrs, NULL},
    {"msr-passed-capabilities", passed_capability_msrs, NULL},
    {0},
};
