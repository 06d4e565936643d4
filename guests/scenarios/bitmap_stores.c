/* All that can store to the MSR bitmap's page: instructions of every width, and the CPU itself while the page is also
 * another structure. The next entry goes by what the page holds then. */
#include "guests/lib/cpu.h"
#include "guests/lib/msr_bits.h"
#include "guests/lib/page.h"
#include "guests/lib/paging.h"
#include "guests/scenarios/bitmap.h"

#define WINDOW GIB
#define MSR IA32_LSTAR
#define PTE_ALL (PTE_P | PTE_W | PTE_U)
#define CPUID1_ECX_AVX BIT(28)
#define XCR0_AVX 7u /* x87, SSE and AVX */
#define WIDTH_MAX 32u

static volatile uint8_t *l2_place;

/* A load and a store of one width each, from one place to another. */
#define STORE(name, load, store, reg)                                                                                  \
    static void name(void *to, const void *from)                                                                       \
    {                                                                                                                  \
        asm volatile(load " (%1), %%" reg "; " store " %%" reg ", (%0)" : : "r"(to), "r"(from) : "rax", "memory");     \
    }
STORE(store_1, "movb", "movb", "al")
STORE(store_2, "movw", "movw", "ax")
STORE(store_4, "movl", "movl", "eax")
STORE(store_8, "movq", "movq", "rax")
STORE(store_16, "movdqu", "movdqu", "xmm0")
STORE(store_32, "vmovdqu", "vmovdqu", "ymm0")

static void check_width(struct vm *vm, unsigned width, void (*store)(void *, const void *))
{
    static const uint64_t ones[WIDTH_MAX / 8] = {UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX};
    static const uint64_t zeros[WIDTH_MAX / 8];
    unsigned byte = msr_byte(MSR, MSR_READ);
    unsigned starts[] = {byte & ~(width - 1), byte - (width - 1), byte}; /* aligned, its last byte, its first one */

    for (unsigned i = 0; i < ARRAY_SIZE(starts); i++) {
        store(vm->msr_bitmap + starts[i], ones);
        EXITS_CAUGHT(vm, MSR);
        store(vm->msr_bitmap + starts[i], zeros);
        PASSES_CAUGHT(vm, MSR);
    }
}

static void write_xcr0(uint32_t value)
{
    asm volatile("xsetbv" : : "c"(0), "a"(value), "d"(0));
}

static void every_width(void)
{
    uint64_t cr4 = cpu_read_cr4();
    bool avx = cpu_cpuid(1, 0).ecx & CPUID1_ECX_AVX;
    struct vm vm;

    if (avx) {
        cpu_write_cr4(cr4 | CR4_OSXSAVE);
        write_xcr0(XCR0_AVX);
    }
    vm_start(&vm, bitmap_l2_rdmsr_caught, 0);
    PASSES_CAUGHT(&vm, MSR);
    check_width(&vm, 1, store_1);
    check_width(&vm, 2, store_2);
    check_width(&vm, 4, store_4);
    check_width(&vm, 8, store_8);
    check_width(&vm, 16, store_16);
    if (!avx)
        return;
    check_width(&vm, 32, store_32);
    write_xcr0(1);
    cpu_write_cr4((cr4 & ~CR4_OSXSAVE) | CR4_VMXE);
}

/* By another linear address of L1. */
static void through_alias(void)
{
    uint64_t own = cpu_read_cr3(), *tables;
    struct vm vm;

    vm_start(&vm, bitmap_l2_rdmsr_caught, 0);
    tables = paging_alloc_identity();
    *paging_entry(tables, WINDOW, PAGE_SIZE) = (uint64_t)vm.msr_bitmap | PTE_ALL;
    for (unsigned i = 0; i < 4; i++) {
        bitmap_expect_read(&vm, bitmap_l2_rdmsr_caught, MSR, i % 2, __FILE__, __LINE__);
        cpu_write_cr3((uint64_t)tables);
        *(volatile uint8_t *)(WINDOW + msr_byte(MSR, MSR_READ)) ^= (uint8_t)(1 << MSR % 8);
        cpu_write_cr3(own);
    }
}

static void l2_read_place(void)
{
    (void)*l2_place;
}

static void l2_write_place(void)
{
    *l2_place = 1;
}

