/* VM entries that must fail: with which error, with which exit, and with what left behind. */
#include "guests/lib/cpu.h"
#include "guests/lib/desc.h"
#include "guests/lib/page.h"
#include "guests/lib/paging.h"
#include "guests/scenarios/scenario.h"

static void l2_nothing(void)
{
}

static uint64_t beyond_width(void)
{
    return 1ull << cpu_physical_bits();
}

/* Enters with one field changed, expects this outcome, and puts the field back. */
static void check_with(struct vm *vm, uint16_t field, uint64_t value, int want, const char *file, int line)
{
    uint64_t before = vmx_get(field);

    vmx_set(field, value);
    if (!check_equal((uint64_t)vm_enter(vm), (uint64_t)want, "entry", file, line))
        check_report("that was field 0x%x = 0x%lx", field, value);
    vmx_set(field, before);
}
#define CHECK_CONTROLS(vm, field, value) check_with(vm, field, value, VMXERR_ENTRY_CONTROLS, __FILE__, __LINE__)
#define CHECK_HOST(vm, field, value) check_with(vm, field, value, VMXERR_ENTRY_HOST_STATE, __FILE__, __LINE__)
#define CHECK_ENTERS(vm, field, value) check_with(vm, field, value, 0, __FILE__, __LINE__)

/* The same for guest state: an exit that reports the failure. */
static void check_guest(struct vm *vm, uint16_t field, uint64_t value, uint64_t qualification, const char *file,
                        int line)
{
    uint64_t before = vmx_get(field);

    vmx_set(field, value);
    if (!check_equal((uint64_t)vm_enter(vm), 0, "entry", file, line) ||
        !check_equal(vm->exit.reason, EXIT_REASON_ENTRY_FAILURE | EXIT_INVALID_GUEST_STATE, "exit reason", file,
                     line) ||
        !check_equal(vm->exit.qualification, qualification, "exit qualification", file, line))
        check_report("that was field 0x%x = 0x%lx", field, value);
    vmx_set(field, before);
}
#define CHECK_GUEST(vm, field, value) check_guest(vm, field, value, 0, __FILE__, __LINE__)

/* Ends a scenario of failed entries: nothing of them stuck, so the same VM can be launched. */
static void check_still_launches(struct vm *vm)
{
    CHECK_EQ(vm->launched, false);
    vm->launched = true;
    CHECK_EQ(vm_enter(vm), VMXERR_VMRESUME_NOT_LAUNCHED);
    vm->launched = false;
    EXPECT_DONE(vm);
}

static void reserved_controls(void)
{
    static const uint16_t words[] = {PIN_CONTROLS, PROC_CONTROLS, EXIT_CONTROLS, ENTRY_CONTROLS};
    struct vm vm;

    vm_start(&vm, l2_nothing, 0);
    for (unsigned i = 0; i < ARRAY_SIZE(words); i++) {
        struct vmx_control_caps caps = vmx_control_caps(words[i]);
        uint64_t value = vmx_get(words[i]);
        for (unsigned bit = 0; bit < 32; bit++) {
            if (caps.must & BIT(bit))
                CHECK_CONTROLS(&vm, words[i], value & ~BIT(bit));
            else if (!(caps.may & BIT(bit)))
                CHECK_CONTROLS(&vm, words[i], value | BIT(bit));
        }
    }
    check_still_launches(&vm);
}

static void reserved_secondary_controls(void)
{
    uint32_t may = vmx_control_caps(PROC2_CONTROLS).may;
    struct vm vm;

    vm_start(&vm, l2_nothing, 0);
    vm_secondary_set(0);
    for (unsigned bit = 0; bit < 32; bit++)
        if (!(may & BIT(bit)))
            CHECK_CONTROLS(&vm, PROC2_CONTROLS, vmx_get(PROC2_CONTROLS) | BIT(bit));
    check_still_launches(&vm);
}

