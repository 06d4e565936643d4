/* The MSR bitmap as a page of memory: however L1 or L2 writes to it, the next entry goes by what it holds then. */
#include "guests/scenarios/bitmap.h"
#include "guests/lib/cpu.h"
#include "guests/lib/msr_bits.h"
#include "guests/lib/page.h"
#include "guests/lib/paging.h"

#define WINDOW GIB
#define MSR IA32_LSTAR

static volatile uint64_t *l2_place;

/* Toggles one byte of the page: the bit of a read of MSR. */
static void l2_toggle(void)
{
    volatile uint8_t *byte = (volatile uint8_t *)l2_place + msr_byte(MSR, MSR_READ);

    *byte = (uint8_t)(*byte ^ 1 << MSR % 8);
}

static void plain_store(void)
{
    struct vm vm;

    bitmap_start(&vm);
    PASSES(&vm, MSR);
    PASSES(&vm, MSR);
    msr_bit_set(vm.msr_bitmap, MSR, MSR_READ);
    EXITS(&vm, MSR);
    EXITS(&vm, MSR);
    PASSES(&vm, IA32_STAR);
    msr_bit_clear(vm.msr_bitmap, MSR, MSR_READ);
    PASSES(&vm, MSR);
}

/* Written between any two entries, many times: whatever L0 does to save work, it stays right. */
static void toggled_often(void)
{
    struct vm vm;

    bitmap_start(&vm);
    for (unsigned i = 0; i < 60; i++) {
        msr_bit_set(vm.msr_bitmap, MSR, MSR_READ);
        EXITS(&vm, MSR);
        msr_bit_clear(vm.msr_bitmap, MSR, MSR_READ);
        PASSES(&vm, MSR);
    }
    for (unsigned i = 0; i < 20; i++)
        PASSES(&vm, MSR);
    msr_bit_set(vm.msr_bitmap, MSR, MSR_READ);
    EXITS(&vm, MSR);
}

static void l2_nothing(void)
{
}

/* Written between any two entries of an L2 that accesses no MSR, until it does. */
static void accessed_at_last(void)
{
    struct vm vm;

    bitmap_start(&vm);
    for (unsigned i = 0; i < 200; i++) {
        bool read = i % 3 == 0, written = i % 3 == 1;
        msr_bit_clear(vm.msr_bitmap, MSR, MSR_READ);
        msr_bit_clear(vm.msr_bitmap, MSR, MSR_WRITE);
        if (read || written)
            msr_bit_set(vm.msr_bitmap, MSR, read ? MSR_READ : MSR_WRITE);
        for (unsigned k = 0; k < i % 5; k++) {
            vm_set_code(&vm, l2_nothing);
            EXPECT_DONE(&vm);
            msr_bit_set(vm.msr_bitmap, IA32_STAR, MSR_READ);
            msr_bit_clear(vm.msr_bitmap, IA32_STAR, MSR_READ);
        }
        if (i % 10)
            continue;
        bitmap_expect_read(&vm, l2_rdmsr, MSR, read, __FILE__, __LINE__);
        PASSES(&vm, IA32_STAR);
        vm_set_code(&vm, l2_wrmsr);
        vm.regs[RCX] = MSR;
        vm.regs[RAX] = vm.regs[RDX] = 0;
        if (written)
            EXPECT_EXIT_SKIP(&vm, EXIT_WRMSR);
        EXPECT_DONE(&vm);
    }
}

/* The store happens between an exit and a VMRESUME of the same L2 code. */
static void l2_rdmsr_around_cpuid(void)
{
    (void)cpu_rdmsr(MSR);
    (void)cpu_cpuid(0, 0);
    (void)cpu_rdmsr(MSR);
    (void)cpu_cpuid(0, 0);
    (void)cpu_rdmsr(MSR);
}

static void store_between_resumes(void)
{
    struct vm vm;

    bitmap_start(&vm);
    vm_set_code(&vm, l2_rdmsr_around_cpuid);
    EXPECT_EXIT_SKIP(&vm, EXIT_CPUID);
    msr_bit_set(vm.msr_bitmap, MSR, MSR_READ);
    EXPECT_EXIT_SKIP(&vm, EXIT_RDMSR);
    EXPECT_EXIT_SKIP(&vm, EXIT_CPUID);
    msr_bit_clear(vm.msr_bitmap, MSR, MSR_READ);
    EXPECT_DONE(&vm);
}

