/* The three MSR areas of a VMCS: loaded at the entry, stored and loaded at the exit. */
#include "guests/lib/counters.h"
#include "guests/lib/cpu.h"
#include "guests/lib/page.h"
#include "guests/scenarios/scenario.h"

struct msr_entry {
    uint32_t index, reserved;
    uint64_t value;
};
_Static_assert(sizeof(struct msr_entry) == 16, "SDM 3C 25.7.2 \"VM-Exit Controls for MSRs\"");

#define REASON_LOAD_FAILED (uint32_t)(EXIT_REASON_ENTRY_FAILURE | EXIT_MSR_LOAD_FAIL)
#define GUEST_VALUE 0x1111222233334444
#define HOST_VALUE 0x5555666677778888

static struct msr_entry *entry_load, *exit_store, *exit_load;
static volatile uint64_t l2_star, l2_gs;

static void l2_read(void)
{
    l2_star = cpu_rdmsr(IA32_STAR);
    l2_gs = cpu_rdmsr(IA32_KERNEL_GS_BASE);
}

static void l2_write(void)
{
    cpu_wrmsr(IA32_STAR, 0xabcdef);
    cpu_wrmsr(IA32_KERNEL_GS_BASE, 0x123000);
}

static void create(struct vm *vm, void (*code)(void))
{
    vm_start(vm, code, 0);
    entry_load = page_alloc();
    exit_store = page_alloc();
    exit_load = page_alloc();
    vmx_set(ENTRY_MSR_LOAD_ADDR, (uint64_t)entry_load);
    vmx_set(EXIT_MSR_STORE_ADDR, (uint64_t)exit_store);
    vmx_set(EXIT_MSR_LOAD_ADDR, (uint64_t)exit_load);
    cpu_wrmsr(IA32_STAR, 0);
    cpu_wrmsr(IA32_KERNEL_GS_BASE, 0);
}

static void loaded_at_entry(void)
{
    struct vm vm;

    create(&vm, l2_read);
    entry_load[0] = (struct msr_entry){IA32_STAR, 0, GUEST_VALUE};
    entry_load[1] = (struct msr_entry){IA32_KERNEL_GS_BASE, 0, 0x7000};
    EXPECT_DONE(&vm);
    CHECK_EQ(l2_star, 0);
    vmx_set(ENTRY_MSR_LOAD_COUNT, 1);
    vm_set_code(&vm, l2_read);
    EXPECT_DONE(&vm);
    CHECK_EQ(l2_star, GUEST_VALUE);
    CHECK_EQ(l2_gs, 0);
    vmx_set(ENTRY_MSR_LOAD_COUNT, 2);
    vm_set_code(&vm, l2_read);
    EXPECT_DONE(&vm);
    CHECK_EQ(l2_gs, 0x7000);
    CHECK_EQ(cpu_rdmsr(IA32_STAR), GUEST_VALUE);
}

static void stored_and_loaded_at_exit(void)
{
    struct vm vm;

    create(&vm, l2_write);
    exit_store[0] = (struct msr_entry){IA32_STAR, 0, 1};
    exit_store[1] = (struct msr_entry){IA32_KERNEL_GS_BASE, 0, 2};
    exit_store[2] = (struct msr_entry){IA32_LSTAR, 0, 3};
    exit_load[0] = (struct msr_entry){IA32_STAR, 0, HOST_VALUE};
    vmx_set(EXIT_MSR_STORE_COUNT, 2);
    vmx_set(EXIT_MSR_LOAD_COUNT, 1);
    EXPECT_DONE(&vm);
    CHECK_EQ(exit_store[0].value, 0xabcdef);
    CHECK_EQ(exit_store[1].value, 0x123000);
    CHECK_EQ(exit_store[2].value, 3);
    CHECK_EQ(cpu_rdmsr(IA32_STAR), HOST_VALUE);
    CHECK_EQ(cpu_rdmsr(IA32_KERNEL_GS_BASE), 0x123000);
}

/* Entries are taken in order: the last of two for one MSR wins. */
static void in_order(void)
{
    struct vm vm;

    create(&vm, l2_read);
    for (unsigned i = 0; i < 16; i++)
        entry_load[i] = (struct msr_entry){IA32_STAR, 0, 0x100 + i};
    vmx_set(ENTRY_MSR_LOAD_COUNT, 16);
    EXPECT_DONE(&vm);
    CHECK_EQ(l2_star, 0x10f);
}

/* One area may serve two purposes, as hypervisors do: what an exit stores, the next entry loads. */
static void shared_area(void)
{
    struct vm vm;

    create(&vm, l2_write);
    vmx_set(ENTRY_MSR_LOAD_ADDR, (uint64_t)exit_store);
    exit_store[0] = (struct msr_entry){IA32_STAR, 0, 0};
    exit_load[0] = (struct msr_entry){IA32_STAR, 0, HOST_VALUE};
    vmx_set(EXIT_MSR_STORE_COUNT, 1);
    vmx_set(ENTRY_MSR_LOAD_COUNT, 1);
    vmx_set(EXIT_MSR_LOAD_COUNT, 1);
    EXPECT_DONE(&vm);
    vm_set_code(&vm, l2_read);
    EXPECT_DONE(&vm);
    CHECK_EQ(l2_star, 0xabcdef);
    CHECK_EQ(cpu_rdmsr(IA32_STAR), HOST_VALUE);
}