static void bad_addresses(void)
{
    uint64_t bad[] = {0x800, beyond_width()};
    struct vm vm;

    vm_start(&vm, l2_nothing, 0);
    vm_control_set(PROC_CONTROLS, (uint32_t)PROC_USE_IO_BITMAPS);
    vmx_set(IO_BITMAP_A, (uint64_t)page_alloc());
    vmx_set(IO_BITMAP_B, (uint64_t)page_alloc());
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        CHECK_CONTROLS(&vm, MSR_BITMAP, bad[i]);
        CHECK_CONTROLS(&vm, IO_BITMAP_A, bad[i]);
        CHECK_CONTROLS(&vm, IO_BITMAP_B, bad[i]);
    }
    check_still_launches(&vm);
}

static void bad_msr_areas(void)
{
    static const uint16_t counts[] = {ENTRY_MSR_LOAD_COUNT, EXIT_MSR_LOAD_COUNT, EXIT_MSR_STORE_COUNT};
    static const uint16_t addresses[] = {ENTRY_MSR_LOAD_ADDR, EXIT_MSR_LOAD_ADDR, EXIT_MSR_STORE_ADDR};
    struct vm vm;

    vm_start(&vm, l2_nothing, 0);
    for (unsigned i = 0; i < ARRAY_SIZE(counts); i++) {
        vmx_set(addresses[i], (uint64_t)page_alloc() + 8);
        CHECK_CONTROLS(&vm, counts[i], 1);
        vmx_set(addresses[i], beyond_width());
        CHECK_CONTROLS(&vm, counts[i], 1);
        vmx_set(addresses[i], beyond_width() - 16);
        CHECK_CONTROLS(&vm, counts[i], 2);
    }
    check_still_launches(&vm);
}

static void control_combinations(void)
{
    struct vm vm;

    vm_start(&vm, l2_nothing, 0);
    CHECK_CONTROLS(&vm, CR3_TARGET_COUNT, GET(cpu_rdmsr(IA32_VMX_MISC), VMX_MISC_CR3_TARGETS) + 1);
    CHECK_CONTROLS(&vm, PIN_CONTROLS, vmx_get(PIN_CONTROLS) | PIN_VIRTUAL_NMIS);
    CHECK_CONTROLS(&vm, PROC_CONTROLS, vmx_get(PROC_CONTROLS) | PROC_NMI_WINDOW);
    CHECK_CONTROLS(&vm, EXIT_CONTROLS, vmx_get(EXIT_CONTROLS) | EXITC_SAVE_TIMER);
    vm_secondary_set(0);
    CHECK_CONTROLS(&vm, PROC2_CONTROLS, vmx_get(PROC2_CONTROLS) | PROC2_X2APIC);
    if (vm_control_offered(PROC2_CONTROLS, (uint32_t)PROC2_VPID))
        CHECK_CONTROLS(&vm, PROC2_CONTROLS, vmx_get(PROC2_CONTROLS) | PROC2_VPID);
    if (vm_control_offered(PROC2_CONTROLS, (uint32_t)PROC2_UNRESTRICTED))
        CHECK_CONTROLS(&vm, PROC2_CONTROLS, (vmx_get(PROC2_CONTROLS) & ~PROC2_EPT) | PROC2_UNRESTRICTED);
    check_still_launches(&vm);
}

static void tpr_shadow_controls(void)
{
    struct vm vm;

    vm_start(&vm, l2_nothing, 0);
    vm_control_set(PROC_CONTROLS, (uint32_t)PROC_TPR_SHADOW);
    vmx_set(VIRTUAL_APIC_ADDR, (uint64_t)page_alloc());
    CHECK_CONTROLS(&vm, VIRTUAL_APIC_ADDR, 0x10);
    CHECK_CONTROLS(&vm, VIRTUAL_APIC_ADDR, beyond_width());
    CHECK_CONTROLS(&vm, TPR_THRESHOLD, 0x10);
    CHECK_CONTROLS(&vm, TPR_THRESHOLD, 1); /* above the TPR of the virtual-APIC page, which is 0 */
    if (vm_control_offered(PROC2_CONTROLS, (uint32_t)PROC2_APIC_ACCESS)) {
        vm_secondary_set((uint32_t)PROC2_APIC_ACCESS);
        CHECK_CONTROLS(&vm, APIC_ACCESS_ADDR, 0x123);
        CHECK_CONTROLS(&vm, APIC_ACCESS_ADDR, beyond_width());
        vm_control_clear(PROC2_CONTROLS, (uint32_t)PROC2_APIC_ACCESS);
    }
    check_still_launches(&vm);
}

