/* Two L2s by turns, as a hypervisor runs two virtual processors: VMPTRLD, VMRESUME, an exit, and so on. While nothing
 * changes L0 need not look at either anew; here something changes that concerns the one that is not current. */
#include "guests/lib/counters.h"
#include "guests/lib/cpu.h"
#include "guests/lib/msr_bits.h"
#include "guests/lib/page.h"
#include "guests/lib/paging.h"
#include "guests/lib/trap.h"
#include "guests/scenarios/scenario.h"

#define MSR IA32_LSTAR
#define VECTOR_TEST 0x50
#define WINDOW 0x3000000000ull
#define STEADY 6 /* turns of each, between two changes */
#define VPID_SAME 7
#define VPID_CLASHING (VPID_SAME + 64) /* on the same of Nestor's VPIDs */

static const char *without_vpid(void)
{
    return without_ept() || !vm_control_offered(PROC2_CONTROLS, (uint32_t)PROC2_VPID) ? "no EPT or VPID" : NULL;
}

/* VMPTRLD, VMRESUME, and of the exit no more than its reason: nothing for which L0 must look at more. */
static void turn(struct vm *vm, uint16_t reason)
{
    REQUIRE_EQ(vmx_vmptrld(&vm->vmcs), 0);
    REQUIRE_EQ(vm_enter_raw(vm->regs, 1), 0);
    CHECK_EQ(vmx_get(EXIT_REASON), reason);
}

/* The instruction that exited is done. */
static void step(struct vm *vm, uint16_t reason)
{
    turn(vm, reason);
    vmx_set(GUEST_RIP, vmx_get(GUEST_RIP) + vmx_get(EXIT_INSTRUCTION_LENGTH));
}

static void by_turns(struct vm *vm, uint16_t reason)
{
    for (unsigned i = 0; i < 2 * STEADY; i++)
        step(&vm[i & 1], reason);
}

/* RBX counts. */
static void l2_counts(void)
{
    asm volatile("xor %ebx, %ebx; 1: inc %rbx; vmcall; jmp 1b");
}

static void l2_reads_msr(void)
{
    asm volatile("1: mov %0, %%ecx; rdmsr; vmcall; jmp 1b" : : "i"(MSR));
}

static void l2_reads_page(void)
{
    asm volatile("1: mov %0, %%rbx; mov (%%rbx), %%rbx; vmcall; jmp 1b" : : "i"(WINDOW));
}

static void l2_takes_time(void)
{
    asm volatile("1: vmcall; rdtsc; jmp 1b");
}

static void l2_waits(void)
{
    asm volatile("1: sti; vmcall; jmp 1b");
}

/* With page tables of its own, for the time of the scenario, by which L2 reads EPT's page at the same address. */
static uint64_t old_cr3;

static void open_window(void)
{
    uint64_t *tables = paging_alloc_identity();

    old_cr3 = cpu_read_cr3();
    *paging_entry(tables, WINDOW, PAGE_SIZE) = WINDOW | PTE_P | PTE_W | PTE_A | PTE_D;
    cpu_write_cr3((uint64_t)tables);
}

static void create(struct vm *vm, void (*code)(void), unsigned options)
{
    vm_create(vm, code, options);
    EXPECT_EXIT_SKIP(vm, EXIT_VMCALL);
}

static void create_two(struct vm *vm, void (*code)(void), unsigned options)
{
    vmx_start();
    for (unsigned i = 0; i < 2; i++)
        create(&vm[i], code, options);
    by_turns(vm, EXIT_VMCALL);
}

