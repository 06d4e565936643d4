/* Lists of MSRs of an L2 that exits and is entered again without a change for L0: each is read when it is due, as L1
 * has it in memory then. */
#include "guests/lib/counters.h"
#include "guests/lib/cpu.h"
#include "guests/lib/page.h"
#include "guests/lib/paging.h"
#include "guests/scenarios/scenario.h"

#define STEADY 4
#define GUEST_VALUE 0x1111222233334000
#define HOST_VALUE 0x5555666677778000
#define REASON_LOAD_FAILED (uint32_t)(EXIT_REASON_ENTRY_FAILURE | EXIT_MSR_LOAD_FAIL)
#define REASON_BAD_STATE (uint32_t)(EXIT_REASON_ENTRY_FAILURE | EXIT_INVALID_GUEST_STATE)
#define NOT_RAM 0xd0000000

struct msr_entry {
    uint32_t index, reserved;
    uint64_t value;
};

static struct msr_entry *entry_load, *exit_store, *exit_load;
static volatile uint64_t l2_star, l2_gs, l2_star_next;

static void l2_turns(void)
{
    for (;;) {
        l2_star = cpu_rdmsr(IA32_STAR);
        l2_gs = cpu_rdmsr(IA32_KERNEL_GS_BASE);
        cpu_wrmsr(IA32_STAR, l2_star_next);
        (void)cpu_cpuid(0, 0);
    }
}

static void l2_reads_behind(void)
{
    for (;;) {
        cpu_wrmsr(IA32_STAR, l2_star_next);
        (void)cpu_cpuid(0, 0);
        (void)cpu_rdmsr(IA32_SYSENTER_CS);
    }
}

static void set_counts(unsigned at_entry, unsigned stored, unsigned at_exit)
{
    vmx_set(ENTRY_MSR_LOAD_COUNT, at_entry);
    vmx_set(EXIT_MSR_STORE_COUNT, stored);
    vmx_set(EXIT_MSR_LOAD_COUNT, at_exit);
}

static void create_with(struct vm *vm, void (*code)(void), unsigned options)
{
    static const uint32_t used[] = {IA32_STAR, IA32_LSTAR, IA32_CSTAR, IA32_KERNEL_GS_BASE};

    vm_start(vm, code, options);
    entry_load = page_alloc();
    exit_store = page_alloc();
    exit_load = page_alloc();
    vmx_set(ENTRY_MSR_LOAD_ADDR, (uint64_t)entry_load);
    vmx_set(EXIT_MSR_STORE_ADDR, (uint64_t)exit_store);
    vmx_set(EXIT_MSR_LOAD_ADDR, (uint64_t)exit_load);
    for (unsigned i = 0; i < ARRAY_SIZE(used); i++)
        cpu_wrmsr(used[i], 0);
    l2_star_next = 0;
}

static void create(struct vm *vm, void (*code)(void))
{
    create_with(vm, code, 0);
}

static void become_steady(struct vm *vm)
{
    for (unsigned i = 0; i < STEADY; i++)
        EXPECT_EXIT_SKIP(vm, EXIT_CPUID);
}

/* An entry that fails for this reason: no VMfail. */
static void expect_failed(struct vm *vm, uint32_t reason)
{
    CHECK_EQ(vm_enter(vm), 0);
    CHECK_EQ(vm->exit.reason, reason);
}

static void check_round(struct vm *vm, uint64_t round)
{
    uint32_t other = round % 2 ? IA32_LSTAR : IA32_KERNEL_GS_BASE;

    entry_load[0] = (struct msr_entry){IA32_STAR, 0, GUEST_VALUE + round};
    entry_load[1] = (struct msr_entry){other, 0, 0x7000 * round};
    exit_store[0] = (struct msr_entry){IA32_STAR, 0, 0};
    exit_store[1] = (struct msr_entry){other, 0, 0};
    exit_load[0] = (struct msr_entry){IA32_STAR, 0, HOST_VALUE + round};
    exit_load[1] = (struct msr_entry){other, 0, 0x9000 * round};
    l2_star_next = 0xabc000 + round;
    EXPECT_EXIT_SKIP(vm, EXIT_CPUID);
    CHECK_EQ(l2_star, GUEST_VALUE + round);
    if (other == IA32_KERNEL_GS_BASE)
        CHECK_EQ(l2_gs, 0x7000 * round);
    CHECK_EQ(exit_store[0].value, 0xabc000 + round);
    CHECK_EQ(exit_store[1].value, 0x7000 * round);
    CHECK_EQ(cpu_rdmsr(IA32_STAR), HOST_VALUE + round);
    CHECK_EQ(cpu_rdmsr(other), 0x9000 * round);
}

