/* Parts of L1's state that Nestor does not write at each exit, as long as L1 leaves them as an exit loads them: here it
 * does not. */
#include "guests/lib/desc.h"
#include "guests/lib/page.h"
#include "guests/lib/trap.h"
#include "guests/scenarios/steady.h"

static void start_steady(struct vm *vm)
{
    vmx_start();
    vm_create(vm, l2_cpuids, 0);
    become_steady(vm);
}

static const struct {
    uint32_t msr;
    enum vmcs_field host, guest;
} sysenter[] = {
    {IA32_SYSENTER_CS, HOST_SYSENTER_CS, GUEST_SYSENTER_CS},
    {IA32_SYSENTER_ESP, HOST_SYSENTER_ESP, GUEST_SYSENTER_ESP},
    {IA32_SYSENTER_EIP, HOST_SYSENTER_EIP, GUEST_SYSENTER_EIP},
};

static void check_sysenter(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(sysenter); i++)
        CHECK_EQ(cpu_rdmsr(sysenter[i].msr), vmx_get(sysenter[i].host));
}

/* L1 changes one of the MSRs, in the steady state and out of it. */
static void change_sysenter(struct vm *vm, unsigned which, unsigned round)
{
    vmx_set(sysenter[which].guest, 0x700 + round);
    become_steady(vm);
    check_sysenter();
    CHECK_EQ(vmx_get(sysenter[which].guest), 0x700 + round);
    cpu_wrmsr(sysenter[which].msr, 0x12340 + round);
    CHECK_EQ(cpu_rdmsr(sysenter[which].msr), 0x12340 + round);
    EXPECT_EXIT_SKIP(vm, EXIT_CPUID);
    check_sysenter();
    become_steady(vm);
    check_sysenter();
}

/* Each exit loads the three MSRs, whatever L1 did to them; first two VMCSs have the same for the host, and then not. */
static void loads_sysenter(void)
{
    struct vm vm[2];

    start_steady(&vm[0]);
    vm_create(&vm[1], l2_cpuids, 0);
    for (unsigned round = 0; round < 24; round++) {
        struct vm *next = &vm[round / ARRAY_SIZE(sysenter) & 1];
        unsigned which = round % ARRAY_SIZE(sysenter);
        vm_load(next);
        if (round >= 12)
            vmx_set(sysenter[which].host, 0x100 * round);
        change_sysenter(next, which, round);
    }
}

/* The exit's list comes behind the host-state area. SDM 3C 28.6 "Loading MSRs" */
static void list_loads_sysenter(void)
{
    struct {
        uint32_t index, reserved;
        uint64_t value;
    } * list;
    struct vm vm;

    start_steady(&vm);
    list = page_alloc();
    list[0].index = IA32_SYSENTER_ESP;
    list[0].value = 0x5550;
    for (unsigned round = 0; round < 2; round++) {
        vmx_set(EXIT_MSR_LOAD_ADDR, (uint64_t)list);
        vmx_set(EXIT_MSR_LOAD_COUNT, 1);
        EXPECT_EXIT_SKIP(&vm, EXIT_CPUID);
        CHECK_EQ(cpu_rdmsr(IA32_SYSENTER_ESP), 0x5550);
        vmx_set(EXIT_MSR_LOAD_COUNT, 0);
        EXPECT_EXIT_SKIP(&vm, EXIT_CPUID);
        check_sysenter();
        become_steady(&vm);
        check_sysenter();
    }
}

/* L1's writes, as if nobody looked at them. */
static void writes_sysenter(void)
{
    const uint64_t address = 0xffff800012345678;

    for (unsigned i = 0; i < ARRAY_SIZE(sysenter); i++) {
        bool is_address = sysenter[i].msr != IA32_SYSENTER_CS;
        cpu_wrmsr(sysenter[i].msr, address);
        CHECK_EQ(cpu_rdmsr(sysenter[i].msr), is_address ? address : (uint32_t)address);
        CHECK_EQ(FAULT_OF(cpu_wrmsr(sysenter[i].msr, NONCANONICAL_ADDRESS)), is_address ? VECTOR_GP : NO_FAULT);
        CHECK_EQ(cpu_rdmsr(sysenter[i].msr), is_address ? address : 0);
        cpu_wrmsr(sysenter[i].msr, 0);
    }
}

/* Blocking by STI at L1's VMRESUME is over at the exit. SDM 3C 28.5.5 "Updating Non-Register State" */
static void resume_after_sti(void)
{
    struct vm vm;

    start_steady(&vm);
    for (unsigned round = 0; round < 2; round++) {
        CHECK_EQ(vm_enter_after_sti(&vm), 0);
        CHECK_EQ(cpu_flags() & RFLAGS_IF, 0);
        CHECK_EQ(vm.exit.reason, EXIT_CPUID);
        vm_skip(&vm);
        become_steady(&vm);
    }
}

#define CODE64_AVL 0x00bf9b000000ffff /* "available for use by system software": an exit clears it */

/* L1's CS at its VMRESUME is not that of an exit. */
static void resume_with_other_cs(void)
{
    struct table_register old, new;
    uint64_t *table;
    struct vm vm;

    start_steady(&vm);
    asm volatile("sgdt %0" : "=m"(old));
    table = page_alloc();
    for (unsigned i = 0; i <= old.limit / sizeof(*table); i++)
        table[i] = ((const uint64_t *)old.base)[i];
    table[SEL_CODE64 / 8] = CODE64_AVL;
    new = (struct table_register){old.limit, (uint64_t)table};
    vmx_set(HOST_GDTR_BASE, new.base);
    for (unsigned round = 0; round < 2; round++) {
        asm volatile("lgdt %0; push %1; lea 1f(%%rip), %%rax; push %%rax; lretq; 1:"
                     :
                     : "m"(new), "i"(SEL_CODE64)
                     : "rax", "memory");
        become_steady(&vm);
    }
    vmx_set(HOST_GDTR_BASE, old.base);
    become_steady(&vm);
}

const struct scenario straight_host_scenarios[] = {
    {"straight-host-sysenter", loads_sysenter, NULL},
    {"straight-host-sysenter-by-list", list_loads_sysenter, NULL},
    {"straight-host-sysenter-written", writes_sysenter, NULL},
    {"straight-host-resume-after-sti", resume_after_sti, NULL},
    {"straight-host-resume-with-other-cs", resume_with_other_cs, NULL},
    {NULL, NULL, NULL},
};
