/* L2's view when L1 changed L2's own page tables and executed INVEPT, with VPID in use: on one processor, and with
 * the vmcs12 on another one each time, as a hypervisor moves a virtual processor. The emulator forgets everything at
 * each entry; the ledger of the CHECKED build does not, nor does a CPU with tags. */
#include "guests/lib/check.h"
#include "guests/lib/cpu.h"
#include "guests/lib/msr_bits.h"
#include "guests/lib/page.h"
#include "guests/lib/paging.h"
#include "guests/lib/vm.h"
#include "guests/smp/second.h"
#include "guests/smp/smp.h"

#define MSR IA32_LSTAR
#define WINDOW GIB /* L2's linear address, whose entry changes */
#define PAGES 4u
#define VMS 2u
#define VPID_SETS 64u /* VPIDs of L1's so far apart share one of the CPU's: docs/adr/0009-vpid-by-sets.md */

/* The second VM has the VPID that shares the first one's place, and stays on each processor. */
static struct vm vms[VMS];
static uint64_t *entry, *page[PAGES];
static uint64_t turn;
static volatile uint64_t seen;
static volatile unsigned wrong;

static void l2_code(void)
{
    for (;;) {
        seen = *(volatile uint64_t *)WINDOW;
        (void)cpu_rdmsr(MSR);
        asm volatile("vmcall" : : "a"(0) : "memory");
    }
}

static bool without_vpid(void)
{
    return !vm_control_offered(PROC2_CONTROLS, (uint32_t)(PROC2_EPT | PROC2_VPID));
}

static void create(void)
{
    uint64_t *tables = paging_alloc_identity();

    entry = paging_entry(tables, WINDOW, PAGE_SIZE);
    for (unsigned i = 0; i < PAGES; i++) {
        page[i] = page_alloc();
        *page[i] = i;
    }
    for (unsigned i = 0; i < VMS; i++) {
        vm_create(&vms[i], l2_code, VM_EPT);
        vmx_set(GUEST_CR3, (uint64_t)tables);
        vm_secondary_set((uint32_t)PROC2_VPID);
        vmx_set(VPID, 7 + i * VPID_SETS);
        if (smp_no_bitmap)
            vm_control_clear(PROC_CONTROLS, (uint32_t)PROC_USE_MSR_BITMAPS);
        vm_clear(&vms[i]);
    }
    turn = 0;
    wrong = 0;
}

static void change(void)
{
    turn++;
    *(volatile uint64_t *)entry = (uint64_t)page[turn % PAGES] | PTE_P | PTE_W | PTE_U;
    (turn % 3 ? msr_bit_set : msr_bit_clear)(vms[0].msr_bitmap, MSR, MSR_READ);
}

static void invept(uint64_t type)
{
    const struct inv_descriptor descriptor = {.low = type == INVEPT_SINGLE ? vmx_get(EPT_POINTER) : 0};

    REQUIRE_EQ(vmx_invept(type, &descriptor), 0);
}

/* One turn of L2, which must see this turn's page and bit. */
static void run(struct vm *vm, bool intercepted)
{
    bool exited = vm_run(vm) == EXIT_RDMSR;

    if (exited) {
        vm_skip(vm);
        (void)vm_run(vm);
    }
    wrong += exited != (intercepted || smp_no_bitmap) || vm->exit.reason != EXIT_VMCALL || seen != turn % PAGES;
    vm_skip(vm);
}

/* L1 stores before its INVEPT. */
void test_l2s_tables(void)
{
    if (without_vpid())
        return;
    vmx_start();
    create();
    vm_load(&vms[0]);
    for (uint64_t i = 0; i < smp_flushes; i++) {
        change();
        invept(i % 2 ? INVEPT_SINGLE : INVEPT_ALL);
        run(&vms[0], turn % 3 != 0);
    }
    CHECK_EQ(wrong, 0);
    vmx_stop();
}

/* VMPTRLD, INVEPT of all, two turns, and VMCLEAR; the tables change on the way and before it leaves. */
static void stay(void)
{
    vm_load(&vms[0]);
    change();
    invept(INVEPT_ALL);
    run(&vms[0], turn % 3 != 0);
    change();
    invept(turn % 2 ? INVEPT_SINGLE : INVEPT_ALL);
    run(&vms[0], turn % 3 != 0);
    vm_clear(&vms[0]);
    change();
}

static void vmx_on(void)
{
    second_vmx_on();
}

static void vmx_off(void)
{
    second_vmx_off();
}

static void second_does(void (*job)(void))
{
    second_do(job);
    REQUIRE(second_finishes());
}

void test_moved(void)
{
    if (without_vpid())
        return;
    vmx_start();
    create();
    second_does(vmx_on);
    for (uint64_t i = 0; i < smp_flushes; i++) {
        stay();
        second_does(stay);
    }
    second_does(vmx_off);
    CHECK_EQ(wrong, 0);
    print("# %lu turns of L2 on two processors\n", turn);
    vmx_stop();
}

/* Two VPIDs take turns where the CPU has one for them: INVVPID of one, of any type, may not be lost to the other. */
void test_vpids(void)
{
    if (without_vpid())
        return;
    vmx_start();
    create();
    for (uint64_t i = 0; i < smp_flushes; i++) {
        const struct inv_descriptor descriptor = {.low = 7 + i % VMS * VPID_SETS, .high = WINDOW};
        uint64_t type = i / VMS % 4;
        vm_load(&vms[i % VMS]);
        change();
        REQUIRE(vmx_ept_vpid_cap() & VPID_CAP_ADDRESS << type);
        REQUIRE_EQ(vmx_invvpid(type, &descriptor), 0);
        run(&vms[i % VMS], i % VMS == 0 && turn % 3 != 0);
    }
    CHECK_EQ(wrong, 0);
    vmx_stop();
}
