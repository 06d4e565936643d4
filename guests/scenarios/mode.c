/* L2 in other modes than 64-bit: real mode, protected mode without and with paging, and the switches between them. */
#include "guests/lib/cpu.h"
#include "guests/lib/desc.h"
#include "guests/lib/mem.h"
#include "guests/lib/msr_bits.h"
#include "guests/lib/page.h"
#include "guests/lib/paging.h"
#include "guests/scenarios/scenario.h"

#define WINDOW GIB
#define REAL_BASE 0x8000u
#define REAL_AR 0x93
#define AR_CODE32 0xc09b
#define REAL_INTERRUPT 0x20
#define CR3_PAE_ALIGN 32
#define PTE_ALL (PTE_P | PTE_W | PTE_U)

extern uint8_t real_start[], real_end[], real_to_long[], real_interrupt[], real_bitmap[];
void long_and_back(void);
void protected_code(void);
void protected_task_switch(void);
void protected_load_cr3(void);

static void leave_long_mode(void)
{
    vm_control_clear(ENTRY_CONTROLS, (uint32_t)ENTRY_GUEST_64);
    vm_control_set(ENTRY_CONTROLS, (uint32_t)ENTRY_LOAD_EFER);
    vm_control_set(EXIT_CONTROLS, (uint32_t)(EXITC_SAVE_EFER | EXITC_LOAD_EFER));
    vmx_set(GUEST_EFER, 0);
    vmx_set(HOST_EFER, cpu_rdmsr(IA32_EFER));
}

/* Real mode at REAL_BASE, whose page and the page of the interrupt table are L2's own. */
static uint8_t *enter_real_mode(struct vm *vm, const uint8_t *code)
{
    uint8_t *page = page_alloc();
    uint16_t *vectors = page_alloc();

    memcpy(page, real_start, (size_t)(real_end - real_start));
    vectors[REAL_INTERRUPT * 2] = (uint16_t)(real_interrupt - real_start);
    vectors[REAL_INTERRUPT * 2 + 1] = REAL_BASE >> 4;
    *paging_entry(vm->ept, REAL_BASE, PAGE_SIZE) = (uint64_t)page | EPT_RWX | EPT_WB;
    *paging_entry(vm->ept, 0, PAGE_SIZE) = (uint64_t)vectors | EPT_RWX | EPT_WB;
    leave_long_mode();
    vm_secondary_set((uint32_t)PROC2_UNRESTRICTED);
    for (unsigned i = 0; i <= GUEST_GS_SELECTOR - GUEST_ES_SELECTOR; i += 2) {
        vmx_set(GUEST_ES_SELECTOR + i, REAL_BASE >> 4);
        vmx_set(GUEST_ES_BASE + i, REAL_BASE);
        vmx_set(GUEST_ES_LIMIT + i, 0xffff);
        vmx_set(GUEST_ES_AR_BYTES + i, REAL_AR);
    }
    vmx_set(GUEST_IDTR_BASE, 0);
    vmx_set(GUEST_IDTR_LIMIT, 0x3ff);
    vmx_set(GUEST_CR0, CR0_NE | CR0_ET);
    vmx_set(GUEST_CR4, CR4_VMXE);
    vmx_set(GUEST_RIP, (uint64_t)(code - real_start));
    vmx_set(GUEST_RSP, 0xff0);
    return page;
}

static void real_mode(void)
{
    struct vm vm;

    vm_start(&vm, protected_code, VM_EPT);
    (void)enter_real_mode(&vm, real_start);
    vm_control_set(PROC_CONTROLS, (uint32_t)PROC_UNCOND_IO);
    EXPECT_EXIT_SKIP(&vm, EXIT_CPUID);
    CHECK_EQ(vm.regs[RAX], 0x1234);
    CHECK_EQ(vmx_get(GUEST_CS_SELECTOR), REAL_BASE >> 4);
    EXPECT_EXIT_SKIP(&vm, EXIT_IO);
    CHECK_EQ(GET(vm.exit.qualification, IO_QUAL_PORT), 0x80);
    EXPECT_DONE(&vm);
    CHECK_EQ(vm.regs[RBX] & 0xffff, 0x5678);
    CHECK_EQ(vmx_get(GUEST_CR0), CR0_NE | CR0_ET);
    CHECK_EQ(vmx_get(ENTRY_CONTROLS) & ENTRY_GUEST_64, 0);
}