/* L1 changes values and numbers in its memory, and nothing else. */
static void changed_in_memory(void)
{
    struct vm vm;

    create(&vm, l2_turns);
    entry_load[0].index = exit_store[0].index = exit_load[0].index = IA32_STAR;
    entry_load[1].index = exit_store[1].index = exit_load[1].index = IA32_LSTAR;
    set_counts(2, 2, 2);
    become_steady(&vm);
    for (uint64_t round = 1; round <= 8; round++)
        check_round(&vm, round);
}

static uint32_t straight_exits(struct vm *vm)
{
    uint32_t before = counter_read(COUNTER_EXITS_STRAIGHT);

    become_steady(vm);
    return counter_read(COUNTER_EXITS_STRAIGHT) - before;
}

/* They cost no more than their entries, and what L0 must judge one by one is judged so. */
static void of_the_straight_way(void)
{
    uint32_t usual;
    struct vm vm;

    create(&vm, l2_turns);
    (void)straight_exits(&vm);
    usual = straight_exits(&vm);
    for (unsigned i = 0; i < 3; i++) {
        entry_load[i] = exit_store[i] = exit_load[i] = (struct msr_entry){IA32_LSTAR, 0, 0};
        set_counts(i == 0, i == 1, i == 2);
        (void)straight_exits(&vm);
        CHECK_EQ(straight_exits(&vm), usual);
    }
    entry_load[0] = (struct msr_entry){IA32_PAT, 0, cpu_rdmsr(IA32_PAT)};
    set_counts(1, 1, 1);
    (void)straight_exits(&vm);
    CHECK_EQ(straight_exits(&vm), 0);
    entry_load[0] = (struct msr_entry){IA32_LSTAR, 0, 0};
    set_counts(1, 1, 0);
    (void)straight_exits(&vm);
    CHECK_EQ(straight_exits(&vm), usual);
}

static const uint32_t four[] = {IA32_LSTAR, IA32_CSTAR, IA32_STAR, IA32_KERNEL_GS_BASE};

static void check_bad_entry(struct vm *vm, unsigned at, struct msr_entry bad)
{
    for (unsigned i = 0; i < ARRAY_SIZE(four); i++)
        entry_load[i] = (struct msr_entry){four[i], 0, 0x1000};
    become_steady(vm);
    for (unsigned i = 0; i < ARRAY_SIZE(four); i++) {
        entry_load[i].value = 0x2000 + i;
        cpu_wrmsr(four[i], 0x3000);
    }
    entry_load[at] = bad;
    /* The guest's state is judged before the list, and then nothing is loaded. */
    vmx_set(GUEST_INTERRUPTIBILITY, BLOCKING_BY_STI | BLOCKING_BY_MOV_SS);
    expect_failed(vm, REASON_BAD_STATE);
    for (unsigned i = 0; i < ARRAY_SIZE(four); i++)
        CHECK_EQ(cpu_rdmsr(four[i]), 0x3000);
    vmx_set(GUEST_INTERRUPTIBILITY, 0);
    expect_failed(vm, REASON_LOAD_FAILED);
    CHECK_EQ(vm->exit.qualification, at + 1);
    for (unsigned i = 0; i < ARRAY_SIZE(four); i++)
        CHECK_EQ(cpu_rdmsr(four[i]), i < at ? 0x2000 + i : 0x3000);
}

/* No list may have them. The last: bare, Bochs without x2APIC takes its MSRs for others; with INVPCID it has it. */
static const struct msr_entry bad[] = {
    {IA32_FS_BASE, 0, 0},         {IA32_LSTAR, 1, 0x2000}, {IA32_KERNEL_GS_BASE, 0, NONCANONICAL_ADDRESS},
    {IA32_FEATURE_CONTROL, 0, 0}, {0x800, 0, 0},
};

/* One of them behind good ones. SDM 3C 27.4 "Loading MSRs" */
static void fails_half_way(void)
{
    struct vm vm;

    create(&vm, l2_turns);
    bool x2apic = vm_control_offered(PROC2_CONTROLS, PROC2_INVPCID);
    unsigned count = ARRAY_SIZE(bad) - (x2apic ? 0 : 1);
    for (unsigned i = 0; i < ARRAY_SIZE(four); i++)
        entry_load[i].index = four[i];
    set_counts(ARRAY_SIZE(four), 0, 0);
    for (unsigned at = 0; at < ARRAY_SIZE(four); at++)
        for (unsigned i = 0; i < count; i++)
            check_bad_entry(&vm, at, bad[i]);
}

