/* Scenarios for enlightened VMCSs alone. Source: Hypervisor Top-Level Functional Specification, "Nested
 * Virtualization", and for what it leaves open docs/adr/0019-enlightened-vmcs.md. */
#include "guests/evmcs/evmcs.h"
#include "guests/lib/counters.h"
#include "guests/lib/cpu.h"
#include "guests/lib/mem.h"
#include "guests/lib/msr_bits.h"
#include "guests/lib/page.h"
#include "guests/scenarios/scenario.h"

#define HV_GUEST_OS_ID 0x40000000u
#define HV_HYPERCALL 0x40000001u
#define HV_VP_INDEX 0x40000002u
#define HV_VP_ASSIST_PAGE 0x40000073u
#define NO_HYPERCALL 2 /* HV_STATUS_INVALID_HYPERCALL_CODE */
#define ENLIGHTENMENTS 0x344
#define CLEAN_FIELDS 0x338
#define CLEAN_ALL 0xffffu
#define CLEAN_ENLIGHTENMENTS (1u << 15)
#define VERSION 0
#define ENTRIES 20

static struct vm vm, other;

static void l2_nothing(void)
{
}

static void l2_cpuid(void)
{
    for (;;)
        (void)cpu_cpuid(0, 0);
}

static void l2_read_lstar(void)
{
    for (;;) {
        (void)cpu_rdmsr(IA32_LSTAR);
        (void)cpu_cpuid(0, 0);
    }
}

static uint32_t *word_at(unsigned offset)
{
    return (uint32_t *)(evmcs_page + offset);
}

/* An entry that fails before there is a VMCS. */
static void expect_invalid(uint64_t page)
{
    uint8_t *right = evmcs_page;

    REQUIRE_EQ(vmx_vmptrld(&page), 0);
    evmcs_page = right; /* what vm_enter_raw() stores to */
    CHECK_EQ(vm_enter_raw(vm.regs, vm.launched), 1);
    page = (uint64_t)right;
    REQUIRE_EQ(vmx_vmptrld(&page), 0);
}

static void wrong_pages(void)
{
    vm_start(&vm, l2_cpuid, 0);
    EXPECT_EXIT_SKIP(&vm, EXIT_CPUID);
    expect_invalid(vm.vmcs + 8);
    expect_invalid(1ull << 52);
    expect_invalid(0xfee00000);
    expect_invalid(~0ull);
    expect_invalid(vmx_on_region());
    EXPECT_EXIT_SKIP(&vm, EXIT_CPUID);
}

static void wrong_version(void)
{
    vm_start(&vm, l2_cpuid, 0);
    for (uint32_t version = 0; version < 4; version++) {
        if (version == EVMCS_VERSION)
            continue;
        *word_at(VERSION) = version;
        CHECK_EQ(vm_enter_raw(vm.regs, false), 1);
        *word_at(VERSION) = vmx_revision();
        CHECK_EQ(vm_enter_raw(vm.regs, false), 1);
    }
    *word_at(VERSION) = EVMCS_VERSION;
    EXPECT_EXIT(&vm, EXIT_CPUID);
}

/* VMCLEAR stores nothing to the page, and the launch state is as that of any VMCS. */
static void cleared(void)
{
    static uint8_t before[PAGE_SIZE];

    vm_start(&vm, l2_cpuid, 0);
    CHECK_EQ(vm_enter_raw(vm.regs, true), 2);
    CHECK_EQ(vmx_get(VM_INSTRUCTION_ERROR), 5);
    EXPECT_EXIT_SKIP(&vm, EXIT_CPUID);
    CHECK_EQ(vm_enter_raw(vm.regs, false), 2);
    CHECK_EQ(vmx_get(VM_INSTRUCTION_ERROR), 4);
    memcpy(before, evmcs_page, PAGE_SIZE);
    vm_clear(&vm);
    CHECK_EQ(memcmp(before, (void *)vm.vmcs, PAGE_SIZE), 0);
    REQUIRE_EQ(vmx_vmclear(&vm.vmcs), 0); /* nobody holds it any more */
    CHECK_EQ(memcmp(before, (void *)vm.vmcs, PAGE_SIZE), 0);
    vm_load(&vm);
    CHECK_EQ(vm_enter_raw(vm.regs, true), 2);
    EXPECT_EXIT(&vm, EXIT_CPUID);
}