static void pointer_change(void)
{
    uint8_t *pages[3];
    struct vm vm;

    bitmap_start(&vm);
    for (unsigned i = 0; i < ARRAY_SIZE(pages); i++) {
        pages[i] = page_alloc();
        if (i)
            msr_bit_set(pages[i], i == 1 ? MSR : IA32_STAR, MSR_READ);
    }
    for (unsigned i = 0; i < 9; i++) {
        vmx_set(MSR_BITMAP, (uint64_t)pages[i % 3]);
        bitmap_expect_read(&vm, l2_rdmsr, MSR, i % 3 == 1, __FILE__, __LINE__);
        bitmap_expect_read(&vm, l2_rdmsr, IA32_STAR, i % 3 == 2, __FILE__, __LINE__);
    }
    /* A page that is not pointed to at the moment changes too. */
    msr_bit_set(pages[0], MSR, MSR_READ);
    msr_bit_clear(pages[1], MSR, MSR_READ);
    vmx_set(MSR_BITMAP, (uint64_t)pages[0]);
    EXITS(&vm, MSR);
    vmx_set(MSR_BITMAP, (uint64_t)pages[1]);
    PASSES(&vm, MSR);
}

static void shared_page(void)
{
    struct vm one, two;

    bitmap_start(&one);
    vm_create(&two, l2_rdmsr, 0);
    vmx_set(MSR_BITMAP, (uint64_t)one.msr_bitmap);
    PASSES(&one, MSR);
    PASSES(&two, MSR);
    msr_bit_set(one.msr_bitmap, MSR, MSR_READ);
    EXITS(&one, MSR);
    EXITS(&two, MSR);
    vm_clear(&one);
    msr_bit_clear(one.msr_bitmap, MSR, MSR_READ);
    PASSES(&two, MSR);
    PASSES(&one, MSR);
}

static void different_pages(void)
{
    struct vm one, two;

    bitmap_start(&one);
    vm_create(&two, l2_rdmsr, 0);
    msr_bit_set(two.msr_bitmap, MSR, MSR_READ);
    for (unsigned i = 0; i < 4; i++) {
        PASSES(&one, MSR);
        EXITS(&two, MSR);
    }
    msr_bit_set(one.msr_bitmap, MSR, MSR_READ);
    msr_bit_clear(two.msr_bitmap, MSR, MSR_READ);
    EXITS(&one, MSR);
    PASSES(&two, MSR);
}

static void locked_operations(void)
{
    uint32_t *word;
    uint32_t bit = 1u << MSR % 32;
    uint32_t old = bit;
    struct vm vm;

    bitmap_start(&vm);
    word = (uint32_t *)(vm.msr_bitmap + (msr_byte(MSR, MSR_READ) & ~3u));
    PASSES(&vm, MSR);
    asm volatile("lock orl %1, %0" : "+m"(*word) : "r"(bit) : "cc");
    EXITS(&vm, MSR);
    asm volatile("xchgl %0, %1" : "+m"(*word), "+r"(old));
    EXITS(&vm, MSR);
    asm volatile("lock btrl %1, %0" : "+m"(*word) : "Ir"(MSR % 32) : "cc");
    PASSES(&vm, MSR);
    old = 0;
    asm volatile("lock cmpxchgl %2, %0" : "+m"(*word), "+a"(old) : "r"(bit) : "cc");
    EXITS(&vm, MSR);
    CHECK_EQ(*word, bit);
}

/* One store touches the end of the page and the page after it, or the page before it and its start. */
static void crossing_stores(void)
{
    uint8_t *pages;
    struct vm vm;

    bitmap_start(&vm);
    pages = page_alloc_run(3, PAGE_SIZE);
    vmx_set(MSR_BITMAP, (uint64_t)pages + PAGE_SIZE);
    PASSES(&vm, IA32_TIME_STAMP_COUNTER);
    *(volatile uint64_t *)(pages + PAGE_SIZE - 5) = UINT64_MAX; /* its last 3 bytes are MSRs 0 to 23 */
    EXITS(&vm, IA32_TIME_STAMP_COUNTER);
    *(volatile uint64_t *)(pages + PAGE_SIZE - 5) = 0;
    PASSES(&vm, IA32_TIME_STAMP_COUNTER);
    *(volatile uint64_t *)(pages + 2 * PAGE_SIZE - 3) = UINT64_MAX;
    CHECK_EQ(pages[2 * PAGE_SIZE - 1], 0xff);
    CHECK_EQ(pages[2 * PAGE_SIZE + 4], 0xff);
    vm_set_code(&vm, l2_wrmsr); /* its first 3 bytes are the writes of the last MSRs */
    vm.regs[RCX] = 0xc0001fff;
    EXPECT_EXIT(&vm, EXIT_WRMSR);
}

