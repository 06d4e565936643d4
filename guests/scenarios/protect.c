/* Nestor's memory: whoever reads it gets ones, whoever writes it changes nothing, and Nestor goes on. */
#include "guests/lib/cpu.h"
#include "guests/lib/multiboot.h"
#include "guests/lib/page.h"
#include "guests/lib/paging.h"
#include "guests/scenarios/scenario.h"

#define WORDS_PER_PAGE (PAGE_SIZE / 8)
#define WRITE_STEP_L1 PAGE_SIZE
#define WRITE_STEP_L2 (64 * PAGE_SIZE)

static uint64_t base, size;

static volatile uint64_t l2_bad;

/* Words of the region that are not all-ones. */
static uint64_t count_bad_words(void)
{
    uint64_t bad = 0;

    for (uint64_t page = base; page < base + size; page += PAGE_SIZE) {
        uint64_t at = page;
        uint64_t left = WORDS_PER_PAGE;
        while (left) {
            bool equal;
            asm volatile("repe scasq; sete %b2" : "+D"(at), "+c"(left), "=q"(equal) : "a"(UINT64_MAX) : "memory", "cc");
            bad += !equal;
        }
    }
    return bad;
}

static void write_all(uint64_t step)
{
    for (uint64_t place = base; place < base + size; place += step) {
        *(volatile uint64_t *)place = 0;
        *(volatile uint8_t *)(place + PAGE_SIZE - 1) = 0x55;
        asm volatile("lock orq $1, %0" : "+m"(*(volatile uint64_t *)(place + 8)));
    }
}

static void l2_read_all(void)
{
    l2_bad = count_bad_words();
}

static void l2_write_all(void)
{
    write_all(WRITE_STEP_L2);
}

static void find(void)
{
    const struct region *carveout = multiboot_find_carveout();

    REQUIRE(carveout != NULL);
    base = carveout->base;
    size = carveout->size;
}

static void l2_nothing(void)
{
}

/* Nestor still runs L2, and its memory still reads as ones. */
static void check_alive(void)
{
    struct vm vm;

    vmx_stop();
    vm_start(&vm, l2_nothing, 0);
    EXPECT_DONE(&vm);
}

static void read_by_l1(void)
{
    find();
    CHECK_EQ(count_bad_words(), 0);
}

static void written_by_l1(void)
{
    find();
    write_all(WRITE_STEP_L1);
    CHECK_EQ(count_bad_words(), 0);
    check_alive();
}

/* Strings that run into the region from RAM, and stores over its border. */
static void strings_of_l1(void)
{
    uint64_t at, left = 2 * WORDS_PER_PAGE;

    find();
    at = base;
    asm volatile("rep stosq" : "+D"(at), "+c"(left) : "a"(0x1234ull) : "memory");
    CHECK_EQ(at, base + 2 * PAGE_SIZE);
    CHECK_EQ(*(volatile uint64_t *)base, UINT64_MAX);
    *(volatile uint64_t *)(base + PAGE_SIZE - 3) = 0;
    CHECK_EQ(*(volatile uint64_t *)(base + PAGE_SIZE - 3), UINT64_MAX);
    *(volatile uint64_t *)(base + size - 8) = 0;
    CHECK_EQ(*(volatile uint64_t *)(base + size - 8), UINT64_MAX);
    check_alive();
}

/* Ones are no instruction. */
static void executed_by_l1(void)
{
    find();
    CHECK_FAULT(((void (*)(void))base)(), VECTOR_UD);
    check_alive();
}

static void by_l2(unsigned options)
{
    struct vm vm;

    find();
    vm_start(&vm, l2_read_all, options);
    EXPECT_DONE(&vm);
    CHECK_EQ(l2_bad, 0);
    vm_set_code(&vm, l2_write_all);
    EXPECT_DONE(&vm);
    l2_bad = 1;
    vm_set_code(&vm, l2_read_all);
    EXPECT_DONE(&vm);
    CHECK_EQ(l2_bad, 0);
    check_alive();
}

static void by_l2_with_ept(void)
{
    by_l2(VM_EPT);
}

static void by_l2_without_ept(void)
{
    by_l2(VM_NO_EPT);
}

static void l2_rdmsr(void)
{
    asm volatile("rdmsr" : : "c"(IA32_LSTAR) : "rax", "rdx");
}

static void l2_out(void)
{
    cpu_outb(0x80, 0);
}

/* Bitmaps there read as ones: everything exits. */
static void bitmaps_in_it(void)
{
    struct vm vm;

    find();
    vm_start(&vm, l2_rdmsr, 0);
    vmx_set(MSR_BITMAP, base + PAGE_SIZE);
    EXPECT_EXIT_SKIP(&vm, EXIT_RDMSR);
    EXPECT_DONE(&vm);
    vmx_set(IO_BITMAP_A, base);
    vmx_set(IO_BITMAP_B, base + size - PAGE_SIZE);
    vm_control_set(PROC_CONTROLS, (uint32_t)PROC_USE_IO_BITMAPS);
    vm_set_code(&vm, l2_out);
    EXPECT_EXIT_SKIP(&vm, EXIT_IO);
    EXPECT_DONE(&vm);
    CHECK_EQ(count_bad_words(), 0);
}

