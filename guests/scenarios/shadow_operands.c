/* VMCS shadowing with memory operands: faults in L2's paging and in L1's extended page tables. */
#include "guests/lib/cpu.h"
#include "guests/lib/page.h"
#include "guests/lib/paging.h"
#include "guests/scenarios/shadow.h"

#define WINDOW GIB

static volatile uint8_t l2_fault_seen;
static volatile uint64_t *volatile l2_operand;

static void l2_vmread_memory(void)
{
    uint64_t flags;

    asm volatile("vmread %1, (%2); pushfq; pop %0" : "=r"(flags) : "r"(l2_field), "r"(l2_operand) : "cc", "memory");
    l2_flags = flags & RFLAGS_ARITHMETIC;
}

static void l2_vmwrite_memory(void)
{
    uint64_t flags;

    asm volatile("vmwrite (%2), %1; pushfq; pop %0" : "=r"(flags) : "r"(l2_field), "r"(l2_operand) : "cc", "memory");
    l2_flags = flags & RFLAGS_ARITHMETIC;
}

static void l2_vmread_memory_caught(void)
{
    l2_fault_seen = FAULT_OF(l2_vmread_memory());
}

static void l2_vmwrite_memory_caught(void)
{
    l2_fault_seen = FAULT_OF(l2_vmwrite_memory());
}

static void memory_operands(void)
{
    uint64_t word[2] = {0x8877665544332211, 0x1234};
    struct shadowed s;

    shadow_start(&s);
    l2_operand = &word[0];
    shadow_done(&s, l2_vmwrite_memory, GUEST_RSP, 0);
    CHECK_EQ(l2_flags, 0);
    shadow_done(&s, l2_vmread, GUEST_RSP, 0);
    CHECK_EQ(l2_value, 0x8877665544332211);
    l2_operand = &word[1];
    shadow_done(&s, l2_vmread_memory, GUEST_RSP, 0);
    CHECK_EQ(l2_flags, 0);
    CHECK_EQ(word[1], 0x8877665544332211);
    shadow_done(&s, l2_vmwrite, GUEST_ES_SELECTOR, UINT64_MAX);
    shadow_done(&s, l2_vmread_memory, GUEST_ES_SELECTOR, 0);
    CHECK_EQ(word[1], UINT16_MAX);
}

/* L2's own paging has no such page. */
static void operand_page_fault(void)
{
    struct shadowed s;

    shadow_start(&s);
    l2_operand = (uint64_t *)UNMAPPED_ADDRESS;
    shadow_done(&s, l2_vmread_memory_caught, GUEST_RSP, 0);
    CHECK_EQ(l2_fault_seen, VECTOR_PF);
    CHECK_EQ(fault.cr2, UNMAPPED_ADDRESS);
    CHECK_EQ(fault.error, PF_WRITE);
    shadow_done(&s, l2_vmwrite_memory_caught, GUEST_RSP, 0);
    CHECK_EQ(l2_fault_seen, VECTOR_PF);
    CHECK_EQ(fault.error, 0);
    l2_operand = (uint64_t *)NONCANONICAL_ADDRESS;
    shadow_done(&s, l2_vmread_memory_caught, GUEST_RSP, 0);
    CHECK_EQ(l2_fault_seen, VECTOR_GP);
    CHECK_EQ(fault.error, 0);
}

static void operand_page_fault_intercepted(void)
{
    struct shadowed s;

    shadow_start(&s);
    vmx_set(EXCEPTION_BITMAP, BIT(VECTOR_PF));
    l2_operand = (uint64_t *)UNMAPPED_ADDRESS;
    shadow_run(&s, l2_vmread_memory, GUEST_RSP, 0);
    EXPECT_EXIT(&s.vm, EXIT_EXCEPTION_NMI);
    CHECK_EQ(s.vm.exit.intr_info & (INTR_VECTOR | INTR_VALID), VECTOR_PF | INTR_VALID);
    CHECK_EQ(s.vm.exit.intr_error, PF_WRITE);
    CHECK_EQ(s.vm.exit.qualification, UNMAPPED_ADDRESS);
    CHECK_EQ(s.vm.exit.idt_info & INTR_VALID, 0);
}

