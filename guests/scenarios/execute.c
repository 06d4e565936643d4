/* Mode-based execute control for EPT: one right to execute for user-mode addresses, one for the supervisor's. */
#include "guests/lib/cpu.h"
#include "guests/lib/msr_bits.h"
#include "guests/lib/page.h"
#include "guests/lib/paging.h"
#include "guests/scenarios/scenario.h"

#define WINDOW GIB
#define CODE_RET 0xc3
/* Bochs leaves bit 6 out where the access was no fetch. */
#define RIGHTS_OF_DATA BITS(5, 3)

struct executing {
    struct vm vm;
    uint64_t *entry, *page; /* of EPT, at WINDOW */
    uint64_t *linear;       /* L2's own entry for WINDOW */
};

static volatile uint64_t l2_value;

static void l2_call(void)
{
    ((void (*)(void))WINDOW)();
}

static void l2_read(void)
{
    l2_value = *(volatile uint64_t *)WINDOW;
}

static void invept(void)
{
    struct inv_descriptor descriptor = {.low = vmx_get(EPT_POINTER)};

    REQUIRE_EQ(vmx_invept(INVEPT_SINGLE, &descriptor), 0);
}

static void start(struct executing *e)
{
    uint64_t *tables;

    vmx_start();
    vm_create(&e->vm, l2_call, VM_EPT);
    vm_secondary_set((uint32_t)PROC2_MODE_BASED_EXECUTE);
    e->page = page_alloc();
    *(volatile uint8_t *)e->page = CODE_RET;
    e->entry = paging_entry(e->vm.ept, WINDOW, PAGE_SIZE);
    ept_open_to_users(e->vm.ept);
    tables = paging_alloc_identity();
    e->linear = paging_entry(tables, WINDOW, PAGE_SIZE);
    vmx_set(GUEST_CR3, (uint64_t)tables);
}

static void map(struct executing *e, uint64_t rights, bool user)
{
    *e->entry = (uint64_t)e->page | rights | EPT_WB;
    *e->linear = WINDOW | PTE_P | PTE_W | (user ? PTE_U : 0);
    invept();
}

static uint64_t rights_of(uint64_t entry)
{
    return (entry & EPT_RWX) * EPT_QUAL_ALLOWED_READ | (entry & EPT_XU ? EPT_QUAL_ALLOWED_USER_EXEC : 0);
}

static void check_fetch_refused(struct executing *e, bool user, uint64_t rights)
{
    uint64_t own = vmx_ept_advanced() & (user ? ~0ull : ~EPT_QUAL_USER_PAGE);

    EXPECT_EXIT(&e->vm, EXIT_EPT_VIOLATION);
    CHECK_EQ(e->vm.exit.gpa, WINDOW);
    CHECK_EQ(e->vm.exit.qualification,
             EPT_QUAL_FETCH | rights_of(rights) | EPT_QUAL_GLA_VALID | EPT_QUAL_NOT_WALK | own);
}

/* All rights, in the leaf and above it; what is added needs no INVEPT. SDM 3C 29.3.3.2 "EPT Violations" */
static void by_mode(void)
{
    struct executing e;

    start(&e);
    for (unsigned i = 0; i < 8; i++) {
        uint64_t x = i & 1 ? EPT_X : 0, xu = i & 2 ? EPT_XU : 0;
        bool user = i & 4;
        map(&e, EPT_R | EPT_W | x | xu, user);
        vm_set_code(&e.vm, l2_call);
        if (!(user ? xu : x)) {
            check_fetch_refused(&e, user, *e.entry);
            *e.entry |= user ? EPT_XU : EPT_X;
        }
        EXPECT_DONE(&e.vm);
    }
}

static void by_tables(void)
{
    struct executing e;
    uint64_t *table;

    start(&e);
    table = paging_entry(e.vm.ept, WINDOW, LARGE_2M);
    for (unsigned user = 0; user < 2; user++) {
        uint64_t taken = user ? EPT_XU : EPT_X;
        *table &= ~taken;
        map(&e, EPT_RWX | EPT_XU, user);
        vm_set_code(&e.vm, l2_call);
        check_fetch_refused(&e, user, (EPT_RWX | EPT_XU) & ~taken);
        *table |= taken;
        EXPECT_DONE(&e.vm);
    }
}