static void bad_eptp(void)
{
    uint64_t good;
    struct vm vm;

    vm_start(&vm, l2_nothing, VM_EPT);
    good = vmx_get(EPT_POINTER);
    CHECK_CONTROLS(&vm, EPT_POINTER, (good & ~EPTP_MEMORY_TYPE) | 3);
    CHECK_CONTROLS(&vm, EPT_POINTER, (good & ~EPTP_WALK_LENGTH) | PUT(2, EPTP_WALK_LENGTH));
    CHECK_CONTROLS(&vm, EPT_POINTER, good | BIT(8));
    CHECK_CONTROLS(&vm, EPT_POINTER, good | BIT(11));
    CHECK_CONTROLS(&vm, EPT_POINTER, good | beyond_width());
    if (!(vmx_ept_vpid_cap() & EPT_CAP_AD))
        CHECK_CONTROLS(&vm, EPT_POINTER, good | EPTP_AD);
    check_still_launches(&vm);
}

/* SDM 3C 27.2.1.3 "VM-Entry Control Fields": what may be injected. */
static void bad_injection(void)
{
    static const uint32_t bad[] = {
        PUT(INTR_TYPE_EXTERNAL, INTR_TYPE) | BIT(12) | 0x40,                    /* reserved bits */
        PUT(1, INTR_TYPE) | 0x40,                                               /* reserved type */
        PUT(INTR_TYPE_NMI, INTR_TYPE) | 3,                                      /* NMI is vector 2 */
        PUT(INTR_TYPE_HARD_EXCEPTION, INTR_TYPE) | 32,                          /* no such exception */
        PUT(INTR_TYPE_HARD_EXCEPTION, INTR_TYPE) | INTR_ERROR_CODE | VECTOR_UD, /* #UD has no error code */
        PUT(INTR_TYPE_HARD_EXCEPTION, INTR_TYPE) | VECTOR_GP,                   /* #GP has one */
        PUT(INTR_TYPE_EXTERNAL, INTR_TYPE) | INTR_ERROR_CODE | 0x40,
    };
    bool any_error_code = cpu_rdmsr(IA32_VMX_BASIC) & VMX_BASIC_NO_ERROR_CODE_CHECK;
    struct vm vm;

    vm_start(&vm, l2_nothing, 0);
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        if (any_error_code && ((bad[i] & INTR_ERROR_CODE) || (bad[i] & INTR_VECTOR) == VECTOR_GP))
            continue;
        CHECK_CONTROLS(&vm, ENTRY_INTERRUPTION_INFO, INTR_VALID | bad[i]);
    }
    vmx_set(ENTRY_EXCEPTION_ERROR_CODE, 0x10000);
    CHECK_CONTROLS(&vm, ENTRY_INTERRUPTION_INFO,
                   INTR_VALID | PUT(INTR_TYPE_HARD_EXCEPTION, INTR_TYPE) | INTR_ERROR_CODE | VECTOR_GP);
    vmx_set(ENTRY_INSTRUCTION_LENGTH, 16);
    CHECK_CONTROLS(&vm, ENTRY_INTERRUPTION_INFO, INTR_VALID | PUT(INTR_TYPE_SOFT_INTERRUPT, INTR_TYPE) | 0x40);
    CHECK_ENTERS(&vm, ENTRY_INTERRUPTION_INFO, 0x7fffffff & ~INTR_VALID);
    vm_clear(&vm);
    vm_set_code(&vm, l2_nothing);
    check_still_launches(&vm);
}

