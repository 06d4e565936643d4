/* L1's VMPTRLD, INVEPT and INVVPID between L2s that are entered and leave in a row, with operands that change from one
 * to the next: each must be the one that the page tables and memory have now. */
#include "guests/lib/page.h"
#include "guests/lib/paging.h"
#include "guests/lib/trap.h"
#include "guests/scenarios/steady.h"
#include "kernel/x86_bits.h"

#define WINDOW 0x6000000000ull /* of L1's, above what the identity map has */
#define L2_WINDOW 0x3000000000ull
#define PTE_ALL (PTE_P | PTE_W | PTE_A | PTE_D)

static uint64_t *tables, old_cr3;
static uint64_t *operands; /* the page at WINDOW, by its own address */
static uint64_t *seen = (uint64_t *)WINDOW;

static void map(uint64_t address, uint64_t entry)
{
    *paging_entry(tables, address, PAGE_SIZE) = entry;
    cpu_invlpg(address);
}

/* With page tables of its own, for the time of the scenario. */
static void open_window(void)
{
    old_cr3 = cpu_read_cr3();
    tables = paging_alloc_identity();
    cpu_write_cr3((uint64_t)tables);
    operands = page_alloc();
    map(WINDOW, (uint64_t)operands | PTE_ALL);
    map(WINDOW + PAGE_SIZE, (uint64_t)page_alloc() | PTE_ALL);
}

static void close_window(void)
{
    cpu_write_cr3(old_cr3);
}

/* Two that have run, of which the second is current. */
static void start_two(struct vm *vm)
{
    vmx_start();
    open_window();
    for (unsigned i = 0; i < 2; i++) {
        vm_create(&vm[i], l2_cpuids, 0);
        become_steady(&vm[i]);
    }
}

/* VMPTRLD of what lies there makes that region current, and L2 can be entered. */
static void expect_loaded(const uint64_t *operand, struct vm *vm)
{
    uint64_t region = 0;
    CHECK_EQ(vmx_vmptrld(operand), 0);
    CHECK_EQ(vmx_vmptrst(&region), 0);
    CHECK_EQ(region, vm->vmcs);
}

static void expect_refused(const uint64_t *operand, int error, uint64_t current)
{
    uint64_t region = 0;
    CHECK_EQ(vmx_vmptrld(operand), error);
    CHECK_EQ(vmx_vmptrst(&region), 0);
    CHECK_EQ(region, current);
}

/* By turns, without an entry in between and with one. */
static void loads_by_turns(void)
{
    struct vm vm[2];

    start_two(vm);
    for (unsigned round = 0; round < 24; round++) {
        struct vm *next = &vm[round & 1];
        operands[round % 8] = next->vmcs;
        expect_loaded(&seen[round % 8], next);
        CHECK_EQ(vmx_get(GUEST_CR3), cpu_read_cr3());
        vmx_set(GUEST_FS_BASE, 0x1000 + round);
        if (round >= 12) {
            vm_load(next);
            become_steady(next);
        }
        CHECK_EQ(vmx_get(GUEST_FS_BASE), 0x1000 + round);
    }
    close_window();
}

/* The page, its rights, and what memory says change. */
static void loads_from_another_page(void)
{
    struct vm vm[2];
    uint64_t *other;

    start_two(vm);
    other = page_alloc();
    operands[1] = vm[0].vmcs;
    other[1] = vm[1].vmcs;
    for (unsigned round = 0; round < 3; round++) {
        expect_loaded(&seen[1], &vm[0]);
        map(WINDOW, (uint64_t)other | PTE_ALL);
        expect_loaded(&seen[1], &vm[1]);
        map(WINDOW, 0);
        CHECK_FAULT((void)vmx_vmptrld(&seen[1]), VECTOR_PF);
        CHECK_EQ(fault.cr2, (uint64_t)&seen[1]);
        CHECK_EQ(fault.error, 0);
        CHECK_EQ(vmx_current(), vm[1].vmcs);
        map(WINDOW, (uint64_t)operands | PTE_P | PTE_A); /* to be read alone */
        expect_loaded(&seen[1], &vm[0]);
        map(WINDOW, (uint64_t)operands | PTE_ALL);
    }
    close_window();
}

