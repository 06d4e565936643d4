/* Page-modification logging: what L1 finds in its log after L2 has written, and the exit when the log is full. */
#include "guests/lib/cpu.h"
#include "guests/lib/msr_bits.h"
#include "guests/lib/page.h"
#include "guests/lib/paging.h"
#include "guests/scenarios/scenario.h"

#define WINDOW GIB
#define PTE_ALL (PTE_P | PTE_W | PTE_U)
#define LOG_FIRST 511u
#define LOG_FULL 0xffffu
#define PAGES 4

struct logged {
    struct vm vm;
    uint64_t *log;
    uint64_t *page[PAGES]; /* at WINDOW */
};

static volatile uint64_t *l2_place;
static volatile uint64_t l2_value;

static void l2_read(void)
{
    l2_value = *l2_place;
}

static void l2_write(void)
{
    *l2_place = 0x2222;
}

/* In an order of its own, one of them twice. */
static void l2_write_pages(void)
{
    l2_place[2 * 512 + 7] = 1;
    l2_place[3] = 2;
    l2_place[2 * 512 + 9] = 3;
    l2_place[512] = 4;
}

/* Nothing but the window is touched from the first store to the last. */
static void l2_write_upwards(void)
{
    l2_place[0] = 1;
    l2_place[512] = 2;
    l2_place[2 * 512] = 3;
}

static const char *without_pml(void)
{
    return vm_control_offered(PROC2_CONTROLS, (uint32_t)PROC2_PML) ? NULL : "no PML";
}

static uint64_t *entry_of(struct logged *l, unsigned page)
{
    return paging_entry(l->vm.ept, WINDOW + page * PAGE_SIZE, PAGE_SIZE);
}

/* All that L2 has besides the window is dirty already: only the window can be logged. */
static void start(struct logged *l)
{
    vm_start(&l->vm, l2_read, VM_EPT);
    for (uint64_t address = 0; address < 4 * GIB; address += LARGE_2M)
        *paging_entry(l->vm.ept, address, LARGE_2M) |= EPT_ACCESSED | EPT_DIRTY;
    for (unsigned i = 0; i < PAGES; i++) {
        l->page[i] = page_alloc();
        *entry_of(l, i) = (uint64_t)l->page[i] | EPT_RWX | EPT_WB;
    }
    l->log = page_alloc();
    vmx_set(EPT_POINTER, ept_pointer(l->vm.ept, true));
    vmx_set(PML_ADDRESS, (uint64_t)l->log);
    vmx_set(PML_INDEX, LOG_FIRST);
    vm_secondary_set((uint32_t)PROC2_PML);
}

static void run(struct logged *l, void (*code)(void), uint64_t address)
{
    vm_set_code(&l->vm, code);
    l2_place = (volatile uint64_t *)address;
}

static void flush(void)
{
    struct inv_descriptor descriptor = {.low = vmx_get(EPT_POINTER)};

    REQUIRE_EQ(vmx_invept(INVEPT_SINGLE, &descriptor), 0);
}

/* Entries hold addresses of pages; one CPU model puts the offset of the access there as well. */
static uint64_t log_entry(const struct logged *l, unsigned index)
{
    return ALIGN_DOWN(l->log[index], PAGE_SIZE);
}

static void stores(void)
{
    struct logged l;

    start(&l);
    run(&l, l2_write_pages, WINDOW);
    EXPECT_DONE(&l.vm);
    CHECK_EQ(vmx_get(PML_INDEX), LOG_FIRST - 3);
    CHECK_EQ(log_entry(&l, 511), WINDOW + 2 * PAGE_SIZE);
    CHECK_EQ(log_entry(&l, 510), WINDOW);
    CHECK_EQ(log_entry(&l, 509), WINDOW + PAGE_SIZE);
    CHECK_EQ(l.log[508], 0);
    CHECK_EQ(l.page[2][9], 3);
    CHECK_EQ(*entry_of(&l, 1) & EPT_DIRTY, EPT_DIRTY);
    CHECK_EQ(*entry_of(&l, 3) & EPT_DIRTY, 0);
}

