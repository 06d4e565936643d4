/* VMCLEAR and VMPTRLD of a VMCS that is used again soon, as some hypervisors have at each switch: of what Nestor made
 * of it before, all holds that L1 has not changed since, and nothing else. */
#include "guests/lib/irq.h"
#include "guests/lib/msr_bits.h"
#include "guests/lib/page.h"
#include "guests/scenarios/steady.h"

static void clear_and_load(struct vm *vm)
{
    vm_clear(vm);
    vm_load(vm);
}

static void start_steady(struct vm *vm)
{
    vm_start(vm, l2_cpuids, 0);
    become_steady(vm);
}

/* A field of each width and kind: controls, guest state, host state. */
static const enum vmcs_field kinds[] = {GUEST_ES_SELECTOR,   TSC_OFFSET,       EXCEPTION_BITMAP, CR0_READ_SHADOW,
                                        GUEST_SYSENTER_CS,   GUEST_FS_BASE,    GUEST_FS_LIMIT,   HOST_SYSENTER_CS,
                                        GUEST_PENDING_DEBUG, HOST_SYSENTER_EIP};

/* L1 writes them before the VMCLEAR or behind the VMPTRLD, and L2 runs in between or not. */
static void fields_kept(void)
{
    struct vm vm;

    start_steady(&vm);
    for (unsigned round = 0; round < 12; round++)
        for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
            uint64_t value = kinds[i] == GUEST_PENDING_DEBUG ? 0 : 8 * (16 * round + i);
            if (kinds[i] == GUEST_FS_LIMIT)
                value = 0xfff;
            if (round & 1)
                clear_and_load(&vm);
            vmx_set(kinds[i], value);
            if (round & 2)
                clear_and_load(&vm);
            if (round & 4)
                EXPECT_EXIT_SKIP(&vm, EXIT_CPUID);
            CHECK_EQ(vmx_get(kinds[i]), value);
            clear_and_load(&vm);
            CHECK_EQ(vmx_get(kinds[i]), value);
            vmx_set(EXCEPTION_BITMAP, 0);
            EXPECT_EXIT_SKIP(&vm, EXIT_CPUID);
        }
}

/* The launch state is the region's. SDM 3C 31.3 "VMX Instructions" */
static void launch_state(void)
{
    struct vm vm;

    start_steady(&vm);
    for (unsigned round = 0; round < 4; round++) {
        clear_and_load(&vm);
        vm.launched = true;
        CHECK_EQ(vm_enter(&vm), VMXERR_VMRESUME_NOT_LAUNCHED);
        vm.launched = false;
        EXPECT_EXIT_SKIP(&vm, EXIT_CPUID);
        vm.launched = false;
        CHECK_EQ(vm_enter(&vm), VMXERR_VMLAUNCH_NOT_CLEAR);
        vm.launched = true;
        EXPECT_EXIT_SKIP(&vm, EXIT_CPUID);
    }
}

/* Values that no entry has looked at are looked at then, wherever L1 wrote it. */
static void checks_due(void)
{
    const uint64_t bad = NONCANONICAL_ADDRESS;
    struct vm vm;

    start_steady(&vm);
    for (unsigned round = 0; round < 2; round++) {
        static const enum vmcs_field states[] = {GUEST_FS_BASE, GUEST_CR3, GUEST_RFLAGS};
        for (unsigned i = 0; i < ARRAY_SIZE(states); i++) {
            uint64_t was = vmx_get(states[i]);
            vmx_set(states[i], bad);
            clear_and_load(&vm);
            CHECK_EQ(vm_enter(&vm), 0);
            CHECK_EQ(vm.exit.reason, EXIT_REASON_ENTRY_FAILURE | EXIT_INVALID_GUEST_STATE);
            clear_and_load(&vm);
            CHECK_EQ(vmx_get(states[i]), bad);
            CHECK_EQ(vm_enter(&vm), 0);
            CHECK_EQ(vm.exit.reason, EXIT_REASON_ENTRY_FAILURE | EXIT_INVALID_GUEST_STATE);
            vmx_set(states[i], was);
            EXPECT_EXIT_SKIP(&vm, EXIT_CPUID);
        }
        uint64_t host = vmx_get(HOST_FS_BASE), store = vmx_get(EXIT_MSR_STORE_ADDR);
        vmx_set(HOST_FS_BASE, bad);
        clear_and_load(&vm);
        CHECK_EQ(vm_enter(&vm), VMXERR_ENTRY_HOST_STATE);
        vmx_set(HOST_FS_BASE, host);
        vmx_set(EXIT_MSR_STORE_COUNT, 1);
        vmx_set(EXIT_MSR_STORE_ADDR, 8);
        clear_and_load(&vm);
        CHECK_EQ(vm_enter(&vm), VMXERR_ENTRY_CONTROLS);
        clear_and_load(&vm);
        CHECK_EQ(vm_enter(&vm), VMXERR_ENTRY_CONTROLS);
        vmx_set(EXIT_MSR_STORE_COUNT, 0);
        vmx_set(EXIT_MSR_STORE_ADDR, store);
        EXPECT_EXIT_SKIP(&vm, EXIT_CPUID);
    }
}

