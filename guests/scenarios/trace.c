/* The cost of Nestor's tracing of bitmap pages, by its own counters: merges only after a write, one fault per write
 * burst. */
#include "guests/lib/counters.h"
#include "guests/lib/cpu.h"
#include "guests/lib/msr_bits.h"
#include "guests/lib/page.h"
#include "guests/scenarios/scenario.h"

#define MSR IA32_LSTAR
#define ROUNDS 20

static uint32_t before[COUNTER_COUNT];
static volatile uint8_t *l2_place;

static void snapshot(void)
{
    for (enum counter i = 1; i < COUNTER_COUNT; i++)
        before[i] = counter_read(i);
}

static void check_grown(enum counter counter, uint32_t by, const char *file, int line)
{
    uint32_t grown = counter_read(counter) - before[counter];

    if (!check_equal(grown, by, "growth of a counter", file, line))
        check_report("that was \"%s\"", counter_description(counter));
}
#define CHECK_GROWN(counter, by) check_grown(counter, by, __FILE__, __LINE__)

static void l2_rdmsr(void)
{
    asm volatile("rdmsr" : : "c"(MSR) : "rax", "rdx", "memory");
}

static void l2_rdmsr_often(void)
{
    for (unsigned i = 0; i < 100; i++)
        l2_rdmsr();
}

static void l2_store(void)
{
    for (unsigned i = 0; i < 16; i++)
        l2_place[i] = 0;
}

static void passes(struct vm *vm)
{
    vm_set_code(vm, l2_rdmsr);
    EXPECT_DONE(vm);
}

/* One VM that has been entered once: its bitmap is merged and traced. */
static void start(struct vm *vm)
{
    vm_start(vm, l2_rdmsr, 0);
    passes(vm);
    snapshot();
}

static void unchanged(void)
{
    struct vm vm;

    start(&vm);
    for (unsigned i = 0; i < ROUNDS; i++)
        passes(&vm);
    CHECK_GROWN(COUNTER_NESTED_ENTRIES, ROUNDS);
    CHECK_GROWN(COUNTER_BITMAP_MERGES, 0);
    CHECK_GROWN(COUNTER_BITMAP_MERGES_SAVED, ROUNDS);
    CHECK_GROWN(COUNTER_WATCH_FAULTS, 0);
}

static void one_store(void)
{
    struct vm vm;

    start(&vm);
    vm.msr_bitmap[0] = 0;
    CHECK_GROWN(COUNTER_WATCH_FAULTS, 1);
    CHECK_GROWN(COUNTER_BITMAP_MERGES, 0);
    passes(&vm);
    passes(&vm);
    CHECK_GROWN(COUNTER_WATCH_FAULTS, 1);
    CHECK_GROWN(COUNTER_BITMAP_MERGES, 1);
}

/* Only the first store of a burst is caught. */
static void many_stores(void)
{
    struct vm vm;

    start(&vm);
    for (unsigned i = 0; i < 16; i++)
        ((volatile uint8_t *)vm.msr_bitmap)[i * 0x100] = 0;
    passes(&vm);
    CHECK_GROWN(COUNTER_WATCH_FAULTS, 1);
    CHECK_GROWN(COUNTER_BITMAP_MERGES, 1);
}

/* Pages beside the traced one cost nothing, nor do reads of it. */
static void neighbours(void)
{
    volatile uint8_t *pages;
    struct vm vm;

    vm_start(&vm, l2_rdmsr, 0);
    pages = page_alloc_run(3, PAGE_SIZE);
    vmx_set(MSR_BITMAP, (uint64_t)pages + PAGE_SIZE);
    passes(&vm);
    snapshot();
    for (unsigned i = 0; i < PAGE_SIZE; i += 64) {
        pages[i] = 1;
        pages[2 * PAGE_SIZE + i] = 1;
        (void)pages[PAGE_SIZE + i];
    }
    passes(&vm);
    CHECK_GROWN(COUNTER_WATCH_FAULTS, 0);
    CHECK_GROWN(COUNTER_BITMAP_MERGES, 0);
}

/* Going back to a page that was merged before is as cheap as staying. */
static void pointer_back_and_forth(void)
{
    uint64_t pages[2];
    struct vm vm;

    vm_start(&vm, l2_rdmsr, 0);
    for (unsigned i = 0; i < 2; i++) {
        pages[i] = (uint64_t)page_alloc();
        vmx_set(MSR_BITMAP, pages[i]);
        passes(&vm);
    }
    snapshot();
    for (unsigned i = 0; i < ROUNDS; i++) {
        vmx_set(MSR_BITMAP, pages[i % 2]);
        passes(&vm);
    }
    CHECK_GROWN(COUNTER_BITMAP_MERGES, 0);
    CHECK_GROWN(COUNTER_WATCH_FAULTS, 0);
}