static void only_when_dirty_is_set(void)
{
    struct logged l;

    start(&l);
    run(&l, l2_read, WINDOW);
    EXPECT_DONE(&l.vm);
    CHECK_EQ(vmx_get(PML_INDEX), LOG_FIRST);
    *entry_of(&l, 1) |= EPT_DIRTY;
    run(&l, l2_write, WINDOW + PAGE_SIZE);
    EXPECT_DONE(&l.vm);
    CHECK_EQ(vmx_get(PML_INDEX), LOG_FIRST);
    CHECK_EQ(l.log[LOG_FIRST], 0);
}

/* L1's round of dirty tracking: take the log, clear the flags, INVEPT, go on. */
static void cleared_and_logged_again(void)
{
    struct logged l;

    start(&l);
    for (unsigned i = 0; i < 3; i++) {
        run(&l, l2_write, WINDOW + i * PAGE_SIZE);
        EXPECT_DONE(&l.vm);
        run(&l, l2_write, WINDOW);
        EXPECT_DONE(&l.vm);
        CHECK_EQ(vmx_get(PML_INDEX), LOG_FIRST - 1 - !!i);
        CHECK_EQ(log_entry(&l, LOG_FIRST), WINDOW + i * PAGE_SIZE);
        *entry_of(&l, 0) &= ~EPT_DIRTY;
        *entry_of(&l, i) &= ~EPT_DIRTY;
        flush();
        vmx_set(PML_INDEX, LOG_FIRST);
    }
}

/* L1 takes flags back one by one: those pages are logged again, and no others. */
static void cleared_one_by_one(void)
{
    struct inv_descriptor descriptor;
    struct logged l;

    start(&l);
    descriptor = (struct inv_descriptor){.low = vmx_get(EPT_POINTER)};
    for (unsigned i = 0; i < 4; i++) {
        run(&l, l2_write_pages, WINDOW);
        EXPECT_DONE(&l.vm);
        CHECK_EQ(vmx_get(PML_INDEX), LOG_FIRST - 3 - i);
        *entry_of(&l, 1) &= ~EPT_DIRTY;
        REQUIRE_EQ(vmx_invept(INVEPT_SINGLE, &descriptor), 0);
        CHECK_EQ(*entry_of(&l, 2) & EPT_DIRTY, EPT_DIRTY);
    }
    CHECK_EQ(log_entry(&l, 506), WINDOW + PAGE_SIZE);
}

/* The CPU's own write to L2's page table, which is the window's first page. */
static void page_walk(void)
{
    uint64_t *tables, *page;
    struct logged l;

    start(&l);
    tables = paging_alloc_identity();
    page = page_alloc();
    page[0] = 0x1234;
    l.page[0][0] = (uint64_t)page | PTE_ALL;
    *paging_entry(tables, 2 * GIB, LARGE_2M) = WINDOW | PTE_ALL;
    vmx_set(GUEST_CR3, (uint64_t)tables);
    run(&l, l2_read, 2 * GIB);
    EXPECT_DONE(&l.vm);
    CHECK_EQ(l2_value, 0x1234);
    CHECK_EQ(vmx_get(PML_INDEX), LOG_FIRST - 1);
    CHECK_EQ(log_entry(&l, LOG_FIRST), WINDOW);
    CHECK_EQ(l.page[0][0] & (PTE_A | PTE_D), PTE_A);
    run(&l, l2_write, 2 * GIB);
    EXPECT_DONE(&l.vm);
    CHECK_EQ(vmx_get(PML_INDEX), LOG_FIRST - 1);
    CHECK_EQ(l.page[0][0] & (PTE_A | PTE_D), PTE_A | PTE_D);
}

/* One dirty flag for 2 MiB: the first page that is written is logged, no other. */
static void leaf_2m(void)
{
    uint64_t *piece, *entry;
    struct logged l;

    start(&l);
    piece = page_alloc_run(512, LARGE_2M);
    entry = paging_entry(l.vm.ept, WINDOW + LARGE_2M, LARGE_2M);
    *entry = (uint64_t)piece | EPT_RWX | EPT_WB | PAGING_LARGE;
    run(&l, l2_write, WINDOW + LARGE_2M + 5 * PAGE_SIZE);
    EXPECT_DONE(&l.vm);
    run(&l, l2_write, WINDOW + LARGE_2M + 9 * PAGE_SIZE);
    EXPECT_DONE(&l.vm);
    CHECK_EQ(vmx_get(PML_INDEX), LOG_FIRST - 1);
    CHECK_EQ(log_entry(&l, LOG_FIRST), WINDOW + LARGE_2M + 5 * PAGE_SIZE);
    CHECK_EQ(*entry & EPT_DIRTY, EPT_DIRTY);
    CHECK_EQ(piece[9 * 512], 0x2222);
}