/* A group that is said to be clean is not read; one that is not, is. */
static void clean_groups(void)
{
    vm_start(&vm, l2_nothing, 0);
    EXPECT_DONE(&vm);
    vm_set_code(&vm, l2_cpuid);
    vmx_set(TSC_OFFSET, 0x1000);
    EXPECT_EXIT_SKIP(&vm, EXIT_CPUID);
    vmx_set(PROC_CONTROLS, 0xffffffff);
    *word_at(CLEAN_FIELDS) = CLEAN_ALL;
    EXPECT_EXIT_SKIP(&vm, EXIT_CPUID);
    *word_at(CLEAN_FIELDS) = 0;
    CHECK_EQ(vm_enter(&vm), 7);
}

/* Each has its own state, and neither is read anew because of the other. */
static void two_by_turns(void)
{
    vm_start(&vm, l2_cpuid, 0);
    vm_create(&other, l2_cpuid, 0);
    for (unsigned i = 0; i < ENTRIES; i++) {
        struct vm *of = i % 2 ? &other : &vm;
        of->regs[RBX] = 0;
        vm_load(of);
        EXPECT_EXIT_SKIP(of, EXIT_CPUID);
    }
    CHECK(vm.launched && other.launched);
}

/* With the field of the VP assist page 0 entries take what VMPTRLD made current; there is none here. */
static void not_enlightened(void)
{
    uint64_t none = 0;

    vm_start(&vm, l2_cpuid, 0);
    EXPECT_EXIT_SKIP(&vm, EXIT_CPUID);
    uint8_t *page = evmcs_page;
    REQUIRE_EQ(vmx_vmptrld(&none), 0);
    evmcs_page = page;
    CHECK_EQ(vm_enter_raw(vm.regs, true), 1);
    REQUIRE_EQ(vmx_vmptrld(&vm.vmcs), 0);
    EXPECT_EXIT_SKIP(&vm, EXIT_CPUID);
}

/* 70 of them: more than there are slots. */
static void many(void)
{
    enum { COUNT = 70 };
    static struct vm vms[COUNT];

    vmx_start();
    for (unsigned i = 0; i < COUNT; i++) {
        vm_create(&vms[i], l2_cpuid, VM_NO_EPT);
        vms[i].regs[RBP] = i;
        EXPECT_EXIT_SKIP(&vms[i], EXIT_CPUID);
    }
    for (unsigned i = 0; i < COUNT; i++) {
        vm_load(&vms[i]);
        EXPECT_EXIT_SKIP(&vms[i], EXIT_CPUID);
        CHECK_EQ(vms[i].regs[RBP], i);
    }
}

static void start_with_bitmap(void)
{
    vm_start(&vm, l2_read_lstar, 0);
    evmcs_enlighten_bitmap();
    EXPECT_EXIT_SKIP(&vm, EXIT_CPUID);
}

/* Each change that L1 speaks of counts at the next entry, both ways. */
static void bitmap_by_word(void)
{
    start_with_bitmap();
    for (unsigned i = 0; i < ENTRIES; i++) {
        if (i % 2 == 0)
            msr_bit_set(vm.msr_bitmap, IA32_LSTAR, MSR_READ);
        else
            msr_bit_clear(vm.msr_bitmap, IA32_LSTAR, MSR_READ);
        evmcs_bitmap_written();
        if (i % 2 == 0)
            EXPECT_EXIT_SKIP(&vm, EXIT_RDMSR);
        EXPECT_EXIT_SKIP(&vm, EXIT_CPUID);
    }
}