/* An entry that the CPU refuses: the list comes behind its checks, so nothing of it is loaded. */
static void put_back(void)
{
    struct vm vm;

    create(&vm, l2_turns);
    entry_load[0] = (struct msr_entry){IA32_STAR, 0, GUEST_VALUE};
    entry_load[1] = (struct msr_entry){IA32_KERNEL_GS_BASE, 0, 0x7000};
    entry_load[2] = (struct msr_entry){IA32_STAR, 0, GUEST_VALUE + 1};
    set_counts(3, 0, 0);
    for (unsigned round = 0; round < 2; round++) {
        become_steady(&vm);
        cpu_wrmsr(IA32_STAR, HOST_VALUE);
        cpu_wrmsr(IA32_KERNEL_GS_BASE, 0x9000);
        vmx_set(GUEST_INTERRUPTIBILITY, BLOCKING_BY_STI | BLOCKING_BY_MOV_SS);
        expect_failed(&vm, REASON_BAD_STATE);
        CHECK_EQ(cpu_rdmsr(IA32_STAR), HOST_VALUE);
        CHECK_EQ(cpu_rdmsr(IA32_KERNEL_GS_BASE), 0x9000);
        vmx_set(GUEST_INTERRUPTIBILITY, 0);
        become_steady(&vm);
        CHECK_EQ(l2_star, GUEST_VALUE + 1);
        cpu_wrmsr(IA32_STAR, HOST_VALUE);
        vmx_set(ENTRY_INTERRUPTION_INFO, INTR_VALID | PUT(1, INTR_TYPE));
        CHECK_EQ(vm_enter(&vm), VMXERR_ENTRY_CONTROLS);
        CHECK_EQ(cpu_rdmsr(IA32_STAR), HOST_VALUE);
        vmx_set(ENTRY_INTERRUPTION_INFO, 0);
    }
}

/* A list of the exit that L0 finds to need a closer look when half of it is done: the exit stores L2's values. */
static void closer_look_half_way(void)
{
    uint64_t pat = cpu_rdmsr(IA32_PAT);
    struct vm vm;

    create(&vm, l2_turns);
    exit_store[0] = (struct msr_entry){IA32_STAR, 0, 0};
    exit_store[1] = (struct msr_entry){IA32_LSTAR, 0, 0};
    exit_load[0] = (struct msr_entry){IA32_STAR, 0, HOST_VALUE};
    exit_load[1] = (struct msr_entry){IA32_STAR, 0, HOST_VALUE + 1};
    set_counts(0, 2, 2);
    for (unsigned round = 0; round < 4; round++) {
        become_steady(&vm);
        l2_star_next = GUEST_VALUE + round;
        if (round % 2)
            exit_load[1] = (struct msr_entry){IA32_PAT, 0, pat};
        else
            exit_store[1].index = IA32_PAT;
        EXPECT_EXIT_SKIP(&vm, EXIT_CPUID);
        CHECK_EQ(exit_store[0].value, GUEST_VALUE + round);
        CHECK_EQ(cpu_rdmsr(IA32_STAR), HOST_VALUE + 1 - round % 2);
        CHECK_EQ(exit_store[1].value, round % 2 ? 0 : pat);
        exit_load[1] = (struct msr_entry){IA32_STAR, 0, HOST_VALUE + 1};
        exit_store[1] = (struct msr_entry){IA32_LSTAR, 0, 0};
    }
}

static uint8_t *touched;

static void l2_touches(void)
{
    for (;;) {
        cpu_wrmsr(IA32_STAR, l2_star_next);
        *(volatile uint8_t *)touched = 1;
        (void)cpu_cpuid(0, 0);
    }
}

static void check_touch(struct vm *vm, uint64_t *entry, uint64_t round)
{
    uint64_t leaf = (uint64_t)touched | EPT_RWX | EPT_WB;

    l2_star_next = GUEST_VALUE + round;
    if (round % 3 == 2)
        exit_load[1] = (struct msr_entry){IA32_PAT, 0, cpu_rdmsr(IA32_PAT)};
    EXPECT_EXIT(vm, EXIT_EPT_VIOLATION);
    CHECK_EQ(vm->exit.gpa, (uint64_t)touched);
    CHECK_EQ(exit_store[0].value, GUEST_VALUE + round);
    CHECK_EQ(cpu_rdmsr(IA32_STAR), HOST_VALUE);
    *entry = leaf;
    exit_load[1] = (struct msr_entry){IA32_LSTAR, 0, 0};
    EXPECT_EXIT_SKIP(vm, EXIT_CPUID);
}

