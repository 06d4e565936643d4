/* Faults of Nestor that the comparison of random operations with the bare CPU (docs/DIFF.md) found, one scenario
 * each. */
#include "guests/lib/cpu.h"
#include "guests/lib/irq.h"
#include "guests/lib/page.h"
#include "guests/lib/trap.h"
#include "guests/scenarios/scenario.h"

#define FAILED_LIST_VALUE 0x40000000
#define REASON_LOAD_FAILED (uint32_t)(EXIT_REASON_ENTRY_FAILURE | EXIT_MSR_LOAD_FAIL)

static void l2_nothing(void)
{
}

static void end_nmi_blocking(void)
{
    asm volatile("mov %%rsp, %%rdx; mov %%ss, %%eax; push %%rax; push %%rdx; pushfq; mov %%cs, %%eax; push %%rax;"
                 "lea 1f(%%rip), %%rax; push %%rax; iretq; 1:"
                 :
                 :
                 : "rax", "rdx", "memory");
}

/* Without virtual NMIs, that L2 ran with NMIs blocked is the processor's own state, and L1 goes on with it. */
static void nmi_blocking_outlives_exit(void)
{
    struct vm vm;
    unsigned before;

    vm_start(&vm, l2_nothing, 0);
    vmx_set(GUEST_INTERRUPTIBILITY, BLOCKING_BY_NMI);
    EXPECT_DONE(&vm);
    CHECK_EQ(vmx_get(GUEST_INTERRUPTIBILITY), BLOCKING_BY_NMI);
    before = trap_count[VECTOR_NMI];
    irq_self_nmi();
    irq_window();
    CHECK_EQ(trap_count[VECTOR_NMI], before);
    end_nmi_blocking();
    irq_window();
    CHECK_EQ(trap_count[VECTOR_NMI], before + 1);
    end_nmi_blocking();
}

/* An MSR that a list loaded before the entry failed is not L2's afterwards. */
static void failed_list_leaves_nothing(void)
{
    uint64_t *list;
    struct vm vm;

    vm_start(&vm, l2_nothing, 0);
    EXPECT_DONE(&vm);
    list = page_alloc();
    list[0] = IA32_SYSENTER_CS;
    list[1] = FAILED_LIST_VALUE;
    list[2] = IA32_FS_BASE; /* never allowed */
    vmx_set(ENTRY_MSR_LOAD_ADDR, (uint64_t)list);
    vmx_set(ENTRY_MSR_LOAD_COUNT, 2);
    vm_set_code(&vm, l2_nothing);
    CHECK_EQ(vm_enter(&vm), 0);
    CHECK_EQ(vm.exit.reason, REASON_LOAD_FAILED);
    CHECK_EQ(vm.exit.qualification, 2);
    vmx_set(ENTRY_MSR_LOAD_COUNT, 0);
    EXPECT_DONE(&vm);
    CHECK_EQ(vmx_get(GUEST_SYSENTER_CS), 0);
}

const struct scenario found_scenarios[] = {
    {"found-nmi-blocking-outlives-exit", nmi_blocking_outlives_exit, NULL},
    {"found-failed-list-leaves-nothing", failed_list_leaves_nothing, NULL},
    {0},
};
