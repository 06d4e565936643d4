/* The newer APIC virtualisation: x2APIC mode, registers, interrupt delivery; and a few more optional controls. */
#include "guests/lib/counters.h"
#include "guests/lib/cpu.h"
#include "guests/lib/irq.h"
#include "guests/lib/msr_bits.h"
#include "guests/lib/page.h"
#include "guests/lib/paging.h"
#include "guests/scenarios/scenario.h"

#define LAPIC_VERSION 0x30
#define LAPIC_LVT_ERROR 0x370
#define LAPIC_IRR 0x200
#define LAPIC_ISR 0x100
#define VECTOR_TEST 0x51
#define STATUS_SVI BITS(15, 8)
#define STATUS_RVI BITS(7, 0)
#define PIN_EXITS (uint32_t) PIN_EXTERNAL_INTERRUPT

static volatile uint64_t l2_value, l2_written;
static volatile uint32_t *apic_page;
static uint32_t *virtual_apic;

static void start(struct vm *vm, void (*code)(void), uint64_t secondary)
{
    vm_start(vm, code, 0);
    virtual_apic = page_alloc();
    apic_page = page_alloc();
    vmx_set(VIRTUAL_APIC_ADDR, (uint64_t)virtual_apic);
    vmx_set(APIC_ACCESS_ADDR, (uint64_t)apic_page);
    vm_control_set(PROC_CONTROLS, (uint32_t)PROC_TPR_SHADOW);
    vm_secondary_set((uint32_t)secondary);
}

static void l2_use_x2apic_tpr(void)
{
    l2_value = cpu_rdmsr(X2APIC_TPR);
    cpu_wrmsr(X2APIC_TPR, 0x40);
}

static void l2_read_x2apic_caught(void)
{
    l2_value = FAULT_OF((void)cpu_rdmsr(X2APIC_TPR));
}

/* The TPR's MSR is the virtual-APIC page's, though neither CPU's APIC is in x2APIC mode. */
static void x2apic_tpr(void)
{
    struct vm vm;

    start(&vm, l2_use_x2apic_tpr, PROC2_X2APIC);
    virtual_apic[LAPIC_TPR / 4] = 0x20;
    EXPECT_DONE(&vm);
    CHECK_EQ(l2_value, 0x20);
    CHECK_EQ(virtual_apic[LAPIC_TPR / 4], 0x40);
    CHECK_EQ(irq_lapic_read(LAPIC_TPR), 0);
}

/* With the control off, L2 has the MSRs of the machine's APIC: none in its present mode. */
static void x2apic_off(void)
{
    struct vm vm;

    start(&vm, l2_read_x2apic_caught, 0);
    l2_value = 0;
    EXPECT_DONE(&vm);
    CHECK_EQ(l2_value, VECTOR_GP);
    if (!vm_control_offered(PROC2_CONTROLS, (uint32_t)PROC2_APIC_REGISTER))
        return;
    vm_secondary_set((uint32_t)PROC2_APIC_REGISTER);
    vm_set_code(&vm, l2_read_x2apic_caught);
    l2_value = 0;
    EXPECT_DONE(&vm);
    CHECK_EQ(l2_value, VECTOR_GP);
}

static const char *without_x2apic_control(void)
{
    if (!vm_control_offered(PROC2_CONTROLS, (uint32_t)PROC2_X2APIC))
        return "no x2APIC virtualisation";
    return cpu_rdmsr(IA32_APIC_BASE) & APIC_BASE_EXTD ? "the APIC is in x2APIC mode" : NULL;
}

static void l2_touch_x2apic_caught(void)
{
    l2_value = FAULT_OF((void)cpu_rdmsr(X2APIC_TPR));
    l2_written = FAULT_OF(cpu_wrmsr(X2APIC_TPR, 0x40));
}

