/* L1 gives its L2 another CR3 between exits that change nothing else, as one with page tables of its own for L2 does at
 * most of them. */
#include "guests/lib/cpu.h"
#include "guests/lib/page.h"
#include "guests/lib/paging.h"
#include "guests/scenarios/scenario.h"

#define TURNS 4
#define TABLES 2
#define WINDOW GIB
#define TOO_WIDE BIT(60)

static volatile uint64_t l2_value, l2_cr3;

static void l2_look(void)
{
    for (;;) {
        l2_cr3 = cpu_read_cr3();
        l2_value = *(volatile uint64_t *)WINDOW;
        (void)cpu_cpuid(0, 0);
    }
}

struct world {
    struct vm vm;
    uint64_t *tables[TABLES];
};

/* Each of L2's page tables has another page at WINDOW. */
static void start(struct world *w)
{
    vmx_start();
    vm_create(&w->vm, l2_look, 0);
    for (unsigned i = 0; i < TABLES; i++) {
        uint64_t *page = page_alloc();

        page[0] = 0x100 + i;
        w->tables[i] = paging_alloc_identity();
        *paging_entry(w->tables[i], WINDOW, PAGE_SIZE) = (uint64_t)page | PTE_P | PTE_W | PTE_U;
    }
    vmx_set(GUEST_CR3, (uint64_t)w->tables[0]);
    for (unsigned i = 0; i < TURNS; i++)
        EXPECT_EXIT_SKIP(&w->vm, EXIT_CPUID);
}

/* L2 runs with that one, and L1 reads it. */
static void check_turn(struct world *w, unsigned i)
{
    vmx_set(GUEST_CR3, (uint64_t)w->tables[i]);
    CHECK_EQ(vmx_get(GUEST_CR3), w->tables[i]);
    EXPECT_EXIT_SKIP(&w->vm, EXIT_CPUID);
    CHECK_EQ(l2_cr3, w->tables[i]);
    CHECK_EQ(l2_value, 0x100 + i);
    CHECK_EQ(vmx_get(GUEST_CR3), w->tables[i]);
}

static void in_turn(void)
{
    struct world w;

    start(&w);
    for (unsigned turn = 0; turn < 2 * TURNS; turn++)
        check_turn(&w, turn % TABLES);
}

/* Together with what makes an entry look at what L1 wrote, and with VMCLEAR, which writes it to memory. */
static void with_other_writes(void)
{
    struct world w;

    start(&w);
    for (unsigned turn = 0; turn < 4 * TURNS; turn++) {
        vmx_set(GUEST_CR3, (uint64_t)w.tables[turn % TABLES]);
        if (turn & 2)
            vmx_set(EXCEPTION_BITMAP, turn);
        if (turn & 4)
            vmx_set(GUEST_FS_BASE, 0x1000 * turn);
        if (turn & 8) {
            vm_clear(&w.vm);
            vm_load(&w.vm);
        }
        CHECK_EQ(vmx_get(GUEST_CR3), w.tables[turn % TABLES]);
        EXPECT_EXIT_SKIP(&w.vm, EXIT_CPUID);
        CHECK_EQ(l2_cr3, w.tables[turn % TABLES]);
        check_turn(&w, !(turn % TABLES));
    }
}

/* Too wide for the CPU: the entry fails, changes nothing, and L1 may try again. */
static void refused(void)
{
    struct world w;
    uint64_t rip;

    start(&w);
    for (unsigned turn = 0; turn < TURNS; turn++) {
        rip = vmx_get(GUEST_RIP);
        vmx_set(GUEST_CR3, (uint64_t)w.tables[1] | TOO_WIDE);
        if (turn % 2)
            vmx_set(EXCEPTION_BITMAP, turn);
        CHECK_EQ(vm_run(&w.vm), EXIT_INVALID_GUEST_STATE);
        CHECK_EQ(vmx_get(GUEST_CR3), (uint64_t)w.tables[1] | TOO_WIDE);
        CHECK_EQ(vmx_get(GUEST_RIP), rip);
        check_turn(&w, 1);
        check_turn(&w, 0);
    }
}

/* MSRs are loaded behind the checks: the list fails only when CR3 is good. SDM 3C 27.4 "Loading MSRs" */
static void refused_before_list(void)
{
    struct {
        uint32_t index, reserved;
        uint64_t value;
    } * list;
    struct world w;

    start(&w);
    list = page_alloc();
    list[0].index = IA32_LSTAR;
    list[0].value = 0x1234;
    list[1].index = IA32_FS_BASE; /* must not be in one */
    vmx_set(ENTRY_MSR_LOAD_ADDR, (uint64_t)list);
    for (unsigned turn = 0; turn < TURNS; turn++) {
        cpu_wrmsr(IA32_LSTAR, 0);
        vmx_set(ENTRY_MSR_LOAD_COUNT, 1);
        check_turn(&w, turn % TABLES);
        CHECK_EQ(cpu_rdmsr(IA32_LSTAR), 0x1234);
        cpu_wrmsr(IA32_LSTAR, 0);
        vmx_set(GUEST_CR3, (uint64_t)w.tables[1] | TOO_WIDE);
        CHECK_EQ(vm_run(&w.vm), EXIT_INVALID_GUEST_STATE);
        CHECK_EQ(cpu_rdmsr(IA32_LSTAR), 0);
        vmx_set(ENTRY_MSR_LOAD_COUNT, 2);
        CHECK_EQ(vm_run(&w.vm), EXIT_INVALID_GUEST_STATE);
        vmx_set(GUEST_CR3, (uint64_t)w.tables[1]);
        CHECK_EQ(vm_run(&w.vm), EXIT_MSR_LOAD_FAIL);
        CHECK_EQ(w.vm.exit.qualification, 2);
    }
}

const struct scenario guest_cr3_scenarios[] = {
    {"guest-cr3-in-turn", in_turn, NULL},
    {"guest-cr3-with-other-writes", with_other_writes, NULL},
    {"guest-cr3-refused", refused, NULL},
    {"guest-cr3-refused-before-list", refused_before_list, NULL},
    {NULL, NULL, NULL},
};