/* An operand on two pages, at the stack pointer, and by base, index and displacement. */
static void loads_by_any_form(void)
{
    struct vm vm[2];
    uint64_t *across = (uint64_t *)(WINDOW + PAGE_SIZE - 4);

    start_two(vm);
    for (unsigned round = 0; round < 4; round++) {
        struct vm *next = &vm[round & 1];
        asm volatile("mov %1, (%0)" : : "r"(across), "r"(next->vmcs) : "memory");
        expect_loaded(across, next);
        next = &vm[~round & 1];
        asm volatile("push %0; vmptrld (%%rsp); pop %0" : : "r"(next->vmcs) : "memory", "cc");
        CHECK_EQ(vmx_current(), next->vmcs);
        next = &vm[round & 1];
        operands[40] = next->vmcs;
        asm volatile("vmptrld 64(%0, %1, 4)" : : "r"(seen), "r"(64ull) : "memory", "cc");
        CHECK_EQ(vmx_current(), next->vmcs);
        become_steady(next);
    }
    close_window();
}

static void refuses_pointers(void)
{
    struct vm vm[2];
    uint32_t *region;

    start_two(vm);
    region = (uint32_t *)vm[1].vmcs;
    for (unsigned round = 0; round < 2; round++) {
        operands[0] = vm[0].vmcs;
        expect_loaded(&seen[0], &vm[0]);
        operands[0] = vm[1].vmcs | 8;
        expect_refused(&seen[0], VMXERR_VMPTRLD_ADDRESS, vm[0].vmcs);
        operands[0] = vm[1].vmcs | BIT(60);
        expect_refused(&seen[0], VMXERR_VMPTRLD_ADDRESS, vm[0].vmcs);
        operands[0] = vmx_on_region();
        expect_refused(&seen[0], VMXERR_VMPTRLD_VMXON_POINTER, vm[0].vmcs);
        operands[0] = vm[1].vmcs;
        *region ^= 1;
        expect_refused(&seen[0], VMXERR_VMPTRLD_REVISION, vm[0].vmcs);
        *region ^= 1;
        expect_loaded(&seen[0], &vm[1]);
        become_steady(&vm[1]);
    }
    close_window();
}

/* A region that was cleared is loaded from memory again. */
static void loads_what_was_cleared(void)
{
    struct vm vm[2];

    start_two(vm);
    for (unsigned round = 0; round < 4; round++) {
        struct vm *next = &vm[round & 1];
        operands[0] = next->vmcs;
        expect_loaded(&seen[0], next);
        vm_clear(next);
        CHECK_EQ(vmx_current(), ~0ull);
        CHECK_EQ(vmx_vmptrld(&seen[0]), 0);
        CHECK_EQ(vmx_current(), next->vmcs);
        vm_load(next);
        become_steady(next);
    }
    close_window();
}

static void l2_reads(void)
{
    for (;;) {
        (void)*(volatile uint64_t *)L2_WINDOW;
        (void)cpu_cpuid(0, 0);
    }
}

static void invept(uint64_t type, uint64_t eptp, int expected)
{
    struct inv_descriptor *descriptor = (struct inv_descriptor *)operands;
    *descriptor = (struct inv_descriptor){eptp, 0};
    CHECK_EQ(vmx_invept(type, (struct inv_descriptor *)seen), expected);
}

/* However often L1 invalidates, L2 sees what EPT has now; and what is no EPTP or type fails each time. */
static void invalidates(void)
{
    struct vm vm;
    uint64_t eptp, *entry;

    vmx_start();
    open_window();
    map(L2_WINDOW, L2_WINDOW | PTE_ALL);
    vm_create(&vm, l2_reads, VM_EPT);
    entry = paging_entry(vm.ept, L2_WINDOW, PAGE_SIZE);
    eptp = vmx_get(EPT_POINTER);
    for (unsigned round = 0; round < 6; round++) {
        *entry = (uint64_t)page_alloc() | EPT_RWX | EPT_WB;
        become_steady(&vm);
        *entry = 0;
        for (unsigned i = 0; i <= round % 3; i++)
            invept(round & 1 ? INVEPT_ALL : INVEPT_SINGLE, eptp, 0);
        invept(INVEPT_SINGLE, 0, VMXERR_INVALID_OPERAND);
        invept(INVEPT_SINGLE, ~0ull, VMXERR_INVALID_OPERAND);
        invept(0, eptp, VMXERR_INVALID_OPERAND);
        invept(3, eptp, VMXERR_INVALID_OPERAND);
        invept(INVEPT_SINGLE, eptp, 0);
        map(WINDOW, 0);
        CHECK_FAULT((void)vmx_invept(INVEPT_SINGLE, (struct inv_descriptor *)seen), VECTOR_PF);
        map(WINDOW, (uint64_t)operands | PTE_ALL);
        EXPECT_EXIT(&vm, EXIT_EPT_VIOLATION);
        CHECK_EQ(vm.exit.gpa, L2_WINDOW);
    }
    close_window();
}