/* L2 stores to its own MSR bitmap: by a 16-bit address, and another one than L1's. */
static void bitmap_in_real_mode(void)
{
    const unsigned offset = msr_byte(IA32_LSTAR, MSR_READ);
    struct vm vm;

    vm_start(&vm, protected_code, VM_EPT);
    (void)enter_real_mode(&vm, real_bitmap);
    *paging_entry(vm.ept, REAL_BASE + PAGE_SIZE, PAGE_SIZE) = (uint64_t)vm.msr_bitmap | EPT_RWX | EPT_WB;
    vm.regs[RCX] = IA32_LSTAR;
    vm.regs[RBX] = 1 << IA32_LSTAR % 8;
    vm.regs[RDI] = PAGE_SIZE + offset;
    EXPECT_EXIT_SKIP(&vm, EXIT_CPUID);
    CHECK_EQ(vm.msr_bitmap[offset], 1 << IA32_LSTAR % 8);
    EXPECT_EXIT_SKIP(&vm, EXIT_RDMSR);
    EXPECT_EXIT_SKIP(&vm, EXIT_CPUID);
    EXPECT_DONE(&vm);
}

static void real_to_long_mode(void)
{
    struct table_register *gdtr;
    struct vm vm;

    vm_start(&vm, protected_code, VM_EPT);
    gdtr = (struct table_register *)(enter_real_mode(&vm, real_to_long) + 0x800);
    *gdtr = (struct table_register){0x3f, desc_gdt_base()};
    vm.regs[RBX] = cpu_read_cr3();
    vm.regs[RSI] = 0x800;
    EXPECT_DONE(&vm);
    CHECK_EQ(vm.regs[RBX], 0x123456789abcdef0);
    CHECK_EQ(vmx_get(GUEST_EFER) & (EFER_LME | EFER_LMA), EFER_LME | EFER_LMA);
    CHECK_EQ(vmx_get(ENTRY_CONTROLS) & ENTRY_GUEST_64, ENTRY_GUEST_64);
    CHECK_EQ(vmx_get(GUEST_CS_SELECTOR), SEL_CODE64);
    CHECK_EQ(vmx_get(GUEST_CS_AR_BYTES) & AR_L, AR_L);
}

static void enter_protected_mode(struct vm *vm, void (*code)(void))
{
    vm_set_code(vm, code);
    leave_long_mode();
    vmx_set(GUEST_CS_SELECTOR, SEL_CODE32);
    vmx_set(GUEST_CS_AR_BYTES, AR_CODE32);
    vmx_set(GUEST_IDTR_LIMIT, 0);
}

static void run_protected(struct vm *vm, uint32_t place, uint32_t value)
{
    vm->regs[RBX] = place;
    vm->regs[RCX] = value;
    EXPECT_DONE(vm);
}

static void protected_without_paging(void)
{
    uint32_t *page;
    struct vm vm;

    vm_start(&vm, protected_code, VM_EPT);
    page = page_alloc();
    page[0] = 0x1357;
    enter_protected_mode(&vm, protected_code);
    vm_secondary_set((uint32_t)PROC2_UNRESTRICTED);
    vmx_set(GUEST_CR0, CR0_PE | CR0_NE | CR0_ET);
    run_protected(&vm, (uint32_t)(uint64_t)page, 0x2468);
    CHECK_EQ(vm.regs[RDX], 0x1357);
    CHECK_EQ(page[0], 0x2468);
}