/* A page that can be executed and nothing else, by one of the two. */
static void alone(void)
{
    struct executing e;

    start(&e);
    for (unsigned user = 0; user < 2; user++) {
        uint64_t right = user ? EPT_XU : EPT_X;
        map(&e, right, user);
        vm_set_code(&e.vm, l2_call);
        EXPECT_DONE(&e.vm);
        *e.linear ^= PTE_U;
        invept();
        vm_set_code(&e.vm, l2_call);
        check_fetch_refused(&e, !user, right);
        vm_set_code(&e.vm, l2_read);
        EXPECT_EXIT(&e.vm, EXIT_EPT_VIOLATION);
        CHECK_EQ(e.vm.exit.qualification & (EPT_QUAL_READ | EPT_QUAL_WRITE | EPT_QUAL_FETCH), EPT_QUAL_READ);
        CHECK_EQ(e.vm.exit.qualification & RIGHTS_OF_DATA, rights_of(right) & RIGHTS_OF_DATA);
    }
}

/* The same tables, with the control and without. */
static void control_off_and_on(void)
{
    struct executing e;

    start(&e);
    for (unsigned i = 0; i < 4; i++) {
        map(&e, EPT_XU | (i & 2 ? EPT_R : 0), true);
        vm_control_clear(PROC2_CONTROLS, (uint32_t)PROC2_MODE_BASED_EXECUTE);
        invept();
        vm_set_code(&e.vm, l2_call);
        EXPECT_EXIT(&e.vm, EXIT_EPT_VIOLATION);
        CHECK_EQ(e.vm.exit.qualification & RIGHTS_OF_DATA, i & 2 ? EPT_QUAL_ALLOWED_READ : 0);
        vm_secondary_set((uint32_t)PROC2_MODE_BASED_EXECUTE);
        invept();
        EXPECT_DONE(&e.vm);
    }
}

static void misconfigured(void)
{
    struct executing e;

    start(&e);
    map(&e, EPT_W | EPT_XU, true);
    EXPECT_EXIT(&e.vm, EXIT_EPT_MISCONFIG);
    CHECK_EQ(e.vm.exit.gpa, WINDOW);
    map(&e, EPT_R | EPT_W | EPT_XU, true);
    EXPECT_DONE(&e.vm);
}

/* The code of L2 lies in L1's MSR bitmap: bits of SYSENTER_EIP's byte are the code of RET. */
static void l2_store_and_run(void)
{
    volatile uint8_t *code = (volatile uint8_t *)WINDOW + IA32_SYSENTER_EIP / 8;

    *code = CODE_RET;
    ((void (*)(void))(uint64_t)code)();
    asm volatile("rdmsr" : : "c"(IA32_SYSENTER_EIP) : "rax", "rdx", "memory");
}

static void in_a_bitmap(void)
{
    struct executing e;

    start(&e);
    for (unsigned user = 0; user < 2; user++) {
        map(&e, EPT_R | EPT_W | (user ? EPT_XU : EPT_X), user);
        *e.entry = (uint64_t)e.vm.msr_bitmap | (*e.entry & ~PAGING_ADDRESS);
        e.vm.msr_bitmap[IA32_SYSENTER_EIP / 8] = 0;
        invept();
        vm_set_code(&e.vm, l2_store_and_run);
        EXPECT_EXIT_SKIP(&e.vm, EXIT_RDMSR);
        EXPECT_DONE(&e.vm);
        CHECK_EQ(e.vm.msr_bitmap[IA32_SYSENTER_EIP / 8], CODE_RET);
        *e.linear ^= PTE_U;
        invept();
        vm_set_code(&e.vm, l2_call);
        check_fetch_refused(&e, !user, *e.entry);
    }
}

static void control_check(void)
{
    struct executing e;

    start(&e);
    map(&e, EPT_RWX | EPT_XU, true);
    vm_control_clear(PROC2_CONTROLS, (uint32_t)PROC2_EPT);
    CHECK_EQ(vm_enter(&e.vm), VMXERR_ENTRY_CONTROLS);
    vm_secondary_set((uint32_t)PROC2_EPT);
    EXPECT_DONE(&e.vm);
}

static const char *without_mode_based(void)
{
    return vm_control_offered(PROC2_CONTROLS, (uint32_t)PROC2_MODE_BASED_EXECUTE) ? NULL
                                                                                  : "no mode-based execute control";
}

const struct scenario execute_scenarios[] = {
    {"execute-by-mode", by_mode, without_mode_based},
    {"execute-by-tables", by_tables, without_mode_based},
    {"execute-alone", alone, without_mode_based},
    {"execute-control-off-and-on", control_off_and_on, without_mode_based},
    {"execute-misconfigured", misconfigured, without_mode_based},
    {"execute-in-a-bitmap", in_a_bitmap, without_mode_based},
    {"execute-control-check", control_check, without_mode_based},
    {0},
};