/* Pages that L2 lacks: L1 gets the exit, with its lists done, and maps the page. */
static void around_violations(void)
{
    enum { PAGES = 9 };
    uint64_t *entry[PAGES];
    uint8_t *pages;
    struct vm vm;

    create_with(&vm, l2_touches, VM_EPT);
    pages = page_alloc_run(PAGES, PAGE_SIZE);
    for (unsigned i = 0; i < PAGES; i++)
        *(entry[i] = paging_entry(vm.ept, (uint64_t)pages + i * PAGE_SIZE, PAGE_SIZE)) = 0;
    touched = page_alloc();
    exit_store[0] = (struct msr_entry){IA32_STAR, 0, 0};
    exit_load[0] = (struct msr_entry){IA32_STAR, 0, HOST_VALUE};
    exit_load[1] = (struct msr_entry){IA32_LSTAR, 0, 0};
    set_counts(0, 1, 2);
    become_steady(&vm);
    for (unsigned i = 0; i < PAGES; i++) {
        touched = pages + i * PAGE_SIZE;
        check_touch(&vm, entry[i], i);
    }
}

/* The exit loads what it has stored, and so does the next entry. */
static void one_list_for_all(void)
{
    struct vm vm;

    create(&vm, l2_turns);
    vmx_set(ENTRY_MSR_LOAD_ADDR, (uint64_t)exit_store);
    vmx_set(EXIT_MSR_LOAD_ADDR, (uint64_t)exit_store);
    exit_store[0] = (struct msr_entry){IA32_STAR, 0, 0};
    exit_store[1] = (struct msr_entry){IA32_KERNEL_GS_BASE, 0, 0};
    set_counts(2, 2, 2);
    become_steady(&vm);
    for (uint64_t round = 1; round <= 6; round++) {
        exit_store[1].value = 0x7000 * round;
        l2_star_next = GUEST_VALUE + round;
        cpu_wrmsr(IA32_STAR, HOST_VALUE);
        EXPECT_EXIT_SKIP(&vm, EXIT_CPUID);
        CHECK_EQ(l2_gs, 0x7000 * round);
        CHECK_EQ(l2_star, round == 1 ? 0 : GUEST_VALUE + round - 1);
        CHECK_EQ(exit_store[0].value, GUEST_VALUE + round);
        CHECK_EQ(cpu_rdmsr(IA32_STAR), GUEST_VALUE + round);
    }
}

/* Around the length from which on L0 goes through it in another way. */
static void of_any_length(void)
{
    struct vm vm;

    create(&vm, l2_turns);
    for (unsigned i = 0; i < PAGE_SIZE / sizeof(*entry_load); i++)
        entry_load[i] = exit_load[i] = exit_store[i] = (struct msr_entry){IA32_STAR, 0, GUEST_VALUE + i};
    for (unsigned count = 62; count <= 66; count++) {
        set_counts(count, count, count);
        become_steady(&vm);
        CHECK_EQ(l2_star, GUEST_VALUE + count - 1);
        CHECK_EQ(cpu_rdmsr(IA32_STAR), GUEST_VALUE + count - 1);
        l2_star_next = HOST_VALUE + count;
        EXPECT_EXIT_SKIP(&vm, EXIT_CPUID);
        CHECK_EQ(exit_store[count - 1].value, HOST_VALUE + count);
        CHECK_EQ(exit_store[count].value, GUEST_VALUE + count);
    }
}

/* The list ends in the MSR bitmap, so that the exit stores L2's IA32_STAR over the bits of the reads of MSRs 140H to
 * 17FH. */
static void check_bitmap_stored(struct msr_entry *list, unsigned count, uint8_t *bitmap)
{
    const uint64_t intercepted = BIT(IA32_SYSENTER_CS - 0x140);
    struct vm vm;

    create(&vm, l2_reads_behind);
    for (unsigned i = 0; i < count; i++)
        list[i] = (struct msr_entry){i + 1 < count ? IA32_LSTAR : IA32_STAR, 0, 0};
    vmx_set(MSR_BITMAP, (uint64_t)bitmap);
    vmx_set(EXIT_MSR_STORE_ADDR, (uint64_t)list);
    set_counts(0, count, 0);
    become_steady(&vm);
    for (unsigned round = 0; round < 6; round++) {
        l2_star_next = round % 3 == 1 ? intercepted : 0;
        EXPECT_EXIT_SKIP(&vm, EXIT_CPUID); /* stores */
        CHECK_EQ(list[count - 1].value, l2_star_next);
        l2_star_next = 0;
        if (round % 3 == 1)
            EXPECT_EXIT_SKIP(&vm, EXIT_RDMSR);
        if (round % 2)
            become_steady(&vm);
    }
}