/* PAE paging: four pointers to page directories, which have fewer bits than other entries. */
static uint64_t *alloc_pae_tables(void)
{
    uint64_t *tables = paging_alloc_identity();
    uint64_t *pointers = page_alloc();

    for (uint64_t i = 0; i < 4; i++)
        pointers[i] = (*paging_entry(tables, i * GIB, LARGE_1G) & PAGING_ADDRESS) | PTE_P;
    return pointers;
}

static void start_pae(struct vm *vm, unsigned options, void (*code)(void), uint64_t *pointers)
{
    static const uint16_t fields[] = {GUEST_PDPTE0, GUEST_PDPTE1, GUEST_PDPTE2, GUEST_PDPTE3};

    vm_create(vm, code, options);
    enter_protected_mode(vm, code);
    vmx_set(GUEST_CR3, (uint64_t)pointers);
    for (unsigned i = 0; i < 4 && vm->ept; i++)
        vmx_set(fields[i], pointers[i]);
}

static void pae(unsigned options)
{
    uint64_t *pointers;
    uint32_t *page;
    struct vm vm;

    vmx_start();
    pointers = alloc_pae_tables();
    page = page_alloc();
    page[0] = 0x9753;
    start_pae(&vm, options, protected_code, pointers);
    run_protected(&vm, (uint32_t)(uint64_t)page, 0x8642);
    CHECK_EQ(vm.regs[RDX], 0x9753);
    CHECK_EQ(page[0], 0x8642);
}

static void pae_with_ept(void)
{
    pae(VM_EPT);
}

static void pae_without_ept(void)
{
    pae(VM_NO_EPT);
}

/* Under EPT the entry takes the pointers from the VMCS, and memory has no say until L2 loads CR3. */
static void pae_pointers_from_vmcs(void)
{
    uint64_t *pointers, *others, *entry;
    uint32_t *page;
    struct vm vm;

    vmx_start();
    pointers = alloc_pae_tables();
    others = alloc_pae_tables();
    page = page_alloc();
    page[0] = 0x2222;
    entry = (uint64_t *)(others[WINDOW / GIB] & PAGING_ADDRESS);
    *entry = 0;
    start_pae(&vm, VM_EPT, protected_load_cr3, pointers);
    memset(pointers, 0, 4 * sizeof(*pointers));
    *entry = ALIGN_DOWN((uint64_t)page, LARGE_2M) | PTE_ALL | PAGING_LARGE;
    vm.regs[RBX] = (uint64_t)others;
    vm.regs[RBP] = WINDOW + ((uint64_t)page & (LARGE_2M - 1));
    vm.regs[RCX] = 0x3333;
    EXPECT_DONE(&vm);
    CHECK_EQ(vm.regs[RDX], 0x2222);
    CHECK_EQ(page[0], 0x3333);
    CHECK_EQ(vmx_get(GUEST_PDPTE1), others[1]);
    vmx_set(GUEST_PDPTE2 + 1, 0x5); /* the upper half alone: the lower one is L2's */
    CHECK_EQ(vmx_get(GUEST_PDPTE2), (uint32_t)others[2] | 0x5ull << 32);
    CHECK_EQ(vmx_get(GUEST_CR3), (uint64_t)others);
}

static void pae_reserved_bits(void)
{
    uint64_t *pointers;
    struct vm vm;

    vmx_start();
    pointers = alloc_pae_tables();
    start_pae(&vm, VM_EPT, protected_code, pointers);
    vmx_set(GUEST_PDPTE2, pointers[2] | BIT(1));
    CHECK_EQ(vm_enter(&vm), 0);
    CHECK_EQ(vm.exit.reason, EXIT_REASON_ENTRY_FAILURE | EXIT_INVALID_GUEST_STATE);
    CHECK_EQ(vm.exit.qualification, 2);
    vmx_set(GUEST_PDPTE2, pointers[2]);
    run_protected(&vm, (uint32_t)(uint64_t)page_alloc(), 1);
}