static void shared_page(void)
{
    struct vm one, two;

    start(&one);
    vm_create(&two, l2_rdmsr, 0);
    vmx_set(MSR_BITMAP, (uint64_t)one.msr_bitmap);
    passes(&two);
    passes(&one);
    CHECK_GROWN(COUNTER_BITMAP_MERGES, 0);
    one.msr_bitmap[0] = 0;
    passes(&two);
    passes(&one);
    CHECK_GROWN(COUNTER_BITMAP_MERGES, 1);
    CHECK_GROWN(COUNTER_WATCH_FAULTS, 1);
}

static void stored_by_l2(unsigned options)
{
    struct vm vm;

    vm_start(&vm, l2_rdmsr, options);
    passes(&vm);
    snapshot();
    l2_place = vm.msr_bitmap;
    vm_set_code(&vm, l2_store);
    EXPECT_DONE(&vm);
    CHECK_GROWN(COUNTER_WATCH_FAULTS, 1);
    passes(&vm);
    CHECK_GROWN(COUNTER_BITMAP_MERGES, 1);
}

static void stored_by_l2_with_ept(void)
{
    stored_by_l2(VM_EPT);
}

static void stored_by_l2_without_ept(void)
{
    stored_by_l2(VM_NO_EPT);
}

/* MSRs that neither L1 nor Nestor intercepts do not exit at all. */
static void reads_without_exits(void)
{
    struct vm vm;

    start(&vm);
    vm_set_code(&vm, l2_rdmsr_often);
    EXPECT_DONE(&vm);
    CHECK_GROWN(COUNTER_L2_MSR_EXITS_L0, 0);
    CHECK_GROWN(COUNTER_L2_MSR_EXITS_L1, 0);
    CHECK_GROWN(COUNTER_EXITS_REFLECTED, 1);
}

static void exits_after_store(void)
{
    struct vm vm;

    start(&vm);
    msr_bit_set(vm.msr_bitmap, MSR, MSR_READ);
    vm_set_code(&vm, l2_rdmsr);
    EXPECT_EXIT_SKIP(&vm, EXIT_RDMSR);
    EXPECT_DONE(&vm);
    CHECK_GROWN(COUNTER_L2_MSR_EXITS_L1, 1);
    CHECK_GROWN(COUNTER_L2_MSR_EXITS_L0, 0);
}

/* VMCLEAR and VMPTRLD with a page that nobody stored to: nothing is merged or protected anew. */
static void kept_past_vmclear(void)
{
    struct vm vm;

    start(&vm);
    for (unsigned i = 0; i < ROUNDS; i++) {
        vm_clear(&vm);
        passes(&vm);
    }
    CHECK_GROWN(COUNTER_BITMAP_MERGES, 0);
    CHECK_GROWN(COUNTER_WATCH_ARMED, 0);
    CHECK_GROWN(COUNTER_BITMAP_FREED, 0);
}

/* A store to a page that no vmcs12 names is seen when one names it again. */
static void stored_past_vmclear(void)
{
    struct vm vm;

    start(&vm);
    vm_clear(&vm);
    msr_bit_set(vm.msr_bitmap, MSR, MSR_READ);
    msr_bit_set(vm.msr_bitmap, MSR, MSR_WRITE);
    CHECK_GROWN(COUNTER_WATCH_FAULTS, 1);
    vm_set_code(&vm, l2_rdmsr);
    EXPECT_EXIT_SKIP(&vm, EXIT_RDMSR);
    EXPECT_DONE(&vm);
    CHECK_GROWN(COUNTER_BITMAP_MERGES, 1);
}

/* A large page of EPT01 that was split for tracing is whole again. */
static void freed_by_vmxoff(void)
{
    uint8_t *bitmap;
    struct vm vm;

    start(&vm);
    bitmap = vm.msr_bitmap;
    vmx_stop();
    CHECK_GROWN(COUNTER_BITMAP_FREED, 1);
    *(volatile uint8_t *)bitmap = 0;
    CHECK_GROWN(COUNTER_WATCH_FAULTS, 0);
    CHECK_EQ(counter_read(COUNTER_EPT01_SPLITS) - counter_read(COUNTER_EPT01_JOINS), 0);
}