/* The page is a table of L1's EPT, whose A and D flags are set as L2 uses it: bits 8 and 9 of entry i. */
static void also_ept12_table(void)
{
    enum { ENTRY = 5, A_MSR = 64 * ENTRY + 8, D_MSR };
    uint64_t *table;
    struct vm vm;

    vm_start(&vm, bitmap_l2_rdmsr_caught, VM_EPT);
    *paging_entry(vm.ept, WINDOW + ENTRY * PAGE_SIZE, PAGE_SIZE) = (uint64_t)page_alloc() | EPT_RWX | EPT_WB;
    table = (uint64_t *)(*paging_entry(vm.ept, WINDOW, LARGE_2M) & PAGING_ADDRESS);
    vmx_set(EPT_POINTER, ept_pointer(vm.ept, true));
    vmx_set(MSR_BITMAP, (uint64_t)table);
    PASSES_CAUGHT(&vm, A_MSR);
    l2_place = (volatile uint8_t *)WINDOW + ENTRY * PAGE_SIZE;
    vm_set_code(&vm, l2_read_place);
    EXPECT_DONE(&vm);
    CHECK_EQ(table[ENTRY] & (EPT_ACCESSED | EPT_DIRTY), EPT_ACCESSED);
    EXITS_CAUGHT(&vm, A_MSR);
    PASSES_CAUGHT(&vm, D_MSR);
    vm_set_code(&vm, l2_write_place);
    EXPECT_DONE(&vm);
    CHECK_EQ(table[ENTRY] & EPT_DIRTY, EPT_DIRTY);
    EXITS_CAUGHT(&vm, D_MSR);
}

static const char *without_accessed_dirty(void)
{
    return !without_ept() && (vmx_ept_vpid_cap() & EPT_CAP_AD) ? NULL : "no EPT accessed and dirty flags";
}

static void check_by_content(struct vm *vm)
{
    static const uint32_t msrs[] = {0x10, 0x1b, IA32_SYSENTER_CS, IA32_PAT, 0x300, 0x7f8, IA32_STAR, MSR};

    vm_load(vm);
    for (unsigned i = 0; i < ARRAY_SIZE(msrs); i++) {
        bool exits = vm->msr_bitmap[msr_byte(msrs[i], MSR_READ)] >> msrs[i] % 8 & 1;
        bitmap_expect_read(vm, bitmap_l2_rdmsr_caught, msrs[i], exits, __FILE__, __LINE__);
    }
}

/* The page becomes the region of a VMCS, which VMPTRLD and VMCLEAR use as they like. */
static void also_vmcs_region(void)
{
    uint64_t *page, region;
    struct vm vm;

    vm_start(&vm, bitmap_l2_rdmsr_caught, 0);
    page = (uint64_t *)vm.msr_bitmap;
    region = (uint64_t)page;
    for (unsigned i = 0; i < PAGE_SIZE / sizeof *page; i++)
        page[i] = i % 2 ? UINT64_MAX : 0;
    check_by_content(&vm);
    page[0] = vmx_revision();
    CHECK_EQ(vmx_vmclear(&region), 0);
    check_by_content(&vm);
    CHECK_EQ(vmx_vmptrld(&region), 0);
    vmx_set(GUEST_RIP, 0x123456789abcdef0);
    vmx_set(CR0_READ_SHADOW, UINT64_MAX);
    CHECK_EQ(vmx_vmclear(&region), 0);
    check_by_content(&vm);
}

static void l2_set_cr8(void)
{
    cpu_write_cr8(7);
}

/* The page is the virtual-APIC page of another VM, or of this one: the CPU writes the TPR past L1's EPT and L0's. */
static void also_virtual_apic(void)
{
    enum { TPR = 0x80, TPR_MSR = TPR * 8 + 4 };
    struct vm vm, other;

    vm_start(&vm, bitmap_l2_rdmsr_caught, 0);
    vm_create(&other, l2_set_cr8, 0);
    vmx_set(VIRTUAL_APIC_ADDR, (uint64_t)vm.msr_bitmap);
    vm_control_set(PROC_CONTROLS, (uint32_t)PROC_TPR_SHADOW);
    for (unsigned i = 0; i < 8; i++) {
        vm_load(&vm);
        PASSES_CAUGHT(&vm, TPR_MSR);
        PASSES_CAUGHT(&vm, TPR_MSR);
        vm_load(i < 4 ? &other : &vm);
        if (i == 4) {
            vmx_set(VIRTUAL_APIC_ADDR, (uint64_t)vm.msr_bitmap);
            vm_control_set(PROC_CONTROLS, (uint32_t)PROC_TPR_SHADOW);
        }
        vm_set_code(i < 4 ? &other : &vm, l2_set_cr8);
        EXPECT_DONE(i < 4 ? &other : &vm);
        CHECK_EQ(vm.msr_bitmap[TPR], 0x70);
        vm_load(&vm);
        EXITS_CAUGHT(&vm, TPR_MSR);
        vm.msr_bitmap[TPR] = 0;
    }
}

static const char *without_tpr_shadow(void)
{
    return vm_control_offered(PROC_CONTROLS, (uint32_t)PROC_TPR_SHADOW) ? NULL : "no TPR shadow";
}

const struct scenario bitmap_store_scenarios[] = {
    {"bitmap-every-width", every_width, NULL},
    {"bitmap-stored-through-alias", through_alias, NULL},
    {"bitmap-also-ept12-table", also_ept12_table, without_accessed_dirty},
    {"bitmap-also-vmcs-region", also_vmcs_region, NULL},
    {"bitmap-also-virtual-apic", also_virtual_apic, without_tpr_shadow},
    {0},
};