/* 32-bit paging: one directory of 4 MiB pages. */
static void paging_32_bit(void)
{
    uint32_t *directory, *page;
    struct vm vm;

    vm_start(&vm, protected_code, 0);
    directory = page_alloc();
    page = page_alloc();
    page[0] = 0x4444;
    for (uint64_t i = 0; i < 1024; i++)
        directory[i] = (uint32_t)(i << 22 | PTE_ALL | PAGING_LARGE);
    directory[WINDOW >> 22] = (uint32_t)(((uint64_t)page & ~(4 * MIB - 1)) | PTE_ALL | PAGING_LARGE);
    enter_protected_mode(&vm, protected_code);
    vmx_set(GUEST_CR3, (uint64_t)directory);
    vmx_set(GUEST_CR4, (vmx_get(GUEST_CR4) & ~CR4_PAE) | CR4_PSE);
    run_protected(&vm, (uint32_t)(WINDOW | ((uint64_t)page & (4 * MIB - 1))), 0x5555);
    CHECK_EQ(vm.regs[RDX], 0x4444);
    CHECK_EQ(page[0], 0x5555);
}

static void task_switch(void)
{
    uint64_t *pointers;
    struct vm vm;

    vmx_start();
    pointers = alloc_pae_tables();
    start_pae(&vm, 0, protected_task_switch, pointers);
    EXPECT_EXIT(&vm, EXIT_TASK_SWITCH);
    CHECK_EQ(GET(vm.exit.qualification, TASK_QUAL_SELECTOR), SEL_OTHER_TSS);
    CHECK_EQ(GET(vm.exit.qualification, TASK_QUAL_SOURCE), 2); /* JMP */
    CHECK_EQ(vm.exit.length, 7);
    CHECK_EQ(vmx_get(GUEST_TR_SELECTOR), SEL_TSS);
}

static void four_exits(struct vm *vm)
{
    for (unsigned i = 0; i < 4; i++)
        EXPECT_EXIT_SKIP(vm, EXIT_CPUID);
}

/* Without a control that loads EFER L2 has L1's, made to fit its mode; which it changes while its exits are all alike.
 * LME stays L1's where paging is off. SDM 3C 27.3.2.1 "Loading Guest Control Registers, Debug Registers, and MSRs" */
static void left_and_back(void)
{
    uint64_t efer = cpu_rdmsr(IA32_EFER);
    struct vm vm;

    vm_start(&vm, long_and_back, VM_EPT);
    vm_secondary_set((uint32_t)PROC2_UNRESTRICTED);
    vm_control_set(EXIT_CONTROLS, (uint32_t)EXITC_LOAD_EFER);
    vmx_set(HOST_EFER, efer);
    for (unsigned round = 0; round < 4; round++) {
        four_exits(&vm);
        CHECK_EQ(vm.regs[RSI], (uint32_t)efer);
        CHECK_EQ(vmx_get(ENTRY_CONTROLS) & ENTRY_GUEST_64, ENTRY_GUEST_64);
        if (round)
            CHECK_EQ(vm.regs[RBP], (uint32_t)(efer & ~EFER_LMA));
        four_exits(&vm);
        CHECK_EQ(vmx_get(ENTRY_CONTROLS) & ENTRY_GUEST_64, 0);
        CHECK_EQ(vmx_get(GUEST_CR0) & CR0_PG, 0);
    }
}

const struct scenario mode_scenarios[] = {
    {"mode-left-and-back", left_and_back, without_unrestricted},
    {"mode-real", real_mode, without_unrestricted},
    {"bitmap-stored-from-real-mode", bitmap_in_real_mode, without_unrestricted},
    {"mode-real-to-long", real_to_long_mode, without_unrestricted},
    {"mode-protected-without-paging", protected_without_paging, without_unrestricted},
    {"mode-pae-with-ept", pae_with_ept, without_ept},
    {"mode-pae-without-ept", pae_without_ept, NULL},
    {"mode-pae-pointers-from-vmcs", pae_pointers_from_vmcs, without_ept},
    {"mode-pae-reserved-bits", pae_reserved_bits, without_ept},
    {"mode-32-bit-paging", paging_32_bit, NULL},
    {"mode-task-switch", task_switch, NULL},
    {0},
};