/* L2 has the TPR's MSR only where a control virtualises it: with it off again (CVE-2019-3887 left the bits of the
 * merged bitmap behind) L2 meets the machine's APIC, which is not in x2APIC mode, or L1's bitmap. */
static void check_x2apic(struct vm *vm, uint64_t controls, bool caught)
{
    bool is_virtual = controls & PROC2_X2APIC;

    vm_control_clear(PROC2_CONTROLS, (uint32_t)(PROC2_X2APIC | PROC2_APIC_REGISTER | PROC2_VIRTUAL_INTERRUPTS));
    vm_secondary_set((uint32_t)controls);
    virtual_apic[LAPIC_TPR / 4] = 0x20;
    vm_set_code(vm, l2_touch_x2apic_caught);
    l2_value = l2_written = 0;
    if (caught) {
        EXPECT_EXIT_SKIP(vm, EXIT_RDMSR);
        EXPECT_EXIT_SKIP(vm, EXIT_WRMSR);
    }
    EXPECT_DONE(vm);
    CHECK_EQ(l2_value, caught || is_virtual ? NO_FAULT : VECTOR_GP);
    CHECK_EQ(l2_written, caught || is_virtual ? NO_FAULT : VECTOR_GP);
    CHECK_EQ(virtual_apic[LAPIC_TPR / 4], caught || !is_virtual ? 0x20 : 0x40);
    CHECK_EQ(irq_lapic_read(LAPIC_TPR), 0);
}

static const uint64_t controls[] = {0,
                                    PROC2_X2APIC,
                                    PROC2_APIC_REGISTER,
                                    PROC2_X2APIC | PROC2_APIC_REGISTER,
                                    PROC2_VIRTUAL_INTERRUPTS,
                                    PROC2_X2APIC | PROC2_VIRTUAL_INTERRUPTS,
                                    PROC2_APIC_REGISTER | PROC2_VIRTUAL_INTERRUPTS,
                                    PROC2_X2APIC | PROC2_APIC_REGISTER | PROC2_VIRTUAL_INTERRUPTS};

static void x2apic_on_and_off(void)
{
    struct vm vm;

    start(&vm, l2_touch_x2apic_caught, 0);
    vm_control_set(PIN_CONTROLS, PIN_EXITS);
    for (unsigned from = 0; from < ARRAY_SIZE(controls); from++)
        for (unsigned to = 0; to < ARRAY_SIZE(controls); to++) {
            if (!vm_control_offered(PROC2_CONTROLS, (uint32_t)(controls[from] | controls[to])))
                continue;
            check_x2apic(&vm, controls[from], false);
            check_x2apic(&vm, controls[to], false);
            msr_bit_set(vm.msr_bitmap, X2APIC_TPR, MSR_READ);
            msr_bit_set(vm.msr_bitmap, X2APIC_TPR, MSR_WRITE);
            check_x2apic(&vm, controls[from], true);
            check_x2apic(&vm, controls[to], true);
            msr_bit_clear(vm.msr_bitmap, X2APIC_TPR, MSR_READ);
            msr_bit_clear(vm.msr_bitmap, X2APIC_TPR, MSR_WRITE);
        }
}

static volatile unsigned l2_granted, l2_foreign;

/* How many of the registers there are, and how many have a value that is not in the virtual-APIC page. */
static void l2_read_all_registers(void)
{
    volatile uint64_t value;

    for (uint32_t i = 0; i <= X2APIC_MSR_LAST - X2APIC_MSR_FIRST; i++) {
        if (FAULT_OF(value = cpu_rdmsr(X2APIC_MSR_FIRST + i)) != NO_FAULT)
            continue;
        l2_granted++;
        l2_foreign += (uint32_t)value != virtual_apic[4 * i];
    }
}

static void change_controls(uint64_t secondary)
{
    vm_control_clear(PROC2_CONTROLS, (uint32_t)(PROC2_X2APIC | PROC2_APIC_REGISTER | PROC2_VIRTUAL_INTERRUPTS));
    vm_secondary_set((uint32_t)secondary);
}

