/* L2's own paging: under EPT, without EPT, and the hypervisor's classic of shadow paging; VPID. */
#include "guests/lib/paging.h"

#include "guests/lib/cpu.h"
#include "guests/lib/page.h"
#include "guests/scenarios/scenario.h"

#define WINDOW GIB
#define PTE_ALL (PTE_P | PTE_W | PTE_U)

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

static void run(struct vm *vm, void (*code)(void), uint64_t address)
{
    vm_set_code(vm, code);
    l2_place = (volatile uint64_t *)address;
}

/* L2 with page tables of its own; without EPT these are L1-physical, which is the same here. */
static void start(struct vm *vm, unsigned options, uint64_t **tables)
{
    vmx_start();
    *tables = paging_alloc_identity();
    vm_create(vm, l2_read, options);
    vmx_set(GUEST_CR3, (uint64_t)*tables);
}

static void own_tables(unsigned options)
{
    uint64_t *tables, *page;
    struct vm vm;

    start(&vm, options, &tables);
    page = page_alloc();
    page[1] = 0x1234;
    *paging_entry(tables, WINDOW, PAGE_SIZE) = (uint64_t)page | PTE_ALL;
    run(&vm, l2_read, WINDOW + 8);
    EXPECT_DONE(&vm);
    CHECK_EQ(l2_value, 0x1234);
    run(&vm, l2_write, WINDOW + 8);
    EXPECT_DONE(&vm);
    CHECK_EQ(page[1], 0x2222);
    CHECK_EQ(*paging_entry(tables, WINDOW, PAGE_SIZE) & (PTE_A | PTE_D), PTE_A | PTE_D);
    CHECK_EQ(cpu_read_cr3() == (uint64_t)tables, false);
}

static void tables_under_ept(void)
{
    own_tables(VM_EPT);
}

static void tables_without_ept(void)
{
    own_tables(VM_NO_EPT);
}

/* L1 shadows L2's paging: it intercepts page faults, CR3 and INVLPG, and fills tables that L2 never sees. */
static void l2_shadowed(void)
{
    l2_value = *l2_place;
    cpu_invlpg((uint64_t)l2_place);
    cpu_write_cr3(cpu_read_cr3());
    l2_value += *l2_place;
}

static void shadow_paging(void)
{
    uint64_t *shadow, *page, *entry;
    struct vm vm;

    start(&vm, VM_NO_EPT, &shadow);
    page = page_alloc();
    page[0] = 0x100;
    entry = paging_entry(shadow, WINDOW, PAGE_SIZE);
    *entry = 0;
    vmx_set(EXCEPTION_BITMAP, BIT(VECTOR_PF));
    vm_control_set(PROC_CONTROLS, (uint32_t)(PROC_CR3_LOAD | PROC_CR3_STORE | PROC_INVLPG));
    run(&vm, l2_shadowed, WINDOW);
    EXPECT_EXIT(&vm, EXIT_EXCEPTION_NMI);
    CHECK_EQ(vm.exit.qualification, WINDOW);
    *entry = (uint64_t)page | PTE_ALL;
    EXPECT_EXIT_SKIP(&vm, EXIT_INVLPG);
    CHECK_EQ(vm.exit.qualification, WINDOW);
    *entry = 0;
    EXPECT_EXIT_SKIP(&vm, EXIT_CR_ACCESS); /* reads CR3 */
    EXPECT_EXIT_SKIP(&vm, EXIT_CR_ACCESS); /* loads it */
    EXPECT_EXIT(&vm, EXIT_EXCEPTION_NMI);
    page = page_alloc();
    page[0] = 0x30;
    *entry = (uint64_t)page | PTE_ALL;
    EXPECT_DONE(&vm);
    CHECK_EQ(l2_value, 0x130);
}