/* Many rounds of VMX operation cost Nestor no page for good. */
static void no_page_lost(void)
{
    uint32_t free_pages = 0;

    for (unsigned i = 0; i < 8; i++) {
        uint64_t mark = page_mark();
        struct vm vm;
        vmx_start();
        vm_create(&vm, l2_rdmsr, 0);
        passes(&vm);
        vmx_stop();
        page_release(mark);
        if (i == 1)
            free_pages = counter_read(COUNTER_PAGES_FREE);
    }
    CHECK_EQ(counter_read(COUNTER_PAGES_FREE), free_pages);
}

/* Each of many vmcs12s has a bitmap of its own: a look-up, never a merge, when L1 goes from one to the other. */
static void eight_alternating(void)
{
    enum { VMS = 8 };
    static struct vm vm[VMS];
    uint32_t first;

    vmx_start();
    first = counter_read(COUNTER_BITMAP_MERGES);
    for (unsigned i = 0; i < VMS; i++)
        vm_create(&vm[i], l2_rdmsr, 0);
    for (unsigned i = 0; i < 10 * VMS; i++)
        passes(&vm[i % VMS]);
    CHECK_EQ(counter_read(COUNTER_BITMAP_MERGES) - first, VMS);
}

/* Very many entries, not one merge. */
static void ten_thousand_entries(void)
{
    struct vm vm;

    start(&vm);
    for (unsigned i = 0; i < 10000; i++)
        passes(&vm);
    CHECK_GROWN(COUNTER_NESTED_ENTRIES, 10000);
    CHECK_GROWN(COUNTER_BITMAP_MERGES, 0);
    CHECK_GROWN(COUNTER_BITMAP_MERGES_SAVED, 10000);
}

/* More pages than Nestor keeps: those used longest ago make room, are no longer traced, and come back when named. */
static void more_pages_than_kept(void)
{
    enum { PAGES = 70 };
    uint8_t *pages[PAGES];
    uint32_t evicted;
    struct vm vm;

    start(&vm);
    for (unsigned i = 0; i < PAGES; i++) {
        pages[i] = page_alloc();
        vmx_set(MSR_BITMAP, (uint64_t)pages[i]);
        passes(&vm);
    }
    evicted = counter_read(COUNTER_BITMAP_EVICTED) - before[COUNTER_BITMAP_EVICTED];
    CHECK_EQ(evicted > 0, true);
    CHECK_GROWN(COUNTER_BITMAP_MERGES, PAGES);
    msr_bit_set(pages[0], MSR, MSR_READ);
    CHECK_GROWN(COUNTER_WATCH_FAULTS, 0);
    vmx_set(MSR_BITMAP, (uint64_t)pages[0]);
    vm_set_code(&vm, l2_rdmsr);
    EXPECT_EXIT_SKIP(&vm, EXIT_RDMSR);
    EXPECT_DONE(&vm);
    CHECK_GROWN(COUNTER_BITMAP_MERGES, PAGES + 1);
}

/* The same with a vmcs12 for each page, all of them loaded: a VMCS whose merged page went finds it again. */
static void more_vmcs_than_kept(void)
{
    enum { VMS = 24 }; /* three bitmaps each */
    static struct vm vm[VMS];

    vmx_start();
    for (unsigned i = 0; i < VMS; i++) {
        vm_create(&vm[i], l2_rdmsr, 0);
        vmx_set(IO_BITMAP_A, (uint64_t)page_alloc());
        vmx_set(IO_BITMAP_B, (uint64_t)page_alloc());
        vm_control_set(PROC_CONTROLS, (uint32_t)PROC_USE_IO_BITMAPS);
        if (i % 2)
            msr_bit_set(vm[i].msr_bitmap, MSR, MSR_READ);
    }
    for (unsigned i = 0; i < 3 * VMS; i++) {
        vm_set_code(&vm[i % VMS], l2_rdmsr);
        if (i % 2)
            EXPECT_EXIT_SKIP(&vm[i % VMS], EXIT_RDMSR);
        EXPECT_DONE(&vm[i % VMS]);
    }
    CHECK_EQ(counter_read(COUNTER_BITMAP_EVICTED) > 0, true);
}