static void copy_region(uint64_t to, uint64_t from)
{
    for (unsigned i = 0; i < PAGE_SIZE / 8; i++)
        ((volatile uint64_t *)to)[i] = ((const volatile uint64_t *)from)[i];
}

static volatile uint64_t l2_value;

static void l2_tell_one(void)
{
    for (;;) {
        l2_value = 1;
        (void)cpu_cpuid(0, 0);
    }
}

static void l2_tell_two(void)
{
    for (;;) {
        l2_value = 2;
        (void)cpu_cpuid(0, 0);
    }
}

/* The region in L1's memory is the VMCS: what is in it at the VMPTRLD counts, and not what was there at the VMCLEAR. L1
 * that keeps an image of a VMCS, to go back to it or to have it elsewhere, copies the page. */
static void region_changed(void)
{
    uint64_t spare = (uint64_t)page_alloc();
    struct vm one, two;

    vm_start(&one, l2_tell_one, 0);
    vm_create(&two, l2_tell_two, 0);
    vmx_set(GUEST_SYSENTER_CS, 0x22);
    for (unsigned round = 0; round < 4; round++) {
        uint64_t first = round & 1 ? 2 : 1;
        EXPECT_EXIT_SKIP(&one, EXIT_CPUID);
        CHECK_EQ(l2_value, first);
        CHECK_EQ(vmx_get(GUEST_SYSENTER_CS), first == 2 ? 0x22 : 0);
        EXPECT_EXIT_SKIP(&two, EXIT_CPUID);
        CHECK_EQ(l2_value, 3 - first);
        vm_clear(&one);
        vm_clear(&two);
        copy_region(spare, one.vmcs);
        copy_region(one.vmcs, two.vmcs);
        copy_region(two.vmcs, spare);
        uint64_t *ept = one.ept;
        one.ept = two.ept;
        two.ept = ept;
    }
}

static void l2_read_msr(void)
{
    for (;;)
        l2_value = cpu_rdmsr(IA32_LSTAR);
}

/* Pages that a VMCS names are as they are when L2 is entered, and not as they were. */
static void pages_changed(void)
{
    struct vm vm;
    uint8_t *other = page_alloc();

    vm_start(&vm, l2_read_msr, 0);
    for (unsigned round = 0; round < 4; round++) {
        msr_bit_set(vm.msr_bitmap, IA32_LSTAR, MSR_READ);
        clear_and_load(&vm);
        EXPECT_EXIT_SKIP(&vm, EXIT_RDMSR);
        vm_clear(&vm);
        msr_bit_clear(vm.msr_bitmap, IA32_LSTAR, MSR_READ);
        msr_bit_set(other, IA32_LSTAR, MSR_READ);
        vm_load(&vm);
        vmx_set(MSR_BITMAP, (uint64_t)other);
        clear_and_load(&vm);
        EXPECT_EXIT_SKIP(&vm, EXIT_RDMSR);
        vmx_set(MSR_BITMAP, (uint64_t)vm.msr_bitmap);
    }
}

static void l2_open(void)
{
    asm volatile("sti; nop");
    for (;;)
        (void)cpu_cpuid(0, 0);
}