/* Each of the 256 MSRs is either virtual or not there: the machine's APIC, in xAPIC mode, is never what L2 reads. */
static void x2apic_all_registers(void)
{
    struct vm vm;

    start(&vm, l2_read_all_registers, 0);
    vm_control_set(PIN_CONTROLS, PIN_EXITS);
    for (uint32_t i = 0; i <= X2APIC_MSR_LAST - X2APIC_MSR_FIRST; i++)
        virtual_apic[4 * i] = 0x5a00 + i;
    for (unsigned round = 0; round < 2 * ARRAY_SIZE(controls); round++) {
        uint64_t secondary = round % 2 ? 0 : controls[round / 2];
        if (!vm_control_offered(PROC2_CONTROLS, (uint32_t)secondary))
            continue;
        change_controls(secondary);
        vm_set_code(&vm, l2_read_all_registers);
        l2_granted = l2_foreign = 0;
        EXPECT_DONE(&vm);
        CHECK_EQ(l2_foreign, 0);
        if (!(secondary & PROC2_X2APIC))
            CHECK_EQ(l2_granted, 0);
        else if (!(secondary & PROC2_APIC_REGISTER))
            CHECK_EQ(l2_granted, 1); /* the TPR */
        else
            CHECK(l2_granted > 1);
    }
}

static void l2_write_icr_caught(void)
{
    l2_written = FAULT_OF(cpu_wrmsr(X2APIC_ICR, 0));
}

/* An APIC register that Nestor keeps exits to Nestor, whatever L1 virtualises or did before. */
static void x2apic_kept(void)
{
    struct vm vm;

    start(&vm, l2_write_icr_caught, 0);
    vm_control_set(PIN_CONTROLS, PIN_EXITS);
    policy_keep(X2APIC_ICR, false, true);
    for (unsigned round = 0; round < 2 * ARRAY_SIZE(controls) * ARRAY_SIZE(controls); round++) {
        unsigned pair = round / 2;
        uint64_t secondary = controls[round % 2 ? pair % ARRAY_SIZE(controls) : pair / ARRAY_SIZE(controls)];
        uint32_t kept = counter_read(COUNTER_L2_MSR_EXITS_L0);
        if (!vm_control_offered(PROC2_CONTROLS, (uint32_t)secondary))
            continue;
        change_controls(secondary);
        vm_set_code(&vm, l2_write_icr_caught);
        l2_written = 0;
        EXPECT_DONE(&vm);
        CHECK_EQ(l2_written, VECTOR_GP);
        CHECK_EQ(counter_read(COUNTER_L2_MSR_EXITS_L0) - kept, 1);
    }
    policy_keep(X2APIC_ICR, false, false);
}

static const char *without_kept_x2apic(void)
{
    return policy_present() ? without_x2apic_control() : "on bare";
}

static const char *without_x2apic(void)
{
    return cpu_cpuid(1, 0).ecx & CPUID1_ECX_X2APIC ? without_x2apic_control() : "no x2APIC";
}

static void l2_read_version(void)
{
    l2_value = apic_page[LAPIC_VERSION / 4];
}

static void l2_write_lvt(void)
{
    apic_page[LAPIC_LVT_ERROR / 4] = 0x10055;
}

/* Reads come from the virtual-APIC page; writes go there, and exit afterwards. */
static void registers(void)
{
    uint64_t rip;
    struct vm vm;

    start(&vm, l2_read_version, PROC2_APIC_ACCESS | PROC2_APIC_REGISTER);
    virtual_apic[LAPIC_VERSION / 4] = 0x50014;
    EXPECT_DONE(&vm);
    CHECK_EQ(l2_value, 0x50014);
    vm_set_code(&vm, l2_write_lvt);
    rip = vmx_get(GUEST_RIP);
    EXPECT_EXIT(&vm, EXIT_APIC_WRITE);
    CHECK_EQ(vm.exit.qualification, LAPIC_LVT_ERROR);
    CHECK_EQ(virtual_apic[LAPIC_LVT_ERROR / 4], 0x10055);
    CHECK(vmx_get(GUEST_RIP) != rip);
    CHECK_EQ(apic_page[LAPIC_LVT_ERROR / 4], 0);
    EXPECT_DONE(&vm);
}

