/* The TPR shadow, the APIC-access page and the preemption timer. */
#include "guests/lib/cpu.h"
#include "guests/lib/irq.h"
#include "guests/lib/page.h"
#include "guests/lib/paging.h"
#include "guests/scenarios/scenario.h"

#define VECTOR_TEST 0x50
#define APIC_READ 0u
#define APIC_WRITE 1u
#define APIC_TIMER_INITIAL 0x380

static volatile uint64_t l2_value;
static volatile uint32_t *apic_page;

static void l2_nothing(void)
{
}

static void l2_set_cr8(void)
{
    cpu_write_cr8(l2_value);
}

static void l2_get_cr8(void)
{
    l2_value = cpu_read_cr8();
}

/* CR8 of L2 is bits 7:4 of offset 0x80 of the virtual-APIC page. */
static void tpr_shadow(void)
{
    uint32_t *virtual_apic;
    struct vm vm;

    vm_start(&vm, l2_set_cr8, 0);
    virtual_apic = page_alloc();
    vmx_set(VIRTUAL_APIC_ADDR, (uint64_t)virtual_apic);
    vm_control_set(PROC_CONTROLS, (uint32_t)PROC_TPR_SHADOW);
    l2_value = 7;
    EXPECT_DONE(&vm);
    CHECK_EQ(virtual_apic[LAPIC_TPR / 4], 0x70);
    CHECK_EQ(cpu_read_cr8(), 0);
    virtual_apic[LAPIC_TPR / 4] = 0x30;
    vm_set_code(&vm, l2_get_cr8);
    EXPECT_DONE(&vm);
    CHECK_EQ(l2_value, 3);
}

static void tpr_threshold(void)
{
    uint32_t *virtual_apic;
    struct vm vm;

    vm_start(&vm, l2_set_cr8, 0);
    virtual_apic = page_alloc();
    virtual_apic[LAPIC_TPR / 4] = 0x90;
    vmx_set(VIRTUAL_APIC_ADDR, (uint64_t)virtual_apic);
    vm_control_set(PROC_CONTROLS, (uint32_t)PROC_TPR_SHADOW);
    vmx_set(TPR_THRESHOLD, 5);
    l2_value = 5;
    EXPECT_DONE(&vm);
    vm_set_code(&vm, l2_set_cr8);
    l2_value = 4;
    EXPECT_EXIT(&vm, EXIT_TPR_BELOW_THRESHOLD);
    CHECK_EQ(virtual_apic[LAPIC_TPR / 4], 0x40);
    vmx_set(TPR_THRESHOLD, 4);
    EXPECT_DONE(&vm);
}

static void l2_read_apic(void)
{
    l2_value = apic_page[LAPIC_ID / 4];
}

static void l2_write_apic(void)
{
    apic_page[APIC_TIMER_INITIAL / 4] = 1;
}

static void check_apic_access(const struct vm *vm, unsigned offset, unsigned type)
{
    CHECK_EQ(GET(vm->exit.qualification, APIC_QUAL_OFFSET), offset);
    CHECK_EQ(GET(vm->exit.qualification, APIC_QUAL_TYPE), type);
}

/* The page need not be an APIC's: whichever physical page L1 names exits when L2 touches it. */
static void apic_access(void)
{
    struct vm vm;

    vm_start(&vm, l2_read_apic, 0);
    apic_page = page_alloc();
    vm_secondary_set((uint32_t)PROC2_APIC_ACCESS);
    vmx_set(APIC_ACCESS_ADDR, (uint64_t)apic_page);
    EXPECT_EXIT(&vm, EXIT_APIC_ACCESS);
    check_apic_access(&vm, LAPIC_ID, APIC_READ);
    vm_set_code(&vm, l2_write_apic);
    EXPECT_EXIT(&vm, EXIT_APIC_ACCESS);
    check_apic_access(&vm, APIC_TIMER_INITIAL, APIC_WRITE);
    CHECK_EQ(apic_page[APIC_TIMER_INITIAL / 4], 0);
    vm_control_clear(PROC2_CONTROLS, (uint32_t)PROC2_APIC_ACCESS);
    EXPECT_DONE(&vm);
    CHECK_EQ(apic_page[APIC_TIMER_INITIAL / 4], 1);
}

static void l2_use_tpr(void)
{
    apic_page[LAPIC_TPR / 4] = 0x60;
    l2_value = apic_page[LAPIC_TPR / 4];
}

