/* The MSR bitmap's page in other roles: freed, shared with another structure, written by the CPU itself. */
#include "guests/lib/cpu.h"
#include "guests/lib/msr_bits.h"
#include "guests/lib/page.h"
#include "guests/lib/paging.h"
#include "guests/scenarios/bitmap.h"

#define WINDOW GIB
#define BEYOND_RAM (3 * GIB)
#define MSR IA32_LSTAR
#define PTE_ALL (PTE_P | PTE_W | PTE_U)

/* A pointer to where there is no memory: reads there give ones, so everything exits. */
static void beyond_ram(void)
{
    struct vm vm;

    bitmap_start(&vm);
    CHECK_EQ(*(volatile uint64_t *)BEYOND_RAM, UINT64_MAX);
    PASSES(&vm, MSR);
    vmx_set(MSR_BITMAP, BEYOND_RAM);
    EXITS(&vm, MSR);
    EXITS(&vm, IA32_EFER);
    vmx_set(MSR_BITMAP, (uint64_t)vm.msr_bitmap);
    PASSES(&vm, MSR);
}

/* After VMCLEAR and VMXOFF the page is memory like any other, and may become a bitmap again. */
static void page_reused(void)
{
    struct vm vm;

    bitmap_start(&vm);
    PASSES(&vm, MSR);
    vm_clear(&vm);
    for (unsigned i = 0; i < PAGE_SIZE; i++)
        vm.msr_bitmap[i] = (uint8_t)i;
    for (unsigned i = 0; i < PAGE_SIZE; i++)
        CHECK_EQ(vm.msr_bitmap[i], (uint8_t)i);
    bitmap_expect_read(&vm, l2_rdmsr, IA32_PAT, (uint8_t)msr_byte(IA32_PAT, MSR_READ) >> IA32_PAT % 8 & 1, __FILE__,
                       __LINE__);
    vm_clear(&vm);
    vmx_stop();
    vm.msr_bitmap[0] = 0x5a;
    CHECK_EQ(vm.msr_bitmap[0], 0x5a);
    vmx_start();
    for (unsigned i = 0; i < PAGE_SIZE; i++)
        vm.msr_bitmap[i] = 0;
    PASSES(&vm, MSR);
}

/* One page is the I/O bitmap as well. */
static void also_io_bitmap(void)
{
    struct vm vm;

    bitmap_start(&vm);
    vmx_set(IO_BITMAP_A, (uint64_t)vm.msr_bitmap);
    vmx_set(IO_BITMAP_B, (uint64_t)page_alloc());
    vm_control_set(PROC_CONTROLS, (uint32_t)PROC_USE_IO_BITMAPS);
    PASSES(&vm, IA32_FEATURE_CONTROL);
    msr_bit_set(vm.msr_bitmap, IA32_FEATURE_CONTROL, MSR_READ);
    EXITS(&vm, IA32_FEATURE_CONTROL);
    msr_bit_clear(vm.msr_bitmap, IA32_FEATURE_CONTROL, MSR_READ);
    PASSES(&vm, IA32_FEATURE_CONTROL);
}

/* The exit stores an MSR into the page: a write that the CPU does for L1. */
static void stored_by_exit(void)
{
    struct area {
        uint32_t index, reserved;
        uint64_t value;
    } * entry;
    struct vm vm;

    bitmap_start(&vm);
    entry = (struct area *)(vm.msr_bitmap + (msr_byte(IA32_SYSENTER_ESP, MSR_READ) & ~15u)); /* in the value's half */
    entry->index = IA32_STAR;
    cpu_wrmsr(IA32_STAR, UINT64_MAX);
    vmx_set(EXIT_MSR_STORE_ADDR, (uint64_t)entry);
    vmx_set(EXIT_MSR_STORE_COUNT, 1);
    PASSES(&vm, IA32_SYSENTER_ESP);
    CHECK_EQ(entry->value, UINT64_MAX);
    vmx_set(EXIT_MSR_STORE_COUNT, 0);
    EXITS(&vm, IA32_SYSENTER_ESP);
    cpu_wrmsr(IA32_STAR, 0);
}