/* L1 alternates between EPT and its own tables in one VMCS. */
static void ept_on_and_off(void)
{
    struct vm vm;

    vm_start(&vm, l2_read, VM_EPT);
    for (unsigned i = 0; i < 4; i++) {
        uint64_t word = 0x77 + i;
        run(&vm, l2_read, (uint64_t)&word);
        if (i % 2)
            vm_control_set(PROC2_CONTROLS, (uint32_t)PROC2_EPT);
        else
            vm_control_clear(PROC2_CONTROLS, (uint32_t)PROC2_EPT);
        EXPECT_DONE(&vm);
        CHECK_EQ(l2_value, word);
    }
}

/* L2's page table lies in a page that its EPT does not map: a violation of the walk. */
static void violation_in_walk(void)
{
    uint64_t *tables, *page, *hidden;
    uint64_t table;
    struct vm vm;

    start(&vm, VM_EPT, &tables);
    page = page_alloc();
    page[0] = 0x99;
    *paging_entry(tables, WINDOW, PAGE_SIZE) = (uint64_t)page | PTE_ALL;
    table = *paging_entry(tables, WINDOW, LARGE_2M) & PAGING_ADDRESS;
    hidden = paging_entry(vm.ept, table, PAGE_SIZE);
    *hidden &= ~EPT_RWX;
    run(&vm, l2_read, WINDOW);
    EXPECT_EXIT(&vm, EXIT_EPT_VIOLATION);
    CHECK_EQ(ALIGN_DOWN(vm.exit.gpa, PAGE_SIZE), table);
    CHECK_EQ(vm.exit.gla, WINDOW);
    CHECK_EQ(vm.exit.qualification & (EPT_QUAL_GLA_VALID | EPT_QUAL_NOT_WALK), EPT_QUAL_GLA_VALID);
    CHECK_EQ(vm.exit.qualification & (EPT_QUAL_READ | EPT_QUAL_FETCH), EPT_QUAL_READ);
    *hidden |= EPT_RWX;
    EXPECT_DONE(&vm);
    CHECK_EQ(l2_value, 0x99);
}

/* CR3 itself may name such a page: the entry works, the first fetch does not. */
static void violation_at_cr3(void)
{
    struct vm vm;

    vm_start(&vm, l2_read, VM_EPT);
    vmx_set(GUEST_CR3, WINDOW);
    *paging_entry(vm.ept, WINDOW, PAGE_SIZE) = 0;
    EXPECT_EXIT(&vm, EXIT_EPT_VIOLATION);
    CHECK_EQ(ALIGN_DOWN(vm.exit.gpa, PAGE_SIZE), WINDOW);
    CHECK_EQ(vm.exit.qualification & EPT_QUAL_NOT_WALK, 0);
    vmx_set(GUEST_CR3, cpu_read_cr3());
    run(&vm, l2_read, (uint64_t)&vm);
    EXPECT_DONE(&vm);
}

/* An access over a page border, of which only the second page is missing. */
static void violation_on_second_page(void)
{
    uint64_t *pages, *second;
    struct vm vm;

    vm_start(&vm, l2_read, VM_EPT);
    pages = page_alloc_run(2, PAGE_SIZE);
    second = paging_entry(vm.ept, (uint64_t)pages + PAGE_SIZE, PAGE_SIZE);
    *second &= ~EPT_RWX;
    pages[511] = 0x1122334400000000;
    pages[512] = 0x55667788;
    run(&vm, l2_read, (uint64_t)pages + PAGE_SIZE - 4);
    EXPECT_EXIT(&vm, EXIT_EPT_VIOLATION);
    CHECK_EQ(vm.exit.gpa, (uint64_t)pages + PAGE_SIZE);
    *second |= EPT_RWX;
    EXPECT_DONE(&vm);
    CHECK_EQ(l2_value, 0x5566778811223344);
}

/* The same L2-physical address shows different pages in different EPTs, also when the VMCS changes between them. */
static void two_eptps(void)
{
    uint64_t *roots[2], *pages[2];
    struct vm vm;

    vm_start(&vm, l2_read, VM_EPT);
    for (unsigned i = 0; i < 2; i++) {
        roots[i] = i ? ept_alloc_identity(LARGE_2M) : vm.ept;
        pages[i] = page_alloc();
        pages[i][0] = 0x1000 + i;
        *paging_entry(roots[i], WINDOW, PAGE_SIZE) = (uint64_t)pages[i] | EPT_RWX | EPT_WB;
    }
    for (unsigned i = 0; i < 6; i++) {
        vmx_set(EPT_POINTER, ept_pointer(roots[i % 2], false));
        run(&vm, l2_read, WINDOW);
        EXPECT_DONE(&vm);
        CHECK_EQ(l2_value, 0x1000 + i % 2);
    }
}