static void check_violation(const struct vm *vm, uint64_t access, uint64_t allowed)
{
    CHECK_EQ(vm->exit.qualification, access | allowed | EPT_QUAL_GLA_VALID | EPT_QUAL_NOT_WALK | vmx_ept_advanced());
    CHECK_EQ(vm->exit.gpa, WINDOW + 0x20);
    CHECK_EQ(vm->exit.gla, WINDOW + 0x20);
    CHECK_EQ(vm->exit.idt_info & INTR_VALID, 0);
}

/* L1's extended page tables have no such page, or not for this access; L1 mends it and the instruction is done. */
static void operand_ept_violation(void)
{
    uint64_t *entry, *page;
    struct shadowed s;

    shadow_start(&s);
    page = page_alloc();
    page[4] = 0x4444;
    entry = paging_entry(s.vm.ept, WINDOW, PAGE_SIZE);
    *entry = 0;
    l2_operand = (uint64_t *)(WINDOW + 0x20);
    shadow_run(&s, l2_vmwrite_memory, GUEST_RSP, 0);
    EXPECT_EXIT(&s.vm, EXIT_EPT_VIOLATION);
    check_violation(&s.vm, EPT_QUAL_READ, 0);
    *entry = (uint64_t)page | EPT_R | EPT_WB;
    EXPECT_DONE(&s.vm);
    shadow_done(&s, l2_vmread, GUEST_RSP, 0);
    CHECK_EQ(l2_value, 0x4444);
    shadow_done(&s, l2_vmwrite, GUEST_RSP, 0x5555);
    shadow_run(&s, l2_vmread_memory, GUEST_RSP, 0);
    EXPECT_EXIT(&s.vm, EXIT_EPT_VIOLATION);
    check_violation(&s.vm, EPT_QUAL_WRITE, EPT_QUAL_ALLOWED_READ);
    CHECK_EQ(page[4], 0x4444);
    *entry |= EPT_W;
    EXPECT_DONE(&s.vm);
    CHECK_EQ(page[4], 0x5555);
    *entry = (uint64_t)page | EPT_W | EPT_WB;
    REQUIRE_EQ(vmx_invept(2, &(struct inv_descriptor){0}), 0);
    shadow_run(&s, l2_vmread_memory, GUEST_RSP, 0);
    EXPECT_EXIT(&s.vm, EXIT_EPT_MISCONFIG);
    CHECK_EQ(s.vm.exit.gpa, WINDOW + 0x20);
}

/* The write of the operand dirties a page that L1 logs. */
static void operand_logged(void)
{
    uint64_t *entry, *log;
    struct shadowed s;

    shadow_start(&s);
    log = page_alloc();
    for (uint64_t address = 0; address < 4 * GIB; address += LARGE_2M)
        *paging_entry(s.vm.ept, address, LARGE_2M) |= EPT_ACCESSED | EPT_DIRTY;
    entry = paging_entry(s.vm.ept, WINDOW, PAGE_SIZE);
    *entry = (uint64_t)page_alloc() | EPT_RWX | EPT_WB;
    vmx_set(EPT_POINTER, ept_pointer(s.vm.ept, true));
    vmx_set(PML_ADDRESS, (uint64_t)log);
    vmx_set(PML_INDEX, 100);
    vm_secondary_set((uint32_t)PROC2_PML);
    l2_operand = (uint64_t *)(WINDOW + 0x20);
    shadow_done(&s, l2_vmread_memory, GUEST_RSP, 0);
    CHECK_EQ(ALIGN_DOWN(log[100], PAGE_SIZE), WINDOW);
    CHECK_EQ(vmx_get(PML_INDEX), 99);
    CHECK_EQ(*entry & EPT_DIRTY, EPT_DIRTY);
}