/* Fields of controls that are off may hold anything: real hypervisors leave junk there. */
static void junk_behind_cleared_controls(void)
{
    static const uint16_t junk[] = {IO_BITMAP_A,
                                    IO_BITMAP_B,
                                    MSR_BITMAP,
                                    VIRTUAL_APIC_ADDR,
                                    APIC_ACCESS_ADDR,
                                    TPR_THRESHOLD,
                                    EPT_POINTER,
                                    PML_ADDRESS,
                                    EXIT_MSR_STORE_ADDR,
                                    EXIT_MSR_LOAD_ADDR,
                                    ENTRY_MSR_LOAD_ADDR,
                                    EXECUTIVE_VMCS_POINTER,
                                    VPID,
                                    VM_FUNCTION_CONTROLS,
                                    EPTP_LIST_ADDRESS,
                                    VMREAD_BITMAP,
                                    VMWRITE_BITMAP,
                                    VE_INFO_ADDRESS,
                                    GUEST_PAT,
                                    GUEST_EFER,
                                    HOST_PAT,
                                    HOST_EFER,
                                    TSC_MULTIPLIER,
                                    ENTRY_EXCEPTION_ERROR_CODE};
    uint64_t value;
    struct vm vm;

    vm_start(&vm, l2_nothing, VM_NO_EPT);
    vm_control_clear(PROC_CONTROLS, (uint32_t)(PROC_USE_MSR_BITMAPS | PROC_SECONDARY));
    vmx_set(PROC2_CONTROLS, 0xffffffff);
    for (unsigned i = 0; i < ARRAY_SIZE(junk); i++)
        if (!vmx_vmread(junk[i], &value))
            vmx_set(junk[i], UINT64_MAX);
    EXPECT_DONE(&vm);
    for (unsigned i = 0; i < ARRAY_SIZE(junk); i++)
        if (!vmx_vmread(junk[i], &value))
            CHECK(value != 0);
}

static void bad_host_control_registers(void)
{
    struct vm vm;

    vm_start(&vm, l2_nothing, 0);
    CHECK_HOST(&vm, HOST_CR0, vmx_get(HOST_CR0) & ~CR0_PG);
    CHECK_HOST(&vm, HOST_CR0, vmx_get(HOST_CR0) & ~CR0_NE);
    CHECK_HOST(&vm, HOST_CR4, vmx_get(HOST_CR4) & ~CR4_VMXE);
    CHECK_HOST(&vm, HOST_CR4, vmx_get(HOST_CR4) & ~CR4_PAE);
    CHECK_HOST(&vm, HOST_CR4, vmx_get(HOST_CR4) | BIT(31));
    CHECK_HOST(&vm, HOST_CR3, beyond_width());
    CHECK_HOST(&vm, HOST_SYSENTER_ESP, NONCANONICAL_ADDRESS);
    CHECK_HOST(&vm, HOST_SYSENTER_EIP, NONCANONICAL_ADDRESS);
    CHECK_HOST(&vm, HOST_RIP, NONCANONICAL_ADDRESS);
    check_still_launches(&vm);
}

static void bad_host_segments(void)
{
    static const uint16_t bases[] = {HOST_FS_BASE, HOST_GS_BASE, HOST_TR_BASE, HOST_GDTR_BASE, HOST_IDTR_BASE};
    struct vm vm;

    vm_start(&vm, l2_nothing, 0);
    CHECK_HOST(&vm, HOST_CS_SELECTOR, 0);
    CHECK_HOST(&vm, HOST_TR_SELECTOR, 0);
    for (uint16_t field = HOST_ES_SELECTOR; field <= HOST_TR_SELECTOR; field += 2) {
        CHECK_HOST(&vm, field, vmx_get(field) | 1);
        CHECK_HOST(&vm, field, vmx_get(field) | 4);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(bases); i++)
        CHECK_HOST(&vm, bases[i], NONCANONICAL_ADDRESS);
    check_still_launches(&vm);
}