/* L1 changes L2's page tables and says so with INVVPID: L2 sees it, tagged TLB or not. */
static void vpid(void)
{
    struct inv_descriptor descriptor = {.low = 5, .high = WINDOW};
    uint64_t *tables, *entry;
    struct vm vm;

    start(&vm, VM_EPT, &tables);
    vm_secondary_set((uint32_t)PROC2_VPID);
    vmx_set(VPID, 5);
    entry = paging_entry(tables, WINDOW, PAGE_SIZE);
    for (unsigned type = 0; type <= 3; type++) {
        uint64_t *page = page_alloc();
        page[0] = 0x500 + type;
        *entry = (uint64_t)page | PTE_ALL;
        REQUIRE_EQ(vmx_invvpid(type, &descriptor), 0);
        run(&vm, l2_read, WINDOW);
        EXPECT_DONE(&vm);
        CHECK_EQ(l2_value, 0x500 + type);
    }
}

/* Without a VPID every entry and exit flushes, so no instruction is needed. */
static void no_vpid(void)
{
    uint64_t *tables, *entry;
    struct vm vm;

    start(&vm, VM_EPT, &tables);
    entry = paging_entry(tables, WINDOW, PAGE_SIZE);
    for (unsigned i = 0; i < 4; i++) {
        uint64_t *page = page_alloc();
        page[0] = 0x600 + i;
        *entry = (uint64_t)page | PTE_ALL;
        run(&vm, l2_read, WINDOW);
        EXPECT_DONE(&vm);
        CHECK_EQ(l2_value, 0x600 + i);
    }
}

#define CPUID7_ECX_LA57 BIT(16)
#define WINDOW_57 BIT(48) /* the fifth level's second entry: the lower half once more */

static const char *without_la57(void)
{
    bool has = cpu_cpuid(7, 0).ecx & CPUID7_ECX_LA57 && cpu_rdmsr(IA32_VMX_CR4_FIXED1) & CR4_LA57;

    return has ? NULL : "no linear addresses of 57 bits";
}

/* A fifth level above the tables. */
static uint64_t above(uint64_t tables)
{
    uint64_t *top = page_alloc();

    top[0] = top[WINDOW_57 >> 48] = tables | PTE_ALL;
    return (uint64_t)top;
}

static void l2_use_57(void)
{
    l2_value = *l2_place;
    *l2_place = 0x2222;
    asm volatile("vmptrst (%0)" : : "r"(l2_place) : "cc", "memory");
}

/* L2 on five levels: beyond 48 bits it reads, stores and has operands. SDM 3A 4.5.4 "Linear-Address Translation with
 * 4-Level Paging and 5-Level Paging" */
static void levels_5_of_l2(void)
{
    uint64_t *page, *tables;
    struct vm vm;

    for (unsigned ept = 0; ept < 2; ept++) {
        start(&vm, ept && !without_ept() ? VM_EPT : VM_NO_EPT, &tables);
        page = page_alloc();
        page[0] = 0x1234;
        vmx_set(GUEST_CR4, vmx_get(GUEST_CR4) | CR4_LA57);
        vmx_set(GUEST_CR3, above((uint64_t)tables));
        run(&vm, l2_use_57, WINDOW_57 + (uint64_t)page);
        EXPECT_EXIT_SKIP(&vm, EXIT_VMPTRST);
        CHECK_EQ(vm.exit.qualification, 0);
        CHECK_EQ(l2_value, 0x1234);
        CHECK_EQ(page[0], 0x2222);
        CHECK(vmx_get(GUEST_CR4) & CR4_LA57);
        EXPECT_DONE(&vm);
        CHECK_EQ(cpu_read_cr4() & CR4_LA57, 0);
        vmx_stop();
    }
}

