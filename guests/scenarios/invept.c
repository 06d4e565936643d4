/* INVEPT and INVVPID: what L2 sees of tables that L1 changed before or after, and whether the CPU executes one for each
 * of L1. The emulator forgets everything at each entry: only a Nestor that counts (COUNT_VMX) shows the latter. */
#include "guests/lib/counters.h"
#include "guests/lib/cpu.h"
#include "guests/lib/page.h"
#include "guests/lib/paging.h"
#include "guests/scenarios/scenario.h"

#define WINDOW GIB
#define TURNS 1000u
#define PAGES 4u
#define VPID_SETS 64u /* VPIDs of L1's so far apart share one of the CPU's: docs/adr/0009-vpid-by-sets.md */

static volatile uint64_t l2_value;

static void l2_read_again_and_again(void)
{
    for (;;) {
        l2_value = *(volatile uint64_t *)WINDOW;
        asm volatile("vmcall" : : : "memory");
    }
}

static void l2_exit_again_and_again(void)
{
    for (;;)
        asm volatile("vmcall");
}

static const char *without_vpid(void)
{
    return without_ept() || !vm_control_offered(PROC2_CONTROLS, (uint32_t)PROC2_VPID) ? "no EPT or VPID" : NULL;
}

static const char *without_counts(void)
{
    return counters_vmx_present() ? without_vpid() : "no count of VMX instructions";
}

static void invept(uint64_t type)
{
    struct inv_descriptor descriptor = {.low = type == INVEPT_SINGLE ? vmx_get(EPT_POINTER) : 0};

    REQUIRE_EQ(vmx_invept(type, &descriptor), 0);
}

static void enter(struct vm *vm)
{
    EXPECT_EXIT_SKIP(vm, EXIT_VMCALL);
}

static uint32_t invepts(void)
{
    return counter_read((enum counter)COUNTER_INVEPTS);
}

static uint32_t invvpids(void)
{
    return counter_read((enum counter)COUNTER_INVVPIDS);
}

/* --- What L2 sees --- */

/* L2 at WINDOW, with the entry for it and some pages that hold their numbers. */
struct mapped {
    struct vm vm;
    uint64_t *entry, *page[PAGES];
};

static void start(struct mapped *m)
{
    vm_start(&m->vm, l2_read_again_and_again, VM_EPT);
    m->entry = paging_entry(m->vm.ept, WINDOW, PAGE_SIZE);
    for (unsigned i = 0; i < PAGES; i++) {
        m->page[i] = page_alloc();
        *m->page[i] = i;
    }
}

static void map(struct mapped *m, unsigned page)
{
    *(volatile uint64_t *)m->entry = (uint64_t)m->page[page] | EPT_RWX | EPT_WB;
}

/* Root operation uses no guest-physical mapping: L2 must see what L1 stores between INVEPT and the entry. `before`: L1
 * changes the table before its INVEPT as well, in some turns. */
static void store_behind_invept(bool before)
{
    struct mapped m;
    unsigned wrong = 0;

    start(&m);
    map(&m, 0);
    enter(&m.vm);
    for (unsigned i = 1; i <= TURNS; i++) {
        if (before && i % 3)
            map(&m, (i + 1) % PAGES);
        invept(i % 2 ? INVEPT_SINGLE : INVEPT_ALL);
        map(&m, i % PAGES);
        enter(&m.vm);
        wrong += l2_value != i % PAGES;
    }
    CHECK_EQ(wrong, 0);
}

static void then_store(void)
{
    store_behind_invept(false);
}

static void between_stores(void)
{
    store_behind_invept(true);
}

/* The table is another one after the INVEPT, not only its entry. */
static void then_table(void)
{
    struct mapped m;
    uint64_t *tables[2], *above;
    unsigned wrong = 0;

    start(&m);
    above = paging_entry(m.vm.ept, WINDOW, LARGE_2M);
    for (unsigned i = 0; i < 2; i++) {
        tables[i] = page_alloc();
        tables[i][0] = (uint64_t)m.page[i] | EPT_RWX | EPT_WB;
    }
    for (unsigned i = 0; i < TURNS / 4; i++) {
        *(volatile uint64_t *)above = (uint64_t)tables[i % 2] | EPT_RWX;
        enter(&m.vm);
        wrong += l2_value != i % 2;
        invept(INVEPT_SINGLE);
    }
    CHECK_EQ(wrong, 0);
}