static void string_stores(void)
{
    uint8_t *pages, *bitmap;
    uint64_t *at;
    uint64_t count;
    struct vm vm;

    bitmap_start(&vm);
    pages = page_alloc_run(3, PAGE_SIZE);
    bitmap = pages + PAGE_SIZE;
    vmx_set(MSR_BITMAP, (uint64_t)bitmap);
    PASSES(&vm, MSR);
    at = (uint64_t *)pages;
    count = 3 * PAGE_SIZE / 8;
    asm volatile("rep stosq" : "+D"(at), "+c"(count) : "a"(UINT64_MAX) : "memory");
    CHECK_EQ((uint64_t)at, (uint64_t)pages + 3 * PAGE_SIZE);
    EXITS(&vm, MSR);
    at = (uint64_t *)(pages + 3 * PAGE_SIZE - 8);
    count = 3 * PAGE_SIZE / 8;
    asm volatile("std; rep stosq; cld" : "+D"(at), "+c"(count) : "a"(0ull) : "memory");
    PASSES(&vm, MSR);
    asm volatile("movsq" : : "D"(bitmap + (msr_byte(MSR, MSR_READ) & ~7u)), "S"(&(uint64_t){UINT64_MAX}) : "memory");
    EXITS(&vm, MSR);
}

/* L2 writes into the page that L1 uses for it; L2's view of that page is one to one here. */
static void stored_by_l2(unsigned options)
{
    struct vm vm;

    vm_start(&vm, l2_rdmsr, options);
    PASSES(&vm, MSR);
    for (unsigned i = 0; i < 3; i++) {
        l2_place = (volatile uint64_t *)vm.msr_bitmap;
        vm_set_code(&vm, l2_toggle);
        EXPECT_DONE(&vm);
        EXITS(&vm, MSR);
        vm_set_code(&vm, l2_toggle);
        EXPECT_DONE(&vm);
        PASSES(&vm, MSR);
    }
}

static void stored_by_l2_with_ept(void)
{
    stored_by_l2(VM_EPT);
}

static void stored_by_l2_without_ept(void)
{
    stored_by_l2(VM_NO_EPT);
}

/* The same through another L2-physical address, by a small leaf. */
static void stored_by_l2_at_alias(void)
{
    struct vm vm;

    vm_start(&vm, l2_rdmsr, VM_EPT);
    *paging_entry(vm.ept, WINDOW, PAGE_SIZE) = (uint64_t)vm.msr_bitmap | EPT_RWX | EPT_WB;
    l2_place = (volatile uint64_t *)WINDOW;
    vm_set_code(&vm, l2_toggle);
    EXPECT_DONE(&vm);
    EXITS(&vm, MSR);
    vm_set_code(&vm, l2_toggle);
    EXPECT_DONE(&vm);
    PASSES(&vm, MSR);
    msr_bit_set(vm.msr_bitmap, MSR, MSR_READ);
    EXITS(&vm, MSR);
}

/* L2 whose EPT forbids it to write the page: that is L1's to handle, whatever L0 traces. */
static void read_only_for_l2(void)
{
    uint64_t *entry;
    struct vm vm;

    vm_start(&vm, l2_rdmsr, VM_EPT);
    entry = paging_entry(vm.ept, (uint64_t)vm.msr_bitmap, PAGE_SIZE);
    *entry &= ~EPT_W;
    PASSES(&vm, MSR);
    l2_place = (volatile uint64_t *)vm.msr_bitmap;
    vm_set_code(&vm, l2_toggle);
    EXPECT_EXIT(&vm, EXIT_EPT_VIOLATION);
    CHECK_EQ(vm.exit.qualification & (EPT_QUAL_WRITE | EPT_QUAL_ALLOWED_WRITE), EPT_QUAL_WRITE);
    CHECK_EQ(vm.exit.gpa, (uint64_t)vm.msr_bitmap + msr_byte(MSR, MSR_READ));
    CHECK_EQ(vm.msr_bitmap[msr_byte(MSR, MSR_READ)], 0);
    *entry |= EPT_W;
    EXPECT_DONE(&vm);
    EXITS(&vm, MSR);
}