/* Each goes on where it was, with its own state and L1's for it; also the same one again and again. */
static void each_goes_on(void)
{
    uint64_t turns[2];
    struct vm vm[2];

    create_two(vm, l2_counts, 0);
    for (unsigned i = 0; i < 2; i++)
        turns[i] = vm[i].regs[RBX];
    for (unsigned round = 0; round < 24; round++) {
        unsigned i = round % 3 & 1;
        step(&vm[i], EXIT_VMCALL);
        CHECK_EQ(vm[i].regs[RBX], ++turns[i]);
        CHECK_EQ(vmx_get(GUEST_FS_BASE), round < 3 ? 0 : 0x1000 * i);
        vmx_set(GUEST_FS_BASE, 0x1000 * i);
        vmx_set(HOST_FS_BASE, 0x2000 + i);
        if (round == 12) { /* that takes L0's long way, each with its state */
            (void)vmx_current();
            step(&vm[0], EXIT_VMCALL);
            CHECK_EQ(vm[0].regs[RBX], ++turns[0]);
        }
    }
    for (unsigned i = 0; i < 2; i++) {
        step(&vm[i], EXIT_VMCALL);
        CHECK_EQ(cpu_rdmsr(IA32_FS_BASE), 0x2000 + i);
    }
    cpu_wrmsr(IA32_FS_BASE, 0);
}

/* L1 stores to the bitmap of the one while it runs the other. */
static void bitmap_of_the_other(void)
{
    struct vm vm[2];

    create_two(vm, l2_reads_msr, 0);
    for (unsigned round = 0; round < 8; round++) {
        unsigned i = round & 1;
        by_turns(vm, EXIT_VMCALL);
        step(&vm[!i], EXIT_VMCALL);
        msr_bit_set(vm[i].msr_bitmap, MSR, MSR_READ);
        step(&vm[!i], EXIT_VMCALL);
        step(&vm[i], EXIT_RDMSR);
        step(&vm[!i], EXIT_VMCALL);
        step(&vm[i], EXIT_VMCALL);
        msr_bit_clear(vm[i].msr_bitmap, MSR, MSR_READ);
    }
}

/* The same page is the bitmap of both. */
static void bitmap_of_both(void)
{
    struct vm vm[2];

    create_two(vm, l2_reads_msr, 0);
    REQUIRE_EQ(vmx_vmptrld(&vm[1].vmcs), 0);
    vmx_set(MSR_BITMAP, (uint64_t)vm[0].msr_bitmap);
    for (unsigned round = 0; round < 8; round++) {
        unsigned i = round & 1;
        by_turns(vm, EXIT_VMCALL);
        msr_bit_set(vm[0].msr_bitmap, MSR, MSR_READ);
        step(&vm[i], EXIT_RDMSR);
        step(&vm[!i], EXIT_RDMSR);
        step(&vm[i], EXIT_VMCALL);
        step(&vm[!i], EXIT_VMCALL);
        msr_bit_clear(vm[0].msr_bitmap, MSR, MSR_READ);
    }
}

/* L1 maps another page, and invalidates, while it runs the other one; with a tree of EPT for each, and with one for
 * both. */
static void invept_of_the_other(void)
{
    struct inv_descriptor descriptor;
    uint64_t *page[2], *entry;
    struct vm vm[2];

    open_window();
    create_two(vm, l2_counts, VM_EPT);
    for (unsigned i = 0; i < 2; i++) {
        page[i] = page_alloc();
        *page[i] = 0x100 + i;
        *paging_entry(vm[i].ept, WINDOW, PAGE_SIZE) = (uint64_t)page[0] | EPT_RWX | EPT_WB;
        vm_set_code(&vm[i], l2_reads_page);
        EXPECT_EXIT_SKIP(&vm[i], EXIT_VMCALL);
    }
    for (unsigned round = 0; round < 16; round++) {
        unsigned i = round & 1, of = round < 8 ? i : 0;
        if (round == 8) {
            vm_load(&vm[1]);
            vmx_set(EPT_POINTER, ept_pointer(vm[0].ept, false));
        }
        by_turns(vm, EXIT_VMCALL);
        entry = paging_entry(vm[of].ept, WINDOW, PAGE_SIZE);
        step(&vm[!i], EXIT_VMCALL);
        *entry = (uint64_t)page[round / 2 & 1] | EPT_RWX | EPT_WB;
        descriptor = (struct inv_descriptor){ept_pointer(vm[of].ept, false), 0};
        CHECK_EQ(vmx_invept(INVEPT_SINGLE, &descriptor), 0);
        step(&vm[!i], EXIT_VMCALL);
        step(&vm[i], EXIT_VMCALL);
        CHECK_EQ(vm[i].regs[RBX], 0x100 + (round / 2 & 1));
    }
    cpu_write_cr3(old_cr3);
}