/* An event that L1 asked for comes at the entry behind the VMPTRLD, once. */
static void event_kept(void)
{
    struct vm vm;

    vm_start(&vm, l2_open, 0);
    become_steady(&vm);
    trap_count[IRQ_VECTOR_SELF] = 0;
    for (unsigned round = 1; round <= 4; round++) {
        vmx_set(ENTRY_INTERRUPTION_INFO, INTR_VALID | PUT(INTR_TYPE_EXTERNAL, INTR_TYPE) | IRQ_VECTOR_SELF);
        clear_and_load(&vm);
        if (round & 1)
            clear_and_load(&vm);
        EXPECT_EXIT_SKIP(&vm, EXIT_CPUID);
        CHECK_EQ(trap_count[IRQ_VECTOR_SELF], round);
        clear_and_load(&vm);
        CHECK_EQ(vmx_get(ENTRY_INTERRUPTION_INFO) & INTR_VALID, 0);
        EXPECT_EXIT_SKIP(&vm, EXIT_CPUID);
        CHECK_EQ(trap_count[IRQ_VECTOR_SELF], round);
    }
}

/* A timer that no exit saves, and a virtual-APIC page: what a VMCS asks for beside its fields. */
static void controls_kept(void)
{
    const uint64_t timer = 1000000;
    uint8_t *page = page_alloc();
    struct vm vm;

    start_steady(&vm);
    vm_control_set(PIN_CONTROLS, (uint32_t)PIN_PREEMPTION_TIMER);
    vm_control_set(PROC_CONTROLS, (uint32_t)PROC_TPR_SHADOW);
    vmx_set(VIRTUAL_APIC_ADDR, (uint64_t)page);
    vmx_set(PREEMPTION_TIMER, timer);
    for (unsigned round = 0; round < 4; round++) {
        become_steady(&vm);
        clear_and_load(&vm);
        CHECK_EQ(vmx_get(PREEMPTION_TIMER), timer);
        EXPECT_EXIT_SKIP(&vm, EXIT_CPUID);
        CHECK_EQ(vmx_get(PREEMPTION_TIMER), timer);
    }
    vmx_set(PREEMPTION_TIMER, 0);
    clear_and_load(&vm);
    EXPECT_EXIT(&vm, EXIT_PREEMPTION_TIMER);
}

static const char *without_timer(void)
{
    return vm_control_offered(PIN_CONTROLS, (uint32_t)PIN_PREEMPTION_TIMER) ? NULL : "no preemption timer";
}

/* More of them than Nestor keeps anything of, and than it holds; each with a value of its own. */
static void many(void)
{
    static struct vm vms[80];

    vmx_start();
    for (unsigned i = 0; i < ARRAY_SIZE(vms); i++) {
        vm_create(&vms[i], l2_cpuids, VM_NO_EPT);
        vmx_set(CR0_READ_SHADOW, 0x1000 + i);
        vmx_set(GUEST_SYSENTER_EIP, 0x2000 + i);
        vm_clear(&vms[i]);
    }
    for (unsigned width = 1; width <= ARRAY_SIZE(vms); width = width < 16 ? 2 * width + 1 : width + 49)
        for (unsigned round = 0; round < 2; round++)
            for (unsigned i = 0; i < width; i++) {
                vm_load(&vms[i]);
                CHECK_EQ(vmx_get(CR0_READ_SHADOW), 0x1000 + i);
                EXPECT_EXIT_SKIP(&vms[i], EXIT_CPUID);
                CHECK_EQ(vmx_get(GUEST_SYSENTER_EIP), 0x2000 + i); /* as L2 had it */
                if (i % 4 != round)
                    vm_clear(&vms[i]);
            }
}

const struct scenario cleared_scenarios[] = {
    {"cleared-fields-kept", fields_kept, NULL},
    {"cleared-launch-state", launch_state, NULL},
    {"cleared-checks-due", checks_due, NULL},
    {"cleared-region-changed", region_changed, NULL},
    {"cleared-pages-changed", pages_changed, NULL},
    {"cleared-event-kept", event_kept, NULL},
    {"cleared-controls-kept", controls_kept, without_timer},
    {"cleared-many", many, NULL},
    {0},
};