/* A store of L1's while the control is off counts once it is on again. */
static void control_off_and_on(void)
{
    uint64_t page;
    struct vm vm;

    bitmap_start(&vm);
    page = vmx_get(MSR_BITMAP);
    PASSES(&vm, MSR);
    vm_control_clear(PROC_CONTROLS, (uint32_t)PROC_USE_MSR_BITMAPS);
    vmx_set(MSR_BITMAP, 0x1357);
    EXITS(&vm, MSR);
    EXITS(&vm, IA32_STAR);
    msr_bit_set(vm.msr_bitmap, MSR, MSR_READ);
    vmx_set(MSR_BITMAP, page);
    vm_control_set(PROC_CONTROLS, (uint32_t)PROC_USE_MSR_BITMAPS);
    EXITS(&vm, MSR);
    PASSES(&vm, IA32_STAR);
}

/* First and last byte of each of the four quarters, stored while the page is in use. */
static void ends_of_quarters(void)
{
    static const struct {
        uint32_t msr;
        unsigned access, offset;
    } rows[] = {
        {0x00000007, MSR_READ, 0x000},  {0x00001ff8, MSR_READ, 0x3ff},  {0xc0000000, MSR_READ, 0x400},
        {0xc0001fff, MSR_READ, 0x7ff},  {0x00000000, MSR_WRITE, 0x800}, {0x00001fff, MSR_WRITE, 0xbff},
        {0xc0000007, MSR_WRITE, 0xc00}, {0xc0001ff8, MSR_WRITE, 0xfff},
    };
    struct vm vm;

    bitmap_start(&vm);
    PASSES(&vm, MSR);
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        CHECK_EQ(msr_byte(rows[i].msr, rows[i].access), rows[i].offset);
        vm.msr_bitmap[rows[i].offset] = (uint8_t)(1 << rows[i].msr % 8);
        vm_set_code(&vm, rows[i].access == MSR_READ ? l2_rdmsr : l2_wrmsr);
        vm.regs[RCX] = rows[i].msr;
        EXPECT_EXIT_SKIP(&vm, rows[i].access == MSR_READ ? EXIT_RDMSR : EXIT_WRMSR);
        EXPECT_DONE(&vm);
        vm.msr_bitmap[rows[i].offset] = 0;
        PASSES(&vm, MSR);
    }
}

static void all_ones(void)
{
    static const uint32_t msrs[] = {
        IA32_TIME_STAMP_COUNTER, IA32_APIC_BASE, IA32_PAT, IA32_EFER, IA32_STAR, IA32_FS_BASE,
        IA32_KERNEL_GS_BASE,     0x40000000};
    struct vm vm;

    bitmap_start(&vm);
    PASSES(&vm, MSR);
    for (unsigned i = 0; i < PAGE_SIZE; i++)
        vm.msr_bitmap[i] = 0xff;
    for (unsigned i = 0; i < ARRAY_SIZE(msrs); i++)
        EXITS(&vm, msrs[i]);
}

const struct scenario bitmap_scenarios[] = {
    {"bitmap-plain-store", plain_store, NULL},
    {"bitmap-toggled-often", toggled_often, NULL},
    {"bitmap-accessed-at-last", accessed_at_last, NULL},
    {"bitmap-store-between-resumes", store_between_resumes, NULL},
    {"bitmap-pointer-change", pointer_change, NULL},
    {"bitmap-shared-page", shared_page, NULL},
    {"bitmap-different-pages", different_pages, NULL},
    {"bitmap-locked-operations", locked_operations, NULL},
    {"bitmap-crossing-stores", crossing_stores, NULL},
    {"bitmap-string-stores", string_stores, NULL},
    {"bitmap-stored-by-l2-with-ept", stored_by_l2_with_ept, without_ept},
    {"bitmap-stored-by-l2-without-ept", stored_by_l2_without_ept, NULL},
    {"bitmap-stored-by-l2-at-alias", stored_by_l2_at_alias, without_ept},
    {"bitmap-read-only-for-l2", read_only_for_l2, without_ept},
    {"bitmap-control-off-and-on", control_off_and_on, NULL},
    {"bitmap-ends-of-quarters", ends_of_quarters, NULL},
    {"bitmap-all-ones", all_ones, NULL},
    {0},
};