static void l2_nothing(void)
{
}

/* INVVPID of one address takes any that is canonical for 57 bits. */
static void check_invvpid_57(void)
{
    static const struct {
        uint64_t address;
        int outcome;
    } tries[] = {{WINDOW_57, 0},
                 {BIT(56) - 1, 0},
                 {~(BIT(56) - 1), 0},
                 {BIT(56), VMXERR_INVALID_OPERAND},
                 {BIT(63), VMXERR_INVALID_OPERAND}};

    for (unsigned i = 0; i < ARRAY_SIZE(tries) && (vmx_ept_vpid_cap() & VPID_CAP_ADDRESS); i++) {
        struct inv_descriptor one = {.low = 1, .high = tries[i].address};
        CHECK_EQ(vmx_invvpid(0, &one), tries[i].outcome);
    }
}

/* An exit takes L1 to five levels and back. Meanwhile it has operands of VMX instructions beyond 48 bits. */
static void levels_5_of_l1(void)
{
    uint64_t cr3 = cpu_read_cr3(), *page, value;
    struct vm vm;

    vm_start(&vm, l2_nothing, 0);
    page = page_alloc();
    vmx_set(HOST_CR4, cpu_read_cr4() | CR4_LA57);
    vmx_set(HOST_CR3, above(cr3));
    EXPECT_DONE(&vm);
    CHECK(cpu_read_cr4() & CR4_LA57);
    CHECK_EQ(vmx_vmptrst((uint64_t *)(WINDOW_57 + (uint64_t)page)), 0);
    check_invvpid_57();
    CHECK_EQ(page[0], vm.vmcs);
    page[1] = 0x4321;
    CHECK_EQ(vmx_vmwrite_memory(GUEST_SYSENTER_ESP, (uint64_t *)(WINDOW_57 + (uint64_t)&page[1])), 0);
    CHECK_EQ(vmx_get(GUEST_SYSENTER_ESP), 0x4321);
    CHECK_EQ(vmx_vmread_memory(GUEST_SYSENTER_ESP, (uint64_t *)(WINDOW_57 + (uint64_t)&page[2])), 0);
    CHECK_EQ(page[2], 0x4321);
    CHECK_FAULT((void)vmx_vmread_memory(GUEST_RIP, (uint64_t *)(BIT(56) + (uint64_t)page)), VECTOR_GP);
    CHECK_FAULT(value = *(volatile uint64_t *)(BIT(49) + (uint64_t)page), VECTOR_PF);
    (void)value;
    vmx_set(HOST_CR4, cpu_read_cr4() & ~CR4_LA57);
    vmx_set(HOST_CR3, cr3);
    vm_set_code(&vm, l2_nothing);
    EXPECT_DONE(&vm);
    CHECK_EQ(cpu_read_cr4() & CR4_LA57, 0);
    CHECK_FAULT((void)vmx_vmptrst((uint64_t *)(WINDOW_57 + (uint64_t)page)), VECTOR_GP);
}

static const char *without_vpid(void)
{
    return vm_control_offered(PROC2_CONTROLS, (uint32_t)(PROC2_VPID | PROC2_EPT)) ? NULL : "no VPID";
}

const struct scenario paging_scenarios[] = {
    {"paging-under-ept", tables_under_ept, without_ept},
    {"paging-without-ept", tables_without_ept, NULL},
    {"paging-shadowed-by-l1", shadow_paging, NULL},
    {"paging-ept-on-and-off", ept_on_and_off, without_ept},
    {"paging-violation-in-walk", violation_in_walk, without_ept},
    {"paging-violation-at-cr3", violation_at_cr3, without_ept},
    {"paging-violation-on-second-page", violation_on_second_page, without_ept},
    {"paging-two-eptps", two_eptps, without_ept},
    {"paging-vpid", vpid, without_vpid},
    {"paging-no-vpid", no_vpid, without_ept},
    {"paging-57-bits", levels_5_of_l2, without_la57},
    {"paging-57-bits-of-l1", levels_5_of_l1, without_la57},
    {0},
};