static void check_load_fails(struct vm *vm, struct msr_entry bad, const char *file, int line)
{
    cpu_wrmsr(IA32_STAR, 0);
    entry_load[0] = (struct msr_entry){IA32_STAR, 0, GUEST_VALUE};
    entry_load[1] = bad;
    vmx_set(ENTRY_MSR_LOAD_COUNT, 2);
    if (!check_equal((uint64_t)vm_enter(vm), 0, "entry", file, line) ||
        !check_equal(vm->exit.reason, REASON_LOAD_FAILED, "exit reason", file, line) ||
        !check_equal(vm->exit.qualification, 2, "exit qualification", file, line))
        check_report("that was MSR 0x%x = 0x%lx", bad.index, bad.value);
    CHECK_EQ(cpu_rdmsr(IA32_STAR), GUEST_VALUE);
}
#define CHECK_LOAD_FAILS(vm, ...) check_load_fails(vm, (struct msr_entry){__VA_ARGS__}, __FILE__, __LINE__)

/* SDM 3C 27.4 "Loading MSRs": what may not be in the list; the exit names the entry, counted from 1. */
static void bad_entries(void)
{
    struct vm vm;

    create(&vm, l2_read);
    CHECK_LOAD_FAILS(&vm, IA32_FS_BASE, 0, 0);
    CHECK_LOAD_FAILS(&vm, IA32_GS_BASE, 0, 0);
    CHECK_LOAD_FAILS(&vm, IA32_LSTAR, 1, 0);
    CHECK_LOAD_FAILS(&vm, IA32_KERNEL_GS_BASE, 0, NONCANONICAL_ADDRESS);
    CHECK_LOAD_FAILS(&vm, IA32_PAT, 0, 0xff);
    if (counters_present()) /* bare: Bochs 3.1 ends when a read-only MSR is written */
        CHECK_LOAD_FAILS(&vm, IA32_VMX_BASIC, 0, 0);
    CHECK_LOAD_FAILS(&vm, IA32_FEATURE_CONTROL, 0, 0);
    CHECK_EQ(vm.launched, false);
    vmx_set(ENTRY_MSR_LOAD_COUNT, 1);
    EXPECT_DONE(&vm);
}

/* An MSR that a list loaded before the entry failed stays L1's where no control loads L1's own. */
static void failed_entry_keeps_what_was_loaded(void)
{
    struct vm vm;
    uint64_t pat = cpu_rdmsr(IA32_PAT);

    create(&vm, l2_read);
    entry_load[0] = (struct msr_entry){IA32_PAT, 0, 0x0606060606060606};
    entry_load[1] = (struct msr_entry){IA32_FS_BASE, 0, 0};
    vmx_set(ENTRY_MSR_LOAD_COUNT, 2);
    CHECK_EQ(vm_enter(&vm), 0);
    CHECK_EQ(vm.exit.reason, REASON_LOAD_FAILED);
    CHECK_EQ(cpu_rdmsr(IA32_PAT), 0x0606060606060606);
    cpu_wrmsr(IA32_PAT, pat);
}

/* A failed entry loads the host's list too. */
static void failed_entry_loads_host_list(void)
{
    struct vm vm;

    create(&vm, l2_read);
    exit_store[0] = (struct msr_entry){IA32_STAR, 0, 0x42};
    exit_load[0] = (struct msr_entry){IA32_STAR, 0, HOST_VALUE};
    vmx_set(EXIT_MSR_LOAD_COUNT, 1);
    vmx_set(EXIT_MSR_STORE_COUNT, 1);
    vmx_set(GUEST_RFLAGS, 0);
    CHECK_EQ(vm_enter(&vm), 0);
    CHECK_EQ(vm.exit.reason, EXIT_REASON_ENTRY_FAILURE | EXIT_INVALID_GUEST_STATE);
    CHECK_EQ(cpu_rdmsr(IA32_STAR), HOST_VALUE);
    CHECK_EQ(exit_store[0].value, 0x42);
    vmx_set(GUEST_RFLAGS, RFLAGS_FIXED1);
    cpu_wrmsr(IA32_STAR, 0);
    EXPECT_DONE(&vm);
    CHECK_EQ(l2_star, 0);
}

/* Guest state is judged before the list is looked at, down to the bits that not every CPU has. */
static void guest_state_comes_first(void)
{
    struct vm vm;

    create(&vm, l2_read);
    entry_load[0] = (struct msr_entry){IA32_FS_BASE, 0, 0};
    vmx_set(ENTRY_MSR_LOAD_COUNT, 1);
    vmx_set(GUEST_PENDING_DEBUG, PENDING_DEBUG_BUS_LOCK);
    CHECK_EQ(vm_enter(&vm), 0);
    CHECK_EQ(vm.exit.reason, EXIT_REASON_ENTRY_FAILURE | EXIT_INVALID_GUEST_STATE);
    vmx_set(GUEST_PENDING_DEBUG, 0);
    CHECK_EQ(vm_enter(&vm), 0);
    CHECK_EQ(vm.exit.reason, REASON_LOAD_FAILED);
}

static const char *with_bus_lock_detection(void)
{
    return cpu_cpuid(7, 0).ecx & BIT(24) ? "this CPU has bus-lock detection" : NULL;
}

const struct scenario msrarea_scenarios[] = {
    {"msrarea-loaded-at-entry", loaded_at_entry, NULL},
    {"msrarea-stored-and-loaded-at-exit", stored_and_loaded_at_exit, NULL},
    {"msrarea-in-order", in_order, NULL},
    {"msrarea-shared", shared_area, NULL},
    {"msrarea-bad-entries", bad_entries, NULL},
    {"msrarea-failed-entry-pat", failed_entry_keeps_what_was_loaded, NULL},
    {"msrarea-after-guest-state", guest_state_comes_first, with_bus_lock_detection},
    {"msrarea-failed-entry", failed_entry_loads_host_list, NULL},
    {0},
};