/* Tables of ones have reserved bits set. */
static void ept_in_it(void)
{
    struct vm vm;

    find();
    vm_start(&vm, l2_nothing, VM_EPT);
    vmx_set(EPT_POINTER, ept_pointer((uint64_t *)base, false));
    EXPECT_EXIT(&vm, EXIT_EPT_MISCONFIG);
    vmx_set(EPT_POINTER, ept_pointer(vm.ept, false));
    *paging_entry(vm.ept, GIB, PAGE_SIZE) = 0;
    *paging_entry(vm.ept, GIB, LARGE_2M) = base | EPT_RWX;
    EXPECT_DONE(&vm);
    check_alive();
}

static void page_tables_in_it(void)
{
    struct vm vm;

    find();
    vm_start(&vm, l2_nothing, VM_NO_EPT);
    vmx_set(GUEST_CR3, base);
    EXPECT_EXIT(&vm, EXIT_TRIPLE_FAULT);
    check_alive();
}

static void l2_write_tpr(void)
{
    cpu_write_cr8(3);
}

static void virtual_apic_in_it(void)
{
    struct vm vm;

    find();
    vm_start(&vm, l2_write_tpr, 0);
    vmx_set(VIRTUAL_APIC_ADDR, base + 2 * PAGE_SIZE);
    vm_control_set(PROC_CONTROLS, (uint32_t)PROC_TPR_SHADOW);
    EXPECT_DONE(&vm);
    CHECK_EQ(count_bad_words(), 0);
    check_alive();
}

/* A list of ones names no MSR that may be loaded. */
static void msr_area_in_it(void)
{
    struct vm vm;

    find();
    vm_start(&vm, l2_nothing, 0);
    vmx_set(ENTRY_MSR_LOAD_ADDR, base);
    vmx_set(ENTRY_MSR_LOAD_COUNT, 3);
    CHECK_EQ(vm_enter(&vm), 0);
    CHECK_EQ(vm.exit.reason, EXIT_REASON_ENTRY_FAILURE | EXIT_MSR_LOAD_FAIL);
    CHECK_EQ(vm.exit.qualification, 1);
    check_alive();
}

/* Regions there have no revision that fits; VMCLEAR writes, which changes nothing. */
static void regions_in_it(void)
{
    struct inv_descriptor *descriptor;
    uint64_t pointer, vmcs;
    struct vm vm;

    find();
    pointer = base + 3 * PAGE_SIZE;
    descriptor = (struct inv_descriptor *)pointer;
    vmx_prepare_control_registers();
    CHECK_EQ(vmx_vmxon(&pointer), VMFAIL_INVALID);
    vm_start(&vm, l2_nothing, 0);
    CHECK_EQ(vmx_vmptrld(&pointer), VMXERR_VMPTRLD_REVISION);
    CHECK_EQ(vmx_vmclear(&pointer), 0);
    vmx_set(VMCS_LINK_POINTER, pointer);
    CHECK_EQ(vm_enter(&vm), 0);
    CHECK_EQ(vm.exit.reason, EXIT_REASON_ENTRY_FAILURE | EXIT_INVALID_GUEST_STATE);
    vmx_set(VMCS_LINK_POINTER, UINT64_MAX);
    CHECK_EQ(vmx_vmptrst((uint64_t *)pointer), 0);
    CHECK_EQ(vmx_vmread_memory(GUEST_RIP, (uint64_t *)pointer), 0);
    CHECK_EQ(vmx_vmwrite_memory(CR0_READ_SHADOW, (uint64_t *)pointer), 0);
    CHECK_EQ(vmx_get(CR0_READ_SHADOW), UINT64_MAX);
    CHECK_EQ(vmx_vmclear((uint64_t *)pointer), VMXERR_VMCLEAR_ADDRESS);
    CHECK_EQ(vmx_invept(1, descriptor), VMXERR_INVALID_OPERAND);
    CHECK_EQ(vmx_vmptrst(&vmcs), 0);
    CHECK_EQ(vmcs, vm.vmcs);
    EXPECT_DONE(&vm);
    CHECK_EQ(count_bad_words(), 0);
}

const struct scenario protect_scenarios[] = {
    {"protect-read-by-l1", read_by_l1, without_carveout},
    {"protect-written-by-l1", written_by_l1, without_carveout},
    {"protect-strings-of-l1", strings_of_l1, without_carveout},
    {"protect-executed-by-l1", executed_by_l1, without_carveout},
    {"protect-by-l2-with-ept", by_l2_with_ept, without_carveout},
    {"protect-by-l2-without-ept", by_l2_without_ept, without_carveout},
    {"protect-bitmaps-in-it", bitmaps_in_it, without_carveout},
    {"protect-ept-in-it", ept_in_it, without_carveout},
    {"protect-page-tables-in-it", page_tables_in_it, without_carveout},
    {"protect-virtual-apic-in-it", virtual_apic_in_it, without_carveout},
    {"protect-msr-area-in-it", msr_area_in_it, without_carveout},
    {"protect-regions-in-it", regions_in_it, without_carveout},
    {0},
};