static void bad_host_msrs(void)
{
    struct vm vm;

    vm_start(&vm, l2_nothing, 0);
    vm_control_set(EXIT_CONTROLS, (uint32_t)(EXITC_LOAD_PAT | EXITC_LOAD_EFER));
    vmx_set(HOST_PAT, cpu_rdmsr(IA32_PAT));
    vmx_set(HOST_EFER, cpu_rdmsr(IA32_EFER));
    CHECK_HOST(&vm, HOST_PAT, 0x0202020202020202);
    CHECK_HOST(&vm, HOST_PAT, 0xff);
    CHECK_HOST(&vm, HOST_EFER, vmx_get(HOST_EFER) & ~EFER_LMA);
    CHECK_HOST(&vm, HOST_EFER, vmx_get(HOST_EFER) & ~EFER_LME);
    CHECK_HOST(&vm, HOST_EFER, vmx_get(HOST_EFER) | BIT(2));
    check_still_launches(&vm);
    CHECK_EQ(cpu_rdmsr(IA32_EFER), vmx_get(HOST_EFER));
}

static void host_address_space_size(void)
{
    struct vm vm;

    vm_start(&vm, l2_nothing, 0);
    CHECK_HOST(&vm, EXIT_CONTROLS, vmx_get(EXIT_CONTROLS) & ~EXITC_HOST_64);
    check_still_launches(&vm);
}

static void bad_guest_registers(void)
{
    struct vm vm;

    vm_start(&vm, l2_nothing, 0);
    CHECK_GUEST(&vm, GUEST_CR0, vmx_get(GUEST_CR0) & ~CR0_NE);
    CHECK_GUEST(&vm, GUEST_CR4, vmx_get(GUEST_CR4) & ~CR4_VMXE);
    CHECK_GUEST(&vm, GUEST_CR4, vmx_get(GUEST_CR4) | BIT(31));
    CHECK_GUEST(&vm, GUEST_CR4, vmx_get(GUEST_CR4) & ~CR4_PAE);
    CHECK_GUEST(&vm, GUEST_CR3, beyond_width());
    CHECK_GUEST(&vm, GUEST_RFLAGS, 0);
    CHECK_GUEST(&vm, GUEST_RFLAGS, RFLAGS_FIXED1 | BIT(3));
    CHECK_GUEST(&vm, GUEST_RFLAGS, RFLAGS_FIXED1 | BIT(17)); /* virtual-8086 mode in long mode */
    CHECK_GUEST(&vm, GUEST_SYSENTER_ESP, NONCANONICAL_ADDRESS);
    CHECK_GUEST(&vm, GUEST_SYSENTER_EIP, NONCANONICAL_ADDRESS);
    vm_control_set(ENTRY_CONTROLS, (uint32_t)ENTRY_LOAD_DEBUG);
    CHECK_GUEST(&vm, GUEST_DR7, 1ull << 32);
    check_still_launches(&vm);
}

static void bad_guest_segments(void)
{
    struct vm vm;

    vm_start(&vm, l2_nothing, 0);
    CHECK_GUEST(&vm, GUEST_CS_AR_BYTES, AR_UNUSABLE);
    CHECK_GUEST(&vm, GUEST_CS_AR_BYTES, vmx_get(GUEST_CS_AR_BYTES) | AR_DB); /* L and D together */
    CHECK_GUEST(&vm, GUEST_CS_AR_BYTES, vmx_get(GUEST_CS_AR_BYTES) & ~AR_P);
    CHECK_GUEST(&vm, GUEST_CS_AR_BYTES, vmx_get(GUEST_CS_AR_BYTES) & ~AR_S);
    CHECK_GUEST(&vm, GUEST_SS_AR_BYTES, vmx_get(GUEST_SS_AR_BYTES) | AR_DPL);
    CHECK_GUEST(&vm, GUEST_DS_AR_BYTES, vmx_get(GUEST_DS_AR_BYTES) & ~AR_P);
    CHECK_GUEST(&vm, GUEST_DS_LIMIT, 0xfffff123); /* G is set, so the low bits must be ones */
    CHECK_GUEST(&vm, GUEST_FS_BASE, NONCANONICAL_ADDRESS);
    CHECK_GUEST(&vm, GUEST_CS_BASE, 1ull << 32);
    CHECK_GUEST(&vm, GUEST_TR_AR_BYTES, AR_UNUSABLE);
    CHECK_GUEST(&vm, GUEST_TR_AR_BYTES, 0x89); /* available, not busy */
    CHECK_GUEST(&vm, GUEST_TR_SELECTOR, SEL_TSS | 4);
    CHECK_GUEST(&vm, GUEST_TR_BASE, NONCANONICAL_ADDRESS);
    CHECK_GUEST(&vm, GUEST_LDTR_AR_BYTES, 0x83); /* a TSS, not an LDT */
    CHECK_GUEST(&vm, GUEST_GDTR_LIMIT, 0x10000);
    CHECK_GUEST(&vm, GUEST_IDTR_LIMIT, 0x10000);
    CHECK_GUEST(&vm, GUEST_GDTR_BASE, NONCANONICAL_ADDRESS);
    CHECK_GUEST(&vm, GUEST_IDTR_BASE, NONCANONICAL_ADDRESS);
    check_still_launches(&vm);
}