/* VMX instructions write their results into the page. */
static void stored_by_vmx_instructions(void)
{
    uint64_t *word;
    struct vm vm;

    bitmap_start(&vm);
    word = (uint64_t *)(vm.msr_bitmap + (msr_byte(MSR, MSR_READ) & ~7u));
    PASSES(&vm, MSR);
    vmx_set(CR0_READ_SHADOW, UINT64_MAX);
    CHECK_EQ(vmx_vmread_memory(CR0_READ_SHADOW, word), 0);
    CHECK_EQ(*word, UINT64_MAX);
    EXITS(&vm, MSR);
    CHECK_EQ(vmx_vmptrst(word), 0);
    CHECK_EQ(*word, vm.vmcs);
    bitmap_expect_read(&vm, l2_rdmsr, MSR, vm.vmcs >> MSR % 64 & 1, __FILE__, __LINE__);
}

/* The page is one of L1's page tables, whose accessed bits the CPU sets by itself: bit 5 of entry i is MSR 64 i + 5. */
static void also_page_table(void)
{
    enum { ENTRY = 5, PTE_A_MSR = 64 * ENTRY + 5 };
    uint64_t own = cpu_read_cr3();
    uint64_t *tables, *table;
    struct vm vm;

    bitmap_start(&vm);
    tables = paging_alloc_identity();
    *paging_entry(tables, WINDOW + ENTRY * PAGE_SIZE, PAGE_SIZE) = (uint64_t)page_alloc() | PTE_ALL;
    table = (uint64_t *)(*paging_entry(tables, WINDOW, LARGE_2M) & PAGING_ADDRESS);
    vmx_set(MSR_BITMAP, (uint64_t)table);
    cpu_write_cr3((uint64_t)tables);
    PASSES_CAUGHT(&vm, PTE_A_MSR);
    cpu_write_cr3((uint64_t)tables);
    (void)*(volatile uint8_t *)(WINDOW + ENTRY * PAGE_SIZE);
    cpu_write_cr3(own);
    CHECK_EQ(table[ENTRY] & PTE_A, PTE_A);
    EXITS_CAUGHT(&vm, PTE_A_MSR);
}

/* L2's stack lies in the page. */
static void also_l2_stack(void)
{
    uint64_t *top;
    struct vm vm;

    bitmap_start(&vm);
    PASSES(&vm, MSR);
    vm_set_code(&vm, l2_rdmsr);
    top = (uint64_t *)vmx_get(GUEST_RSP);
    *(uint64_t *)(vm.msr_bitmap + PAGE_SIZE - 8) = *top;
    vmx_set(GUEST_RSP, (uint64_t)vm.msr_bitmap + PAGE_SIZE - 8);
    vm.regs[RCX] = MSR;
    EXPECT_DONE(&vm);
    PASSES(&vm, MSR);
}

/* An emulated CPU without these flags lets its own updates of page tables pass EPT's rights: nobody can trace them. */
static volatile uint64_t l2_basic;

static void l2_read_basic(void)
{
    l2_basic = cpu_rdmsr(IA32_VMX_BASIC);
}

static void check_basic(struct vm *vm)
{
    vm_set_code(vm, l2_read_basic);
    l2_basic = 0;
    EXPECT_DONE(vm);
    CHECK_EQ(l2_basic, cpu_rdmsr(IA32_VMX_BASIC));
}

/* An MSR that a hypervisor below L1 keeps for itself stays kept, however L1 changes its page or its pointer: L2 reads
 * an MSR of VMX as L1 does. */
static void keeps_lower_bits(void)
{
    struct vm vm;
    uint8_t *other = page_alloc();

    bitmap_start(&vm);
    check_basic(&vm);
    msr_bit_set(vm.msr_bitmap, MSR, MSR_READ);
    check_basic(&vm);
    msr_bit_clear(vm.msr_bitmap, MSR, MSR_READ);
    check_basic(&vm);
    vmx_set(MSR_BITMAP, (uint64_t)other);
    check_basic(&vm);
}

static const char *without_accessed_dirty(void)
{
    return !without_ept() && (vmx_ept_vpid_cap() & EPT_CAP_AD) ? NULL : "no EPT accessed and dirty flags";
}

const struct scenario bitmap_roles_scenarios[] = {
    {"bitmap-keeps-lower-bits", keeps_lower_bits, NULL},
    {"bitmap-beyond-ram", beyond_ram, NULL},
    {"bitmap-page-reused", page_reused, NULL},
    {"bitmap-also-io-bitmap", also_io_bitmap, NULL},
    {"bitmap-stored-by-exit", stored_by_exit, NULL},
    {"bitmap-stored-by-vmx-instructions", stored_by_vmx_instructions, NULL},
    {"bitmap-also-page-table", also_page_table, without_accessed_dirty},
    {"bitmap-also-l2-stack", also_l2_stack, NULL},
    {0},
};