static void check_full(struct logged *l, unsigned page)
{
    EXPECT_EXIT(&l->vm, EXIT_PML_FULL);
    CHECK_EQ(l->vm.exit.qualification, 0);
    CHECK_EQ(l->vm.exit.idt_info & INTR_VALID, 0);
    CHECK_EQ(vmx_get(PML_INDEX), LOG_FULL);
    CHECK_EQ(*entry_of(l, page) & EPT_DIRTY, 0);
    CHECK_EQ(l->page[page][0], 0);
}

/* The store that finds no room exits before it does anything, and completes when L1 has emptied the log. */
static void full(void)
{
    struct logged l;

    start(&l);
    vmx_set(PML_INDEX, 1);
    run(&l, l2_write_upwards, WINDOW);
    check_full(&l, 2);
    CHECK_EQ(log_entry(&l, 1), WINDOW);
    CHECK_EQ(log_entry(&l, 0), WINDOW + PAGE_SIZE);
    check_full(&l, 2);
    vmx_set(PML_INDEX, LOG_FIRST);
    EXPECT_DONE(&l.vm);
    CHECK_EQ(l.page[2][0], 3);
    CHECK_EQ(log_entry(&l, LOG_FIRST), WINDOW + 2 * PAGE_SIZE);
    CHECK_EQ(vmx_get(PML_INDEX), LOG_FIRST - 1);
}

/* A full log is in the way only of accesses that set a flag. SDM 3C 29.3.6 "Page-Modification Logging" */
static void full_but_not_needed(void)
{
    struct logged l;

    start(&l);
    run(&l, l2_read, WINDOW);
    EXPECT_DONE(&l.vm);
    *entry_of(&l, 1) |= EPT_ACCESSED | EPT_DIRTY;
    vmx_set(PML_INDEX, LOG_FIRST + 1);
    run(&l, l2_read, WINDOW);
    EXPECT_DONE(&l.vm);
    run(&l, l2_write, WINDOW + PAGE_SIZE);
    EXPECT_DONE(&l.vm);
    CHECK_EQ(l.page[1][0], 0x2222);
    run(&l, l2_read, WINDOW + 2 * PAGE_SIZE);
    EXPECT_EXIT(&l.vm, EXIT_PML_FULL);
    CHECK_EQ(*entry_of(&l, 2) & EPT_ACCESSED, 0);
    *entry_of(&l, 2) |= EPT_ACCESSED;
    EXPECT_DONE(&l.vm);
    run(&l, l2_write, WINDOW);
    EXPECT_EXIT(&l.vm, EXIT_PML_FULL);
    CHECK_EQ(l.page[0][0], 0);
    CHECK_EQ(vmx_get(PML_INDEX), LOG_FIRST + 1);
}

/* Bochs looks at the index in every walk of the tables, whatever flags are set. */
static const char *without_exact_pml(void)
{
    return without_pml() ? without_pml() : without_counters();
}

/* An access that is not allowed sets no flag and is not logged. */
static void violation_first(void)
{
    struct logged l;

    start(&l);
    *entry_of(&l, 1) &= ~EPT_W;
    run(&l, l2_write_upwards, WINDOW);
    EXPECT_EXIT(&l.vm, EXIT_EPT_VIOLATION);
    CHECK_EQ(vmx_get(PML_INDEX), LOG_FIRST - 1);
    CHECK_EQ(*entry_of(&l, 1) & EPT_DIRTY, 0);
    *entry_of(&l, 1) |= EPT_W;
    EXPECT_DONE(&l.vm);
    CHECK_EQ(log_entry(&l, LOG_FIRST - 1), WINDOW + PAGE_SIZE);
    CHECK_EQ(vmx_get(PML_INDEX), LOG_FIRST - 3);
}