/* INVEPT ends combined mappings: L1 changes L2's own page tables, and EPT12 stays as it is. */
static void reaches_l2s_tables(void)
{
    struct mapped m;
    uint64_t *tables = paging_alloc_identity(), *entry;
    unsigned wrong = 0;

    start(&m);
    entry = paging_entry(tables, WINDOW, PAGE_SIZE);
    vmx_set(GUEST_CR3, (uint64_t)tables);
    vm_secondary_set((uint32_t)PROC2_VPID);
    vmx_set(VPID, 3);
    for (unsigned i = 0; i < TURNS / 4; i++) {
        *(volatile uint64_t *)entry = (uint64_t)m.page[i % PAGES] | PTE_P | PTE_W | PTE_U;
        enter(&m.vm);
        wrong += l2_value != i % PAGES;
        invept(i % 2 ? INVEPT_SINGLE : INVEPT_ALL);
    }
    CHECK_EQ(wrong, 0);
}

/* --- What the CPU executes --- */

static void create(struct vm *vm, unsigned options, uint16_t vpid)
{
    vm_create(vm, l2_exit_again_and_again, options);
    if (vpid) {
        vm_secondary_set((uint32_t)PROC2_VPID);
        vmx_set(VPID, vpid);
    }
    enter(vm);
}

static void executed(uint64_t type)
{
    struct vm vm;
    uint32_t before;

    vmx_start();
    create(&vm, VM_EPT, 3);
    before = invepts();
    for (unsigned i = 0; i < TURNS; i++) {
        if (i == TURNS / 2)
            vm_control_clear(PROC_CONTROLS, (uint32_t)PROC_USE_MSR_BITMAPS);
        invept(type);
        enter(&vm);
    }
    print("# %u INVEPTs of type %lu and entries: %u executed\n", TURNS, type, invepts() - before);
    CHECK(invepts() - before >= TURNS);
    before = invepts();
    for (unsigned i = 0; i < TURNS; i++)
        enter(&vm);
    CHECK_EQ(invepts() - before, 0);
}

static void single_executed(void)
{
    executed(INVEPT_SINGLE);
}

static void all_executed(void)
{
    executed(INVEPT_ALL);
}

/* One INVEPT of L1 is owed by each EPT02 that it names, and by none of a VMCS without EPT. */
static void owed_by_each(void)
{
    struct vm with[2], without;
    uint32_t before;

    vmx_start();
    for (unsigned i = 0; i < 2; i++)
        create(&with[i], VM_EPT, (uint16_t)(3 + i));
    create(&without, VM_NO_EPT, 5);
    for (unsigned i = 0; i < 8; i++) { /* bitmaps and tables are traced then */
        invept(INVEPT_ALL);
        enter(&with[0]);
        enter(&with[1]);
        enter(&without);
    }
    before = invepts();
    for (unsigned i = 0; i < TURNS; i++) {
        invept(INVEPT_ALL);
        enter(&without);
    }
    CHECK_EQ(invepts() - before, 0);
    enter(&with[0]);
    CHECK_EQ(invepts() - before, 1);
    enter(&with[1]);
    CHECK_EQ(invepts() - before, 2);
    vm_load(&with[0]);
    invept(INVEPT_SINGLE);
    enter(&with[1]);
    CHECK_EQ(invepts() - before, 2);
    enter(&with[0]);
    CHECK_EQ(invepts() - before, 3);
}