static void invvpid(uint64_t type, uint64_t vpid, uint64_t address, int expected)
{
    struct inv_descriptor *descriptor = (struct inv_descriptor *)operands;
    *descriptor = (struct inv_descriptor){vpid, address};
    CHECK_EQ(vmx_invvpid(type, (struct inv_descriptor *)seen), expected);
}

/* Each type, and what each refuses, between exits of an L2 whose VPID it is. */
static void invalidates_vpids(void)
{
    struct vm vm;

    vmx_start();
    open_window();
    vm_create(&vm, l2_cpuids, 0);
    vm_secondary_set((uint32_t)PROC2_VPID);
    vmx_set(VPID, 9);
    for (unsigned round = 0; round < 3; round++) {
        become_steady(&vm);
        for (unsigned type = 0; type < 4; type++) {
            invvpid(type, 9, WINDOW, 0);
            EXPECT_EXIT_SKIP(&vm, EXIT_CPUID);
            invvpid(type, 10, WINDOW, 0); /* that none has used */
            invvpid(type, 0, WINDOW, type == INVVPID_ALL ? 0 : VMXERR_INVALID_OPERAND);
            invvpid(type, 9 | BIT(16), WINDOW, VMXERR_INVALID_OPERAND);
            invvpid(type, 9, NONCANONICAL_ADDRESS, type == INVVPID_ADDRESS ? VMXERR_INVALID_OPERAND : 0);
            become_steady(&vm);
        }
        invvpid(4, 9, 0, VMXERR_INVALID_OPERAND);
        invvpid(~0ull, 9, 0, VMXERR_INVALID_OPERAND);
        map(WINDOW, 0);
        CHECK_FAULT((void)vmx_invvpid(INVVPID_SINGLE, (struct inv_descriptor *)seen), VECTOR_PF);
        map(WINDOW, (uint64_t)operands | PTE_ALL);
    }
    close_window();
}

static const char *without_vpid(void)
{
    return vm_control_offered(PROC2_CONTROLS, (uint32_t)PROC2_VPID) ? NULL : "no VPID";
}

/* L1 steps over the instruction, or has a breakpoint on its operand. */
static void is_debugged(void)
{
    struct vm vm[2];

    start_two(vm);
    for (unsigned round = 0; round < 4; round++) {
        struct vm *next = &vm[round & 1];
        operands[0] = next->vmcs;
        trap_debug_counted = true;
        trap_count[VECTOR_DB] = 0;
        asm volatile("mov %0, %%dr0" : : "r"(&seen[0]));
        cpu_write_dr7(BIT(1) | PUT(3, BITS(17, 16)) | PUT(2, BITS(19, 18))); /* G0: reads and writes of 8 bytes */
        asm volatile("vmptrld (%0)" : : "r"(&seen[0]) : "memory", "cc");
        cpu_write_dr7(0x400);
        CHECK_EQ(trap_count[VECTOR_DB], 1);
        asm volatile("pushfq; orl $0x100, (%%rsp); popfq; vmptrld (%0); pushfq; andl $~0x100, (%%rsp); popfq"
                     :
                     : "r"(&seen[0])
                     : "memory", "cc");
        trap_debug_counted = false;
        CHECK_EQ(trap_count[VECTOR_DB], 5);
        CHECK_EQ(vmx_current(), next->vmcs);
        vm_load(next);
        become_steady(next);
    }
    close_window();
}

const struct scenario straight_operand_scenarios[] = {
    {"straight-operand-by-turns", loads_by_turns, NULL},
    {"straight-operand-on-another-page", loads_from_another_page, NULL},
    {"straight-operand-in-any-form", loads_by_any_form, NULL},
    {"straight-operand-refused", refuses_pointers, NULL},
    {"straight-operand-cleared", loads_what_was_cleared, NULL},
    {"straight-operand-invept", invalidates, without_ept},
    {"straight-operand-invvpid", invalidates_vpids, without_vpid},
    {"straight-operand-debugged", is_debugged, NULL},
    {NULL, NULL, NULL},
};