/* Nobody watches the page: no store of L1's faults, and an entry without a word merges nothing. */
static void bitmap_unwatched(void)
{
    start_with_bitmap();
    uint32_t faults = counter_read(COUNTER_WATCH_FAULTS), merges = counter_read(COUNTER_BITMAP_MERGES);
    for (unsigned i = 0; i < ENTRIES; i++) {
        vm.msr_bitmap[i] = 0xff; /* without a word: it may be seen late */
        EXPECT_EXIT_SKIP(&vm, EXIT_CPUID);
    }
    CHECK_EQ(counter_read(COUNTER_BITMAP_MERGES) - merges, 0);
    for (unsigned i = 0; i < ENTRIES; i++) {
        vm.msr_bitmap[i] = 0;
        evmcs_bitmap_written();
        EXPECT_EXIT_SKIP(&vm, EXIT_CPUID);
    }
    CHECK(counter_read(COUNTER_BITMAP_MERGES) - merges >= 1); /* some wait until L2 accesses an MSR */
    CHECK_EQ(counter_read(COUNTER_WATCH_FAULTS) - faults, 0);
}

/* The other enlightenment's end: L1's stores are found out again. */
static void bitmap_ordinary_again(void)
{
    start_with_bitmap();
    *word_at(ENLIGHTENMENTS) = 0;
    *word_at(CLEAN_FIELDS) = CLEAN_ALL & ~CLEAN_ENLIGHTENMENTS;
    EXPECT_EXIT_SKIP(&vm, EXIT_CPUID);
    msr_bit_set(vm.msr_bitmap, IA32_LSTAR, MSR_READ);
    EXPECT_EXIT_SKIP(&vm, EXIT_RDMSR);
}

static void synthetic_msrs(void)
{
    uint64_t *page = page_alloc();

    vmx_start();
    CHECK_EQ(cpu_rdmsr(HV_VP_INDEX), 0);
    CHECK_FAULT(cpu_wrmsr(HV_VP_INDEX, 0), VECTOR_GP);
    CHECK_FAULT(cpu_wrmsr(HV_VP_ASSIST_PAGE, 0xfee00001), VECTOR_GP);
    CHECK(cpu_rdmsr(HV_VP_ASSIST_PAGE) & 1);
    cpu_wrmsr(HV_GUEST_OS_ID, 0);
    cpu_wrmsr(HV_HYPERCALL, (uint64_t)page | 1);
    CHECK_EQ(cpu_rdmsr(HV_HYPERCALL), (uint64_t)page);
    CHECK_EQ(*page, 0);
    cpu_wrmsr(HV_GUEST_OS_ID, 1);
    cpu_wrmsr(HV_HYPERCALL, (uint64_t)page | 1);
    CHECK_EQ((uint32_t)*page, 0xc3c1010f); /* VMCALL, RET */
    uint64_t result = ~0ull;
    asm volatile("call *%1" : "+a"(result) : "r"(page), "c"(0x5c) : "memory", "cc");
    CHECK_EQ(result, NO_HYPERCALL);
    cpu_wrmsr(HV_HYPERCALL, 0);
}

const struct scenario evmcs_scenarios[] = {
    {"evmcs-wrong-pages", wrong_pages, NULL},
    {"evmcs-wrong-version", wrong_version, NULL},
    {"evmcs-cleared", cleared, NULL},
    {"evmcs-clean-groups", clean_groups, NULL},
    {"evmcs-two-by-turns", two_by_turns, NULL},
    {"evmcs-not-enlightened", not_enlightened, NULL},
    {"evmcs-many", many, NULL},
    {"evmcs-bitmap-by-word", bitmap_by_word, NULL},
    {"evmcs-bitmap-unwatched", bitmap_unwatched, without_counters},
    {"evmcs-bitmap-ordinary-again", bitmap_ordinary_again, NULL},
    {"evmcs-synthetic-msrs", synthetic_msrs, NULL},
    {NULL, NULL, NULL},
};