/* A VMCS that L1 clears and loads again, as for another processor, keeps what its EPT02 owes. */
static void owed_past_vmclear(void)
{
    struct vm vm;
    uint32_t before;

    vmx_start();
    create(&vm, VM_EPT, 3);
    before = invepts();
    for (unsigned i = 0; i < TURNS / 4; i++) {
        vm_clear(&vm);
        vm_load(&vm);
        invept(INVEPT_ALL);
        enter(&vm);
    }
    CHECK(invepts() - before >= TURNS / 4);
}

static void invvpid_executed(void)
{
    struct vm vm;

    vmx_start();
    create(&vm, VM_EPT, 3);
    for (uint64_t type = 0; type <= 3; type++) {
        struct inv_descriptor descriptor = {.low = 3, .high = WINDOW};
        uint32_t before = invvpids();
        if (!(vmx_ept_vpid_cap() & VPID_CAP_ADDRESS << type))
            continue;
        for (unsigned i = 0; i < TURNS / 4; i++)
            REQUIRE_EQ(vmx_invvpid(type, &descriptor), 0);
        CHECK(invvpids() - before >= TURNS / 4);
    }
}

/* The ledger sees the rest as well, in a build that does not count. */
static bool counted(bool as_it_must_be)
{
    return !counters_vmx_present() || as_it_must_be;
}

/* Two VPIDs of L1 that share one of the CPU's: each change of hands is a flush. */
static void vpid_handed_over(void)
{
    struct vm vm[2];
    uint32_t before;

    vmx_start();
    for (unsigned i = 0; i < 2; i++)
        create(&vm[i], VM_EPT, (uint16_t)(3 + i * VPID_SETS));
    before = invvpids();
    for (unsigned i = 0; i < TURNS; i++)
        enter(&vm[i % 2]);
    CHECK(counted(invvpids() - before >= TURNS));
    before = invvpids();
    for (unsigned i = 0; i < TURNS; i++)
        enter(&vm[1]);
    CHECK(counted(invvpids() - before == 0));
}

/* Without VPID each entry flushes L2's, and each exit L1's. SDM 3C 29.4.3.1 */
static void without_vpid_flushes(void)
{
    struct vm vm;
    uint32_t before;

    vmx_start();
    create(&vm, VM_EPT, 0);
    before = invvpids();
    for (unsigned i = 0; i < TURNS; i++)
        enter(&vm);
    CHECK(counted(invvpids() - before >= 2 * TURNS));
}

/* Such an L2 runs on the tables that L1 itself uses, with another meaning of the APIC-access page. */
static void apic_access_without_ept(void)
{
    struct vm vm;
    uint32_t before;

    vmx_start();
    create(&vm, VM_NO_EPT, 3);
    vmx_set(APIC_ACCESS_ADDR, (uint64_t)page_alloc());
    vm_secondary_set((uint32_t)PROC2_APIC_ACCESS);
    before = invepts();
    for (unsigned i = 0; i < TURNS; i++)
        enter(&vm);
    CHECK(counted(invepts() - before >= TURNS));
    vm_control_clear(PROC2_CONTROLS, (uint32_t)PROC2_APIC_ACCESS);
    for (unsigned i = 0; i < 8; i++)
        enter(&vm);
    before = invepts();
    for (unsigned i = 0; i < TURNS / 4; i++)
        enter(&vm);
    CHECK(counted(invepts() - before == 0));
}

const struct scenario invept_scenarios[] = {
    {"invept-then-store", then_store, without_ept},
    {"invept-between-stores", between_stores, without_ept},
    {"invept-then-table", then_table, without_ept},
    {"invept-reaches-l2s-tables", reaches_l2s_tables, without_vpid},
    {"invept-single-executed", single_executed, without_counts},
    {"invept-all-executed", all_executed, without_counts},
    {"invept-owed-by-each", owed_by_each, without_counts},
    {"invept-owed-past-vmclear", owed_past_vmclear, without_counts},
    {"invept-invvpid-executed", invvpid_executed, without_counts},
    {"invept-vpid-handed-over", vpid_handed_over, without_vpid},
    {"invept-without-vpid-flushes", without_vpid_flushes, without_vpid},
    {"invept-apic-access-without-ept", apic_access_without_ept, without_vpid},
    {0},
};