static void over_bitmap(void)
{
    uint8_t *bitmap = page_alloc();

    check_bitmap_stored((struct msr_entry *)(bitmap + 0x20), 1, bitmap);
}

static void over_bitmap_behind(void)
{
    uint8_t *pages = page_alloc_run(2, PAGE_SIZE);

    check_bitmap_stored((struct msr_entry *)(pages + PAGE_SIZE - 0x20), 5, pages + PAGE_SIZE);
}

static volatile uint64_t l2_speculation;

static void l2_speculates(void)
{
    for (uint64_t i = 0;; i++) {
        l2_speculation = cpu_rdmsr(IA32_SPEC_CTRL);
        cpu_wrmsr(IA32_SPEC_CTRL, i % 2);
        (void)cpu_cpuid(0, 0);
    }
}

/* The one MSR that hypervisors have in their lists on most CPUs: one list for entry and exit, another for L1's. */
static void of_speculation(void)
{
    uint64_t own = cpu_rdmsr(IA32_SPEC_CTRL);
    struct vm vm;

    create(&vm, l2_speculates);
    vmx_set(ENTRY_MSR_LOAD_ADDR, (uint64_t)exit_store);
    exit_store[0] = (struct msr_entry){IA32_SPEC_CTRL, 0, 0};
    exit_load[0] = (struct msr_entry){IA32_SPEC_CTRL, 0, 1};
    set_counts(1, 1, 1);
    for (uint64_t round = 0; round < 8; round++) {
        EXPECT_EXIT_SKIP(&vm, EXIT_CPUID);
        CHECK_EQ(l2_speculation, round ? (round - 1) % 2 : 0);
        CHECK_EQ(exit_store[0].value, round % 2);
        CHECK_EQ(cpu_rdmsr(IA32_SPEC_CTRL), exit_load[0].value);
        exit_load[0].value = round / 2 % 2;
    }
    if (counters_present())
        CHECK_EQ(straight_exits(&vm), STEADY);
    exit_store[0].value = BIT(40);
    cpu_wrmsr(IA32_SPEC_CTRL, 0);
    exit_load[0].value = 1;
    expect_failed(&vm, REASON_LOAD_FAILED);
    CHECK_EQ(cpu_rdmsr(IA32_SPEC_CTRL), 1);
    cpu_wrmsr(IA32_SPEC_CTRL, own);
}

static const char *without_speculation(void)
{
    return cpu_cpuid(7, 0).edx & BIT(26) ? NULL : "no IA32_SPEC_CTRL";
}

/* Where no RAM is, all bits read as 1. */
static void not_in_ram(void)
{
    struct vm vm;

    create(&vm, l2_turns);
    entry_load[0] = (struct msr_entry){IA32_STAR, 0, GUEST_VALUE};
    set_counts(1, 0, 0);
    for (unsigned round = 0; round < 2; round++) {
        become_steady(&vm);
        vmx_set(ENTRY_MSR_LOAD_ADDR, NOT_RAM);
        expect_failed(&vm, REASON_LOAD_FAILED);
        CHECK_EQ(vm.exit.qualification, 1);
        expect_failed(&vm, REASON_LOAD_FAILED);
        vmx_set(ENTRY_MSR_LOAD_ADDR, (uint64_t)entry_load);
    }
}

const struct scenario straight_list_scenarios[] = {
    {"straight-list-changed-in-memory", changed_in_memory, NULL},
    {"straight-list-counted", of_the_straight_way, without_counters},
    {"straight-list-fails-half-way", fails_half_way, NULL},
    {"straight-list-put-back", put_back, NULL},
    {"straight-list-closer-look", closer_look_half_way, NULL},
    {"straight-list-around-violations", around_violations, without_ept},
    {"straight-list-one-for-all", one_list_for_all, NULL},
    {"straight-list-any-length", of_any_length, NULL},
    {"straight-list-over-bitmap", over_bitmap, NULL},
    {"straight-list-over-bitmap-behind", over_bitmap_behind, NULL},
    {"straight-list-not-in-ram", not_in_ram, NULL},
    {"straight-list-of-speculation", of_speculation, without_speculation},
    {NULL, NULL, NULL},
};