static void bad_guest_non_register_state(void)
{
    struct vm vm;

    vm_start(&vm, l2_nothing, 0);
    CHECK_GUEST(&vm, GUEST_ACTIVITY_STATE, 4);
    CHECK_GUEST(&vm, GUEST_INTERRUPTIBILITY, BLOCKING_BY_STI); /* with IF clear */
    CHECK_GUEST(&vm, GUEST_INTERRUPTIBILITY, BIT(5));
    CHECK_GUEST(&vm, GUEST_INTERRUPTIBILITY, BIT(31));
    CHECK_GUEST(&vm, GUEST_PENDING_DEBUG, BIT(5));
    vmx_set(GUEST_RFLAGS, RFLAGS_FIXED1 | RFLAGS_IF);
    CHECK_GUEST(&vm, GUEST_INTERRUPTIBILITY, BLOCKING_BY_STI | BLOCKING_BY_MOV_SS);
    vmx_set(GUEST_RFLAGS, RFLAGS_FIXED1);
    vmx_set(GUEST_INTERRUPTIBILITY, BLOCKING_BY_MOV_SS);
    CHECK_GUEST(&vm, GUEST_ACTIVITY_STATE, ACTIVITY_HLT);
    vmx_set(GUEST_INTERRUPTIBILITY, 0);
    check_still_launches(&vm);
}

static void bad_link_pointer(void)
{
    uint64_t region = vmx_region_alloc();
    struct vm vm;

    vm_start(&vm, l2_nothing, 0);
    check_guest(&vm, VMCS_LINK_POINTER, region + 0x20, 4, __FILE__, __LINE__);
    check_guest(&vm, VMCS_LINK_POINTER, beyond_width(), 4, __FILE__, __LINE__);
    *(uint32_t *)region += 1;
    check_guest(&vm, VMCS_LINK_POINTER, region, 4, __FILE__, __LINE__);
    *(uint32_t *)region -= 1;
    check_still_launches(&vm);
}

static void bad_guest_msrs(void)
{
    struct vm vm;

    vm_start(&vm, l2_nothing, 0);
    vm_control_set(ENTRY_CONTROLS, (uint32_t)(ENTRY_LOAD_PAT | ENTRY_LOAD_EFER));
    vmx_set(GUEST_PAT, cpu_rdmsr(IA32_PAT));
    vmx_set(GUEST_EFER, cpu_rdmsr(IA32_EFER));
    CHECK_GUEST(&vm, GUEST_PAT, 2);
    CHECK_GUEST(&vm, GUEST_EFER, vmx_get(GUEST_EFER) & ~EFER_LMA);
    CHECK_GUEST(&vm, GUEST_EFER, vmx_get(GUEST_EFER) & ~EFER_LME);
    CHECK_GUEST(&vm, GUEST_EFER, vmx_get(GUEST_EFER) | BIT(1));
    check_still_launches(&vm);
}

/* A failed entry loads the host state like an exit does, and nothing of L2. SDM 3C 27.8 "VM-Entry Failures During or
 * After Loading Guest State" */