static const char *without_registers(void)
{
    const uint64_t both = PROC2_APIC_ACCESS | PROC2_APIC_REGISTER;

    return vm_control_offered(PROC2_CONTROLS, (uint32_t)both) ? NULL : "no APIC-register virtualisation";
}

static void set_virtual_bit(unsigned base, unsigned vector)
{
    virtual_apic[(base + vector / 32 * 0x10) / 4] |= 1u << vector % 32;
}

static uint32_t virtual_bit(unsigned base, unsigned vector)
{
    return virtual_apic[(base + vector / 32 * 0x10) / 4] >> vector % 32 & 1;
}

/* The software interrupt touches what the delivery will touch: an emulated CPU may report an exit out of the delivery
 * of a virtual interrupt with the wrong event, and this is not what is tested here. */
static void l2_take_and_end(void)
{
    asm volatile("int %0" : : "i"(VECTOR_TEST));
    trap_count[VECTOR_TEST] = 0;
    asm volatile("sti; nop; nop; cli");
    l2_value = trap_count[VECTOR_TEST];
    cpu_wrmsr(X2APIC_EOI, 0);
}

static void start_again(struct vm *vm)
{
    vm_set_code(vm, l2_take_and_end);
    trap_count[VECTOR_TEST] = 0;
    set_virtual_bit(LAPIC_IRR, VECTOR_TEST);
    vmx_set(GUEST_INTERRUPT_STATUS, PUT(VECTOR_TEST, STATUS_RVI));
}

static void start_delivery(struct vm *vm)
{
    start(vm, l2_take_and_end, PROC2_X2APIC | PROC2_VIRTUAL_INTERRUPTS);
    vm_control_set(PIN_CONTROLS, PIN_EXITS);
    start_again(vm);
}

/* A requested virtual interrupt is delivered and ended without an exit. */
static void virtual_interrupt(void)
{
    struct vm vm;

    start_delivery(&vm);
    EXPECT_DONE(&vm);
    CHECK_EQ(l2_value, 1);
    CHECK_EQ(vmx_get(GUEST_INTERRUPT_STATUS), 0);
    CHECK_EQ(virtual_bit(LAPIC_IRR, VECTOR_TEST), 0);
    CHECK_EQ(virtual_bit(LAPIC_ISR, VECTOR_TEST), 0);
}

static void l2_nothing(void)
{
}

static void l2_take_first(void)
{
    l2_value = trap_count[VECTOR_TEST];
    asm volatile("cli");
    cpu_wrmsr(X2APIC_EOI, 0);
}

/* Its delivery is the first that L2 does: whatever maps its stack for it does so then. The event that L1 injected
 * before it is not this one. */
static void virtual_interrupt_first(void)
{
    struct vm vm;

    start_delivery(&vm);
    trap_count[IRQ_VECTOR_SELF] = 0;
    virtual_apic[LAPIC_TPR / 4] = 0xf0;
    vm_set_code(&vm, l2_nothing);
    vmx_set(GUEST_RFLAGS, RFLAGS_FIXED1 | RFLAGS_IF);
    vmx_set(ENTRY_INTERRUPTION_INFO, INTR_VALID | PUT(INTR_TYPE_EXTERNAL, INTR_TYPE) | IRQ_VECTOR_SELF);
    EXPECT_DONE(&vm);
    virtual_apic[LAPIC_TPR / 4] = 0;
    vm_set_code(&vm, l2_take_first);
    vmx_set(GUEST_RFLAGS, RFLAGS_FIXED1 | RFLAGS_IF);
    if (vm.ept) /* small pages, each of which is mapped for itself */
        (void)paging_entry(vm.ept, vmx_get(GUEST_RSP), PAGE_SIZE);
    EXPECT_DONE(&vm);
    CHECK_EQ(l2_value, 1);
    CHECK_EQ(trap_count[VECTOR_TEST], 1);
    CHECK_EQ(trap_count[IRQ_VECTOR_SELF], 1);
    CHECK_EQ(vmx_get(GUEST_INTERRUPT_STATUS), 0);
}