/* With the TPR shadow, the TPR of the APIC-access page is the virtual one and does not exit. */
static void apic_access_tpr(void)
{
    uint32_t *virtual_apic;
    struct vm vm;

    vm_start(&vm, l2_use_tpr, 0);
    apic_page = page_alloc();
    virtual_apic = page_alloc();
    vm_secondary_set((uint32_t)PROC2_APIC_ACCESS);
    vm_control_set(PROC_CONTROLS, (uint32_t)PROC_TPR_SHADOW);
    vmx_set(APIC_ACCESS_ADDR, (uint64_t)apic_page);
    vmx_set(VIRTUAL_APIC_ADDR, (uint64_t)virtual_apic);
    EXPECT_DONE(&vm);
    CHECK_EQ(l2_value, 0x60);
    CHECK_EQ(virtual_apic[LAPIC_TPR / 4], 0x60);
    CHECK_EQ(apic_page[LAPIC_TPR / 4], 0);
}

/* The entry may begin below the threshold: it exits at once, after the event. SDM 3C 27.7.7 "VM Exits Induced by the
 * TPR Threshold" */
static void tpr_threshold_after_event(void)
{
    uint64_t rsp, rip;
    struct vm vm;

    vm_start(&vm, l2_nothing, 0);
    vm_secondary_set((uint32_t)PROC2_APIC_ACCESS);
    vm_control_set(PROC_CONTROLS, (uint32_t)PROC_TPR_SHADOW);
    vmx_set(APIC_ACCESS_ADDR, (uint64_t)page_alloc());
    vmx_set(VIRTUAL_APIC_ADDR, (uint64_t)page_alloc()); /* VTPR is 0 */
    vmx_set(TPR_THRESHOLD, 1);
    vmx_set(GUEST_RFLAGS, RFLAGS_FIXED1 | RFLAGS_IF);
    vmx_set(ENTRY_INTERRUPTION_INFO, INTR_VALID | PUT(INTR_TYPE_EXTERNAL, INTR_TYPE) | VECTOR_TEST);
    trap_count[VECTOR_TEST] = 0;
    rsp = vmx_get(GUEST_RSP);
    rip = vmx_get(GUEST_RIP);
    EXPECT_EXIT(&vm, EXIT_TPR_BELOW_THRESHOLD);
    CHECK_EQ(vm.exit.idt_info & INTR_VALID, 0);
    CHECK(vmx_get(GUEST_RSP) < rsp);
    CHECK(vmx_get(GUEST_RIP) != rip);
    CHECK_EQ(trap_count[VECTOR_TEST], 0);
    vmx_set(TPR_THRESHOLD, 0);
    EXPECT_DONE(&vm);
    CHECK_EQ(trap_count[VECTOR_TEST], 1);
    CHECK_EQ(trap_rip, rip);
}

/* L1 writes it between exits, wrongly for once: the entry fails, and a right one is taken. */
static void tpr_threshold_between_exits(void)
{
    struct vm vm;

    vm_start(&vm, l2_nothing, 0);
    vm_control_set(PROC_CONTROLS, (uint32_t)PROC_TPR_SHADOW);
    uint32_t *virtual_apic = page_alloc();
    vmx_set(VIRTUAL_APIC_ADDR, (uint64_t)virtual_apic);
    virtual_apic[LAPIC_TPR / 4] = 0x40;
    vmx_set(TPR_THRESHOLD, 0);
    for (unsigned i = 0; i < 3; i++) {
        vm_set_code(&vm, l2_nothing);
        EXPECT_DONE(&vm);
        vmx_set(TPR_THRESHOLD, 0x10);
        CHECK_EQ((uint64_t)vm_enter(&vm), VMXERR_ENTRY_CONTROLS);
        vmx_set(TPR_THRESHOLD, 5); /* above VTPR */
        CHECK_EQ((uint64_t)vm_enter(&vm), VMXERR_ENTRY_CONTROLS);
        CHECK_EQ(vmx_get(TPR_THRESHOLD), 5);
        vmx_set(TPR_THRESHOLD, 4);
    }
    vm_set_code(&vm, l2_nothing);
    EXPECT_DONE(&vm);
    CHECK_EQ(vmx_get(TPR_THRESHOLD), 4);
}

static const char *without_apic_access(void)
{
    return vm_control_offered(PROC2_CONTROLS, (uint32_t)PROC2_APIC_ACCESS) ? NULL : "no APIC-access page";
}

static void l2_spin(void)
{
    for (volatile unsigned i = 0; i < 1000000; i++)
        ;
}

static void l2_cpuid_twice(void)
{
    (void)cpu_cpuid(0, 0);
    for (volatile unsigned i = 0; i < 100; i++)
        ;
    (void)cpu_cpuid(0, 0);
}

static void preemption_timer(void)
{
    uint64_t rip;
    struct vm vm;

    vm_start(&vm, l2_spin, 0);
    rip = vmx_get(GUEST_RIP);
    vm_control_set(PIN_CONTROLS, (uint32_t)PIN_PREEMPTION_TIMER);
    vmx_set(PREEMPTION_TIMER, 20000);
    EXPECT_EXIT(&vm, EXIT_PREEMPTION_TIMER);
    CHECK(vmx_get(GUEST_RIP) != rip);
    vm_control_clear(PIN_CONTROLS, (uint32_t)PIN_PREEMPTION_TIMER);
    vm_set_code(&vm, l2_cpuid_twice);
    EXPECT_EXIT(&vm, EXIT_CPUID);
}