/* The one leaves with an EPT violation; L1 maps the page, runs the other, and comes back. */
static void violation_in_between(void)
{
    struct vm vm[2];
    uint64_t *entry;

    open_window();
    create_two(vm, l2_counts, VM_EPT);
    entry = paging_entry(vm[0].ept, WINDOW, PAGE_SIZE);
    *entry = 0;
    vm_set_code(&vm[0], l2_reads_page);
    for (unsigned round = 0; round < 6; round++) {
        struct inv_descriptor descriptor = {ept_pointer(vm[0].ept, false), 0};
        turn(&vm[0], EXIT_EPT_VIOLATION);
        step(&vm[1], EXIT_VMCALL);
        turn(&vm[0], EXIT_EPT_VIOLATION);
        if (round & 1)
            step(&vm[1], EXIT_VMCALL);
        *entry = (uint64_t)page_alloc() | EPT_RWX | EPT_WB;
        if (round & 2)
            step(&vm[1], EXIT_VMCALL);
        by_turns(vm, EXIT_VMCALL);
        *entry = 0;
        CHECK_EQ(vmx_invept(INVEPT_SINGLE, &descriptor), 0);
    }
    cpu_write_cr3(old_cr3);
}

/* A control, and an event, that L1 writes before it turns to the other one. */
static void written_before(void)
{
    struct vm vm[2];

    create_two(vm, l2_takes_time, 0);
    for (unsigned round = 0; round < 6; round++) {
        unsigned i = round & 1;
        step(&vm[i], EXIT_VMCALL);
        vm_control_set(PROC_CONTROLS, (uint32_t)PROC_RDTSC);
        step(&vm[!i], EXIT_VMCALL);
        step(&vm[!i], EXIT_VMCALL);
        step(&vm[i], EXIT_RDTSC);
        step(&vm[!i], EXIT_VMCALL);
        step(&vm[i], EXIT_VMCALL);
        vm_control_clear(PROC_CONTROLS, (uint32_t)PROC_RDTSC);
        by_turns(vm, EXIT_VMCALL);
    }
}

static void event_waits(void)
{
    struct vm vm[2];

    create_two(vm, l2_waits, 0);
    for (unsigned round = 0; round < 6; round++) {
        unsigned i = round & 1;
        step(&vm[i], EXIT_VMCALL);
        vmx_set(GUEST_RFLAGS, RFLAGS_FIXED1 | RFLAGS_IF);
        vmx_set(GUEST_INTERRUPTIBILITY, 0);
        vmx_set(ENTRY_INTERRUPTION_INFO, INTR_VALID | PUT(INTR_TYPE_EXTERNAL, INTR_TYPE) | VECTOR_TEST);
        trap_count[VECTOR_TEST] = 0;
        step(&vm[!i], EXIT_VMCALL);
        CHECK_EQ(trap_count[VECTOR_TEST], 0);
        step(&vm[i], EXIT_VMCALL);
        CHECK_EQ(trap_count[VECTOR_TEST], 1);
        step(&vm[!i], EXIT_VMCALL);
        step(&vm[i], EXIT_VMCALL);
        CHECK_EQ(trap_count[VECTOR_TEST], 1);
    }
}

/* VPIDs that are the same, two, and two for which L0 has one. */
static void vpids(void)
{
    static const uint16_t vpid[][2] = {{VPID_SAME, VPID_SAME}, {VPID_SAME, VPID_SAME + 1}, {VPID_SAME, VPID_CLASHING}};
    struct vm vm[2];

    create_two(vm, l2_counts, VM_EPT);
    for (unsigned kind = 0; kind < ARRAY_SIZE(vpid); kind++) {
        for (unsigned i = 0; i < 2; i++) {
            vm_load(&vm[i]);
            vm_secondary_set((uint32_t)PROC2_VPID);
            vmx_set(VPID, vpid[kind][i]);
        }
        by_turns(vm, EXIT_VMCALL);
        struct inv_descriptor descriptor = {VPID_CLASHING, 0};
        CHECK_EQ(vmx_invvpid(1, &descriptor), 0);
        by_turns(vm, EXIT_VMCALL);
    }
}