static void host_state_after_failure(void)
{
    uint64_t cr0 = cpu_read_cr0(), cr3 = cpu_read_cr3(), cr4 = cpu_read_cr4(), efer = cpu_rdmsr(IA32_EFER);
    struct table_register gdtr, idtr;
    uint16_t tr;
    struct vm vm;

    vmx_start();
    cr0 = cpu_read_cr0();
    cr4 = cpu_read_cr4();
    vm_create(&vm, l2_nothing, 0);
    vmx_set(GUEST_CR0, vmx_get(GUEST_CR0) | CR0_TS | CR0_AM);
    vmx_set(GUEST_DR7, 0x455);
    CHECK_GUEST(&vm, GUEST_RFLAGS, 0);
    CHECK_EQ(cpu_read_cr0(), cr0);
    CHECK_EQ(cpu_read_cr3(), cr3);
    CHECK_EQ(cpu_read_cr4(), cr4);
    CHECK_EQ(cpu_rdmsr(IA32_EFER), efer);
    asm volatile("sgdt %0; sidt %1; str %2" : "=m"(gdtr), "=m"(idtr), "=r"(tr));
    CHECK_EQ(gdtr.base, desc_gdt_base());
    CHECK_EQ(gdtr.limit, 0xffff);
    CHECK_EQ(idtr.base, desc_idt_base());
    CHECK_EQ(tr, SEL_TSS);
    CHECK_EQ(vm.exit.reason & EXIT_REASON_BASIC, EXIT_INVALID_GUEST_STATE);
    vmx_set(GUEST_CR0, cr0);
    vmx_set(GUEST_DR7, 0x400);
    check_still_launches(&vm);
}

static void l2_cpuid(void)
{
    (void)cpu_cpuid(0, 0);
}

/* A VMfail leaves exit information alone. SDM 3C 27.2 "Checks on VMX Controls and Host-State Area" */
static void failure_keeps_exit_information(void)
{
    struct vm vm;

    vm_start(&vm, l2_cpuid, 0);
    EXPECT_EXIT_SKIP(&vm, EXIT_CPUID);
    CHECK_CONTROLS(&vm, PIN_CONTROLS, 0);
    CHECK_EQ(vmx_get(EXIT_REASON), EXIT_CPUID);
    CHECK_HOST(&vm, HOST_CR4, 0);
    CHECK_EQ(vmx_get(EXIT_REASON), EXIT_CPUID);
    CHECK_EQ(vmx_get(VM_INSTRUCTION_ERROR), VMXERR_ENTRY_HOST_STATE);
    EXPECT_DONE(&vm);
    CHECK_EQ(vmx_get(VM_INSTRUCTION_ERROR), VMXERR_ENTRY_HOST_STATE);
}

const struct scenario entry_scenarios[] = {
    {"entry-reserved-controls", reserved_controls, NULL},
    {"entry-reserved-secondary-controls", reserved_secondary_controls, NULL},
    {"entry-bad-addresses", bad_addresses, NULL},
    {"entry-bad-msr-areas", bad_msr_areas, NULL},
    {"entry-control-combinations", control_combinations, NULL},
    {"entry-tpr-shadow-controls", tpr_shadow_controls, NULL},
    {"entry-bad-eptp", bad_eptp, without_ept},
    {"entry-bad-injection", bad_injection, NULL},
    {"entry-junk-behind-cleared-controls", junk_behind_cleared_controls, NULL},
    {"entry-bad-host-control-registers", bad_host_control_registers, NULL},
    {"entry-bad-host-segments", bad_host_segments, NULL},
    {"entry-bad-host-msrs", bad_host_msrs, NULL},
    {"entry-host-address-space-size", host_address_space_size, NULL},
    {"entry-bad-guest-registers", bad_guest_registers, NULL},
    {"entry-bad-guest-segments", bad_guest_segments, NULL},
    {"entry-bad-guest-non-register-state", bad_guest_non_register_state, NULL},
    {"entry-bad-link-pointer", bad_link_pointer, NULL},
    {"entry-bad-guest-msrs", bad_guest_msrs, NULL},
    {"entry-failure-keeps-exit-information", failure_keeps_exit_information, NULL},
    {"entry-host-state-after-failure", host_state_after_failure, NULL},
    {0},
};