/* Zero means before the first instruction. */
static void preemption_timer_zero(void)
{
    uint64_t rip;
    struct vm vm;

    vm_start(&vm, l2_spin, 0);
    rip = vmx_get(GUEST_RIP);
    vm_control_set(PIN_CONTROLS, (uint32_t)PIN_PREEMPTION_TIMER);
    vmx_set(PREEMPTION_TIMER, 0);
    EXPECT_EXIT(&vm, EXIT_PREEMPTION_TIMER);
    CHECK_EQ(vmx_get(GUEST_RIP), rip);
}

/* "Save VMX-preemption timer value": what is left goes to the VMCS, else the start value stays. */
static void preemption_timer_saved(void)
{
    const uint32_t start = 50000000;
    struct vm vm;

    vm_start(&vm, l2_cpuid_twice, 0);
    vm_control_set(PIN_CONTROLS, (uint32_t)PIN_PREEMPTION_TIMER);
    vmx_set(PREEMPTION_TIMER, start);
    EXPECT_EXIT_SKIP(&vm, EXIT_CPUID);
    CHECK_EQ(vmx_get(PREEMPTION_TIMER), start);
    vm_control_set(EXIT_CONTROLS, (uint32_t)EXITC_SAVE_TIMER);
    EXPECT_EXIT_SKIP(&vm, EXIT_CPUID);
    CHECK(vmx_get(PREEMPTION_TIMER) < start);
    CHECK(vmx_get(PREEMPTION_TIMER) > start / 2);
    vm_control_clear(EXIT_CONTROLS, (uint32_t)EXITC_SAVE_TIMER);
    vm_control_clear(PIN_CONTROLS, (uint32_t)PIN_PREEMPTION_TIMER);
    EXPECT_DONE(&vm);
}

/* The field is L1's from exit to exit: what it writes counts at the next entry, and nothing but a save changes it. */
static void preemption_timer_field(void)
{
    struct vm vm;

    vm_start(&vm, l2_cpuid_twice, 0);
    vm_control_set(PIN_CONTROLS, (uint32_t)PIN_PREEMPTION_TIMER);
    vmx_set(PREEMPTION_TIMER, 50000000);
    EXPECT_EXIT_SKIP(&vm, EXIT_CPUID);
    vmx_set(PREEMPTION_TIMER, 60000000);
    EXPECT_EXIT_SKIP(&vm, EXIT_CPUID);
    CHECK_EQ(vmx_get(PREEMPTION_TIMER), 60000000);
    vm_control_clear(PIN_CONTROLS, (uint32_t)PIN_PREEMPTION_TIMER);
    vmx_set(PREEMPTION_TIMER, 0);
    vm_set_code(&vm, l2_cpuid_twice);
    EXPECT_EXIT_SKIP(&vm, EXIT_CPUID);
    CHECK_EQ(vmx_get(PREEMPTION_TIMER), 0);
    vm_control_set(PIN_CONTROLS, (uint32_t)PIN_PREEMPTION_TIMER);
    EXPECT_EXIT(&vm, EXIT_PREEMPTION_TIMER);
    CHECK_EQ(vmx_get(PREEMPTION_TIMER), 0);
    /* The write and the control in either order. */
    vmx_set(PREEMPTION_TIMER, 70000000);
    EXPECT_EXIT_SKIP(&vm, EXIT_CPUID);
    CHECK_EQ(vmx_get(PREEMPTION_TIMER), 70000000);
    REQUIRE_EQ(vmx_vmclear(&vm.vmcs), 0);
    REQUIRE_EQ(vmx_vmptrld(&vm.vmcs), 0);
    CHECK_EQ(vmx_get(PREEMPTION_TIMER), 70000000);
}

static const char *without_timer(void)
{
    return vm_control_offered(PIN_CONTROLS, (uint32_t)PIN_PREEMPTION_TIMER) ? NULL : "no preemption timer";
}

const struct scenario exit_apic_scenarios[] = {
    {"apic-tpr-shadow", tpr_shadow, NULL},
    {"apic-tpr-threshold", tpr_threshold, NULL},
    {"apic-tpr-threshold-between-exits", tpr_threshold_between_exits, NULL},
    {"apic-tpr-threshold-after-event", tpr_threshold_after_event, without_apic_access},
    {"apic-access", apic_access, without_apic_access},
    {"apic-access-tpr", apic_access_tpr, without_apic_access},
    {"timer-preemption", preemption_timer, without_timer},
    {"timer-preemption-zero", preemption_timer_zero, without_timer},
    {"timer-preemption-saved", preemption_timer_saved, without_timer},
    {"timer-preemption-field", preemption_timer_field, without_timer},
    {0},
};