/* L1's SYSENTER MSRs differ, or another changes them. */
static void sysenter_of_each(void)
{
    struct vm vm[2];

    create_two(vm, l2_counts, 0);
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < 2; i++) {
            vm_load(&vm[i]);
            vmx_set(HOST_SYSENTER_ESP, round == 1 ? 0x7000 : 0x7000 + i);
        }
        for (unsigned i = 0; i < 2 * STEADY; i++) {
            step(&vm[i & 1], EXIT_VMCALL);
            CHECK_EQ(cpu_rdmsr(IA32_SYSENTER_ESP), round == 1 ? 0x7000 : 0x7000 + (i & 1));
            if (i == STEADY)
                cpu_wrmsr(IA32_SYSENTER_ESP, 0x6000);
        }
    }
    cpu_wrmsr(IA32_SYSENTER_ESP, 0);
}

/* One of the two is cleared, and another takes its place in turn; with many others current in between. */
static void cleared_in_between(void)
{
    struct vm vm[2], others[6];

    create_two(vm, l2_counts, 0);
    for (unsigned i = 0; i < ARRAY_SIZE(others); i++)
        create(&others[i], l2_counts, 0);
    for (unsigned round = 0; round < 8; round++) {
        unsigned i = round & 1;
        by_turns(vm, EXIT_VMCALL);
        uint64_t count = vm[i].regs[RBX];
        step(&others[round % ARRAY_SIZE(others)], EXIT_VMCALL);
        if (round & 2)
            step(&vm[!i], EXIT_VMCALL);
        vm_clear(&vm[i]);
        if (round & 4)
            step(&vm[!i], EXIT_VMCALL);
        EXPECT_EXIT_SKIP(&vm[i], EXIT_VMCALL);
        CHECK_EQ(vm[i].regs[RBX], count + 1);
    }
}

/* L0 counts alike by whatever way: entries, exits, and each entry with a bitmap that needed no merge. */
static void is_counted(void)
{
    static const enum counter counted[] = {COUNTER_NESTED_ENTRIES, COUNTER_EXITS_REFLECTED, COUNTER_EXITS_L2,
                                           COUNTER_BITMAP_MERGES_SAVED};
    uint32_t before[ARRAY_SIZE(counted)];
    struct vm vm[2];

    create_two(vm, l2_counts, 0);
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < ARRAY_SIZE(counted); i++)
            before[i] = counter_read(counted[i]);
        by_turns(vm, EXIT_VMCALL);
        if (round == 1)
            step(&vm[1], EXIT_VMCALL);
        for (unsigned i = 0; i < ARRAY_SIZE(counted); i++)
            CHECK_EQ(counter_read(counted[i]) - before[i], 2 * STEADY + (round == 1));
    }
}

const struct scenario straight_turn_scenarios[] = {
    {"straight-turns-go-on", each_goes_on, NULL},
    {"straight-turns-bitmap", bitmap_of_the_other, NULL},
    {"straight-turns-bitmap-of-both", bitmap_of_both, NULL},
    {"straight-turns-invept", invept_of_the_other, without_ept},
    {"straight-turns-violation", violation_in_between, without_ept},
    {"straight-turns-control", written_before, NULL},
    {"straight-turns-event", event_waits, NULL},
    {"straight-turns-vpid", vpids, without_vpid},
    {"straight-turns-sysenter", sysenter_of_each, NULL},
    {"straight-turns-cleared", cleared_in_between, NULL},
    {"straight-turns-counted", is_counted, without_counters},
    {NULL, NULL, NULL},
};