/* The violation becomes L2's exception, as for any other instruction. */
static void operand_ve(void)
{
    uint64_t *area;
    struct shadowed s;

    shadow_start(&s);
    area = page_alloc();
    *paging_entry(s.vm.ept, WINDOW, PAGE_SIZE) = 0;
    vmx_set(VE_INFO_ADDRESS, (uint64_t)area);
    vm_secondary_set((uint32_t)PROC2_EPT_VE);
    l2_operand = (uint64_t *)(WINDOW + 0x20);
    shadow_done(&s, l2_vmread_memory_caught, GUEST_RSP, 0);
    CHECK_EQ(l2_fault_seen, VECTOR_VE);
    CHECK_EQ(area[0], EXIT_EPT_VIOLATION | 0xffffffff00000000);
    CHECK_EQ(area[1], EPT_QUAL_WRITE | EPT_QUAL_GLA_VALID | EPT_QUAL_NOT_WALK | vmx_ept_advanced());
    CHECK_EQ(area[3], WINDOW + 0x20);
}

#define PF_KEY BIT(5)
#define KEY_1 BIT(59)
#define NO_ACCESS_TO_1 BIT(2)

/* L2's own IA32_PKRS judges its operands, though an exit loads L1's. */
static void operand_key(void)
{
    uint64_t *page, *tables = paging_alloc_identity();
    struct shadowed s;

    shadow_start(&s);
    page = page_alloc();
    *paging_entry(tables, WINDOW, PAGE_SIZE) = (uint64_t)page | PTE_P | PTE_W | PTE_A | PTE_D | KEY_1;
    vmx_set(GUEST_CR3, (uint64_t)tables);
    vmx_set(GUEST_CR4, vmx_get(GUEST_CR4) | CR4_PKS);
    vm_control_set(ENTRY_CONTROLS, (uint32_t)ENTRY_LOAD_PKRS);
    vm_control_set(EXIT_CONTROLS, (uint32_t)EXITC_LOAD_PKRS);
    l2_operand = (uint64_t *)(WINDOW + 0x20);
    vmx_set(GUEST_PKRS, 0);
    vmx_set(HOST_PKRS, NO_ACCESS_TO_1);
    shadow_done(&s, l2_vmwrite, GUEST_RSP, 0x5555);
    shadow_done(&s, l2_vmread_memory, GUEST_RSP, 0);
    CHECK_EQ(page[4], 0x5555);
    vmx_set(GUEST_PKRS, NO_ACCESS_TO_1);
    vmx_set(HOST_PKRS, 0);
    shadow_done(&s, l2_vmread_memory_caught, GUEST_RSP, 0);
    CHECK_EQ(l2_fault_seen, VECTOR_PF);
    CHECK_EQ(fault.error, PF_PRESENT | PF_WRITE | PF_KEY);
    shadow_done(&s, l2_vmwrite_memory_caught, GUEST_RSP, 0);
    CHECK_EQ(l2_fault_seen, VECTOR_PF);
    CHECK_EQ(fault.error, PF_PRESENT | PF_KEY);
}

static const char *without_shadowing_and_keys(void)
{
    bool keys = cpu_rdmsr(IA32_VMX_CR4_FIXED1) & CR4_PKS;

    if (without_shadowing())
        return without_shadowing();
    keys = keys && vm_control_offered(ENTRY_CONTROLS, (uint32_t)ENTRY_LOAD_PKRS);
    return keys ? NULL : "no IA32_PKRS";
}

static const char *without_shadowing_and_ept(void)
{
    if (without_shadowing())
        return without_shadowing();
    return vm_default_ept ? NULL : "L2 runs without EPT";
}

static const char *without_shadowing_and_pml(void)
{
    if (without_shadowing_and_ept())
        return without_shadowing_and_ept();
    return vm_control_offered(PROC2_CONTROLS, (uint32_t)PROC2_PML) ? NULL : "no PML";
}

const struct scenario shadow_operand_scenarios[] = {
    {"shadow-memory-operands", memory_operands, without_shadowing},
    {"shadow-operand-page-fault", operand_page_fault, without_shadowing},
    {"shadow-operand-page-fault-intercepted", operand_page_fault_intercepted, without_shadowing},
    {"shadow-operand-ept-violation", operand_ept_violation, without_shadowing_and_ept},
    {"shadow-operand-logged", operand_logged, without_shadowing_and_pml},
    {"shadow-operand-ve", operand_ve, without_shadowing_and_ept},
    {"shadow-operand-key", operand_key, without_shadowing_and_keys},
    {0},
};