/* L1 may ask to see the end of it, and ask no longer; what it wrote it reads, whatever else it does with the VMCS. */
static void eoi_exit(void)
{
    struct vm vm;

    start_delivery(&vm);
    for (unsigned i = 0; i < 4; i++) {
        bool asks = i % 2 == 0;
        start_again(&vm);
        vmx_set(EOI_EXIT_BITMAP1, asks ? BIT(VECTOR_TEST - 64) : ~BIT(VECTOR_TEST - 64));
        vmx_set(EOI_EXIT_BITMAP2, ~0ull << i);
        if (i / 2)
            vm_clear(&vm);
        vm_load(&vm);
        if (asks) {
            EXPECT_EXIT(&vm, EXIT_VIRTUALIZED_EOI);
            CHECK_EQ(vm.exit.qualification, VECTOR_TEST);
            CHECK_EQ(virtual_bit(LAPIC_ISR, VECTOR_TEST), 0);
        }
        EXPECT_DONE(&vm);
        CHECK_EQ(trap_count[VECTOR_TEST], 1);
        CHECK_EQ(vmx_get(EOI_EXIT_BITMAP1) & BIT(VECTOR_TEST - 64), asks ? BIT(VECTOR_TEST - 64) : 0);
        CHECK_EQ(vmx_get(EOI_EXIT_BITMAP2), ~0ull << i);
    }
}

/* One below the TPR waits. */
static void masked_by_tpr(void)
{
    struct vm vm;

    start_delivery(&vm);
    virtual_apic[LAPIC_TPR / 4] = 0x60;
    EXPECT_DONE(&vm);
    CHECK_EQ(l2_value, 0);
    CHECK_EQ(GET(vmx_get(GUEST_INTERRUPT_STATUS), STATUS_RVI), VECTOR_TEST);
    virtual_apic[LAPIC_TPR / 4] = 0;
    vm_set_code(&vm, l2_take_and_end);
    EXPECT_DONE(&vm);
    CHECK_EQ(l2_value, 1);
}

/* As L1 wrote it, it stays, whatever else L1 does with the VMCS; also while nothing is delivered. */
static void status_kept(void)
{
    const uint64_t status = PUT(IRQ_VECTOR_SELF, STATUS_RVI) | PUT(VECTOR_TEST, STATUS_SVI);
    struct vm vm;

    start_delivery(&vm);
    for (unsigned i = 0; i < 4; i++) {
        vm_set_code(&vm, l2_nothing);
        vmx_set(GUEST_INTERRUPT_STATUS, status - i);
        EXPECT_DONE(&vm);
        CHECK_EQ(vmx_get(GUEST_INTERRUPT_STATUS), status - i);
        vmx_set(GUEST_INTERRUPT_STATUS, i);
        if (i % 2)
            vm_clear(&vm);
        vm_load(&vm);
        CHECK_EQ(vmx_get(GUEST_INTERRUPT_STATUS), i);
        if (i == 1)
            vm_control_clear(PROC2_CONTROLS, (uint32_t)PROC2_VIRTUAL_INTERRUPTS);
    }
}

static const char *without_delivery(void)
{
    const uint64_t both = PROC2_X2APIC | PROC2_VIRTUAL_INTERRUPTS;

    return vm_control_offered(PROC2_CONTROLS, (uint32_t)both) ? without_x2apic_control()
                                                              : "no virtual-interrupt delivery";
}