/* A page rewritten before each entry is left untraced, and traced again when L1 leaves it alone. */
static void rewritten_page(void)
{
    struct vm vm;

    start(&vm);
    for (unsigned i = 0; i < 200; i++) {
        ((volatile uint8_t *)vm.msr_bitmap)[0] = 0;
        passes(&vm);
    }
    CHECK_EQ(counter_read(COUNTER_WATCH_FAULTS) - before[COUNTER_WATCH_FAULTS] < 12, true);
    CHECK_GROWN(COUNTER_BITMAP_MERGES, 200);
    for (unsigned i = 0; i < 5000; i++)
        passes(&vm);
    snapshot();
    for (unsigned i = 0; i < 50; i++)
        passes(&vm);
    CHECK_GROWN(COUNTER_BITMAP_MERGES, 0);
}

/* Nestor keeps one MSR more, and no more: L2's next entry goes by it, both times, and the value stays L2's. */
static void policy_changes(void)
{
    struct vm vm;

    start(&vm);
    policy_keep(MSR, true, false);
    passes(&vm);
    CHECK_GROWN(COUNTER_BITMAP_MERGES, 1);
    CHECK_GROWN(COUNTER_L2_MSR_EXITS_L0, 1);
    CHECK_GROWN(COUNTER_EXITS_REFLECTED, 1);
    passes(&vm);
    CHECK_GROWN(COUNTER_BITMAP_MERGES, 1);
    CHECK_GROWN(COUNTER_L2_MSR_EXITS_L0, 2);
    policy_keep(MSR, false, false);
    passes(&vm);
    CHECK_GROWN(COUNTER_BITMAP_MERGES, 2);
    CHECK_GROWN(COUNTER_L2_MSR_EXITS_L0, 2);
    CHECK_GROWN(COUNTER_WATCH_FAULTS, 0);
    msr_bit_set(vm.msr_bitmap, MSR, MSR_READ); /* L1's bit outlives L0's */
    policy_keep(MSR, true, true);
    vm_set_code(&vm, l2_rdmsr);
    EXPECT_EXIT_SKIP(&vm, EXIT_RDMSR);
    EXPECT_DONE(&vm);
    policy_keep(MSR, false, false);
    vm_set_code(&vm, l2_rdmsr);
    EXPECT_EXIT_SKIP(&vm, EXIT_RDMSR);
    EXPECT_DONE(&vm);
}

static const char *without_policy(void)
{
    return policy_present() ? NULL : "on bare";
}

/* A bitmap that is off is not merged. */
static void control_off(void)
{
    struct vm vm;

    start(&vm);
    vm_control_clear(PROC_CONTROLS, (uint32_t)PROC_USE_MSR_BITMAPS);
    vm_set_code(&vm, l2_rdmsr);
    EXPECT_EXIT_SKIP(&vm, EXIT_RDMSR);
    EXPECT_DONE(&vm);
    CHECK_GROWN(COUNTER_BITMAP_MERGES, 0);
    CHECK_GROWN(COUNTER_BITMAP_MERGES_SAVED, 0);
}

const struct scenario trace_scenarios[] = {
    {"trace-unchanged", unchanged, without_counters},
    {"trace-one-store", one_store, without_counters},
    {"trace-many-stores", many_stores, without_counters},
    {"trace-neighbours", neighbours, without_counters},
    {"trace-pointer-back-and-forth", pointer_back_and_forth, without_counters},
    {"trace-shared-page", shared_page, without_counters},
    {"trace-stored-by-l2-with-ept", stored_by_l2_with_ept, without_counters},
    {"trace-stored-by-l2-without-ept", stored_by_l2_without_ept, without_counters},
    {"trace-reads-without-exits", reads_without_exits, without_counters},
    {"trace-exits-after-store", exits_after_store, without_counters},
    {"trace-kept-past-vmclear", kept_past_vmclear, without_counters},
    {"trace-stored-past-vmclear", stored_past_vmclear, without_counters},
    {"trace-freed-by-vmxoff", freed_by_vmxoff, without_counters},
    {"trace-no-page-lost", no_page_lost, without_counters},
    {"trace-control-off", control_off, without_counters},
    {"trace-eight-alternating", eight_alternating, without_counters},
    {"trace-ten-thousand-entries", ten_thousand_entries, without_counters},
    {"trace-more-pages-than-kept", more_pages_than_kept, without_counters},
    {"trace-more-vmcs-than-kept", more_vmcs_than_kept, without_counters},
    {"trace-rewritten-page", rewritten_page, without_counters},
    {"trace-policy-changes", policy_changes, without_policy},
    {0},
};