/* Without dirty flags there is nothing to log: the control alone is allowed. */
static void without_flags(void)
{
    struct logged l;

    start(&l);
    vmx_set(EPT_POINTER, ept_pointer(l.vm.ept, false));
    vmx_set(PML_INDEX, LOG_FULL);
    run(&l, l2_write, WINDOW);
    EXPECT_DONE(&l.vm);
    CHECK_EQ(l.page[0][0], 0x2222);
    CHECK_EQ(*entry_of(&l, 0) & EPT_DIRTY, 0);
    CHECK_EQ(vmx_get(PML_INDEX), LOG_FULL);
}

static void control_checks(void)
{
    struct logged l;

    start(&l);
    run(&l, l2_read, WINDOW);
    vmx_set(PML_ADDRESS, (uint64_t)l.log + 8);
    CHECK_EQ(vm_enter(&l.vm), VMXERR_ENTRY_CONTROLS);
    vmx_set(PML_ADDRESS, (uint64_t)l.log | 1ull << cpu_physical_bits());
    CHECK_EQ(vm_enter(&l.vm), VMXERR_ENTRY_CONTROLS);
    vmx_set(PML_ADDRESS, (uint64_t)l.log);
    vm_control_clear(PROC2_CONTROLS, (uint32_t)PROC2_EPT);
    CHECK_EQ(vm_enter(&l.vm), VMXERR_ENTRY_CONTROLS);
    vm_control_set(PROC2_CONTROLS, (uint32_t)PROC2_EPT);
    EXPECT_DONE(&l.vm);
}

static void l2_rdmsr(void)
{
    asm volatile("rdmsr" : : : "rax", "rdx", "memory");
}

/* The log page is L1's MSR bitmap: bit 12 of entry 8 is the read bit of MSR 20Ch, and the address of the window's
 * second page has it. The processor's own write to the page counts like any other. */
static void log_is_msr_bitmap(void)
{
    enum { MSR = 0x20c, ENTRY = MSR / 64 };
    struct logged l;

    _Static_assert(MSR % 64 == 12, "its bit is one of an address");
    start(&l);
    vmx_set(PML_ADDRESS, (uint64_t)l.vm.msr_bitmap);
    vmx_set(PML_INDEX, ENTRY);
    l.vm.regs[RCX] = MSR;
    run(&l, l2_rdmsr, 0);
    EXPECT_DONE(&l.vm);
    run(&l, l2_write, WINDOW + PAGE_SIZE);
    EXPECT_DONE(&l.vm);
    CHECK_EQ(vmx_get(PML_INDEX), ENTRY - 1);
    CHECK_EQ(((uint64_t *)l.vm.msr_bitmap)[ENTRY] & ~(PAGE_SIZE - 1), WINDOW + PAGE_SIZE);
    l.vm.regs[RCX] = MSR;
    run(&l, l2_rdmsr, 0);
    EXPECT_EXIT_SKIP(&l.vm, EXIT_RDMSR);
    EXPECT_DONE(&l.vm);
    msr_bit_clear(l.vm.msr_bitmap, MSR, MSR_READ);
    run(&l, l2_rdmsr, 0);
    EXPECT_DONE(&l.vm);
}

const struct scenario pml_scenarios[] = {
    {"pml-stores", stores, without_pml},
    {"pml-only-when-dirty-is-set", only_when_dirty_is_set, without_pml},
    {"pml-cleared-and-logged-again", cleared_and_logged_again, without_pml},
    {"pml-cleared-one-by-one", cleared_one_by_one, without_pml},
    {"pml-page-walk", page_walk, without_pml},
    {"pml-leaf-2m", leaf_2m, without_pml},
    {"pml-full", full, without_pml},
    {"pml-full-but-not-needed", full_but_not_needed, without_exact_pml},
    {"pml-violation-first", violation_first, without_pml},
    {"pml-without-flags", without_flags, without_pml},
    {"pml-control-checks", control_checks, without_pml},
    {"pml-log-is-msr-bitmap", log_is_msr_bitmap, without_pml},
    {0},
};