/* SDM 3C 27.2.1.1 "VM-Execution Control Fields" */
static void bad_combinations(void)
{
    static const uint64_t needs_shadow[] = {PROC2_X2APIC, PROC2_APIC_REGISTER, PROC2_VIRTUAL_INTERRUPTS};
    struct vm vm;

    start(&vm, l2_read_version, 0);
    vm_control_clear(PROC_CONTROLS, (uint32_t)PROC_TPR_SHADOW);
    vm_control_set(PIN_CONTROLS, PIN_EXITS);
    for (unsigned i = 0; i < ARRAY_SIZE(needs_shadow); i++) {
        vm_secondary_set((uint32_t)needs_shadow[i]);
        CHECK_EQ(vm_enter(&vm), VMXERR_ENTRY_CONTROLS);
        vm_control_clear(PROC2_CONTROLS, (uint32_t)needs_shadow[i]);
    }
    vm_control_set(PROC_CONTROLS, (uint32_t)PROC_TPR_SHADOW);
    vm_secondary_set((uint32_t)(PROC2_X2APIC | PROC2_APIC_ACCESS));
    CHECK_EQ(vm_enter(&vm), VMXERR_ENTRY_CONTROLS);
    vm_control_clear(PROC2_CONTROLS, (uint32_t)(PROC2_X2APIC | PROC2_APIC_ACCESS));
    vm_secondary_set((uint32_t)PROC2_VIRTUAL_INTERRUPTS);
    vm_control_clear(PIN_CONTROLS, PIN_EXITS);
    CHECK_EQ(vm_enter(&vm), VMXERR_ENTRY_CONTROLS);
    vm_control_set(PIN_CONTROLS, PIN_EXITS);
    EXPECT_DONE(&vm);
}

static uint8_t xsave_area[4096] __attribute__((aligned(64)));

static void l2_xsaves_caught(void)
{
    l2_value = FAULT_OF(asm volatile("xsaves64 (%0)" : : "r"(xsave_area), "a"(1), "d"(0) : "memory"));
}

static void xsaves_enabled(void)
{
    struct vm vm;

    start(&vm, l2_xsaves_caught, 0);
    vmx_set(GUEST_CR4, vmx_get(GUEST_CR4) | CR4_OSXSAVE);
    l2_value = 0;
    EXPECT_DONE(&vm);
    CHECK_EQ(l2_value, VECTOR_UD);
    vm_secondary_set((uint32_t)PROC2_XSAVES);
    vm_set_code(&vm, l2_xsaves_caught);
    EXPECT_DONE(&vm);
    CHECK_EQ(l2_value, NO_FAULT);
}

static const char *without_xsaves(void)
{
    return vm_control_offered(PROC2_CONTROLS, (uint32_t)PROC2_XSAVES) ? NULL : "no XSAVES";
}

const struct scenario apicv_scenarios[] = {
    {"apicv-x2apic-tpr", x2apic_tpr, without_x2apic_control},
    {"apicv-x2apic-off", x2apic_off, without_x2apic},
    {"apicv-x2apic-on-and-off", x2apic_on_and_off, without_x2apic_control},
    {"apicv-x2apic-all-registers", x2apic_all_registers, without_x2apic_control},
    {"apicv-x2apic-kept", x2apic_kept, without_kept_x2apic},
    {"apicv-registers", registers, without_registers},
    {"apicv-virtual-interrupt", virtual_interrupt, without_delivery},
    {"apicv-virtual-interrupt-first", virtual_interrupt_first, without_delivery},
    {"apicv-eoi-exit", eoi_exit, without_delivery},
    {"apicv-masked-by-tpr", masked_by_tpr, without_delivery},
    {"apicv-status-kept", status_kept, without_delivery},
    {"apicv-bad-combinations", bad_combinations, without_delivery},
    {"option-xsaves", xsaves_enabled, without_xsaves},
    {0},
};
