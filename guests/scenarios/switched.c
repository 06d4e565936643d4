/* Registers that entries load and exits change when controls say so: CET's, IA32_PKRS and UINV, each with all four
 * settings of its two controls; the lists of MSRs beside them, and entries that fail.
 * The CPU may lack them: then each is skipped. */
#include "guests/lib/cpu.h"
#include "guests/lib/desc.h"
#include "guests/lib/multiboot.h"
#include "guests/lib/page.h"
#include "guests/scenarios/l1_legacy.h"
#include "guests/scenarios/scenario.h"

#define NO_FIELD 0
#define UINV_SHIFT 32

static const struct kind {
    const char *name;
    uint32_t entry, exit; /* controls */
    uint32_t guest, host; /* fields */
    uint32_t msr;         /* 0: none */
    unsigned shift;       /* of the field's value in the MSR */
    uint64_t values[4];
} kinds[] = {
    {"IA32_S_CET",
     ENTRY_LOAD_CET,
     EXITC_LOAD_CET,
     GUEST_S_CET,
     HOST_S_CET,
     IA32_S_CET,
     0,
     {0x12345000, 0xffff800000001000, 0x7ffffffff000, 0x23456000}},
    {"IA32_INTERRUPT_SSP_TABLE_ADDR",
     ENTRY_LOAD_CET,
     EXITC_LOAD_CET,
     GUEST_SSP_TABLE,
     HOST_SSP_TABLE,
     IA32_INTERRUPT_SSP_TABLE_ADDR,
     0,
     {0x1000, 0xffffffff80000000, 0x7ffffffffff8, 0x34560}},
    {"SSP", ENTRY_LOAD_CET, EXITC_LOAD_CET, GUEST_SSP, HOST_SSP, 0, 0, {0x4000, 0xffff800000002ff8, 0x12344, 0x5000}},
    {"IA32_PKRS",
     ENTRY_LOAD_PKRS,
     EXITC_LOAD_PKRS,
     GUEST_PKRS,
     HOST_PKRS,
     IA32_PKRS,
     0,
     {0x55555554, 0xaaaaaaa8, 0x12345678, 0xffffffff}},
    {"UINV",
     ENTRY_LOAD_UINV,
     EXITC_CLEAR_UINV,
     GUEST_UINV,
     NO_FIELD,
     IA32_UINTR_MISC,
     UINV_SHIFT,
     {0x20, 0x81, 0xfe, 0x47}},
};
enum { OF_L1, OF_L2, WRITTEN_BY_L2, OF_HOST };

static bool has(const struct kind *kind)
{
    return vm_control_offered(ENTRY_CONTROLS, kind->entry) && vm_control_offered(EXIT_CONTROLS, kind->exit);
}

static const char *without_all(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++)
        if (has(&kinds[i]))
            return NULL;
    return "nothing that is switched";
}

static volatile uint64_t l2_found[2];
static uint64_t l2_msr, l2_write;
static bool l2_writes;

/* An access that Nestor keeps for itself comes between: L2 must not see what the exit made of the register. */
static void l2_use(void)
{
    if (l2_msr)
        l2_found[0] = cpu_rdmsr((uint32_t)l2_msr);
    (void)cpu_rdmsr(IA32_MTRR_DEF_TYPE);
    if (!l2_msr)
        return;
    l2_found[1] = cpu_rdmsr((uint32_t)l2_msr);
    if (l2_writes)
        cpu_wrmsr((uint32_t)l2_msr, l2_write);
    (void)cpu_rdmsr(IA32_MTRR_DEF_TYPE);
}

static uint64_t in_msr(const struct kind *kind, unsigned which)
{
    return kind->values[which] << kind->shift;
}

static uint64_t l1_value(const struct kind *kind)
{
    return kind->msr ? cpu_rdmsr(kind->msr) : 0;
}

static void set_l1(const struct kind *kind, uint64_t value)
{
    if (kind->msr)
        cpu_wrmsr(kind->msr, value);
}

static void set_kind(struct vm *vm, const struct kind *kind, unsigned controls)
{
    vm_control_clear(ENTRY_CONTROLS, kind->entry);
    vm_control_clear(EXIT_CONTROLS, kind->exit);
    if (controls & 1)
        vm_control_set(ENTRY_CONTROLS, kind->entry);
    if (controls & 2)
        vm_control_set(EXIT_CONTROLS, kind->exit);
    vmx_set(kind->guest, kind->values[OF_L2]);
    if (kind->host)
        vmx_set(kind->host, kind->values[OF_HOST]);
    l2_msr = kind->msr;
    l2_write = in_msr(kind, WRITTEN_BY_L2);
    vm_set_code(vm, l2_use);
}

/* L2 starts with its field or with what L1 had, and L1 goes on with its field or with what L2 had; the guest's field
 * has what L2 had, whatever the controls. SDM 3C 28.3.1 "Saving Control Registers, Debug Registers, and MSRs" */
static void check_kind(struct vm *vm, const struct kind *kind, unsigned controls)
{
    uint64_t before = in_msr(kind, controls & 1 ? OF_L2 : OF_L1);
    uint64_t last = l2_writes ? in_msr(kind, WRITTEN_BY_L2) : before;
    uint64_t after = !(controls & 2) ? last : kind->host ? in_msr(kind, OF_HOST) : 0;

    set_kind(vm, kind, controls);
    set_l1(kind, in_msr(kind, OF_L1));
    EXPECT_DONE(vm);
    CHECK_EQ(vmx_get(kind->guest), last >> kind->shift);
    CHECK_EQ(l2_found[0], before);
    CHECK_EQ(l2_found[1], before);
    CHECK_EQ(l1_value(kind), after);
    if (check_failures())
        print("# %s with controls %u\n", kind->name, controls);
}

static void all_settings(void)
{
    struct vm vm;

    vm_start(&vm, l2_use, 0);
    for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
        if (!has(&kinds[i]) || !kinds[i].msr)
            continue;
        uint64_t own = l1_value(&kinds[i]);
        for (unsigned controls = 0; controls < 4; controls++)
            for (unsigned writes = 0; writes < 2; writes++) {
                l2_writes = writes;
                check_kind(&vm, &kinds[i], controls);
            }
        set_kind(&vm, &kinds[i], 0);
        set_l1(&kinds[i], own);
    }
}

/* No MSR has SSP: what an exit loaded is what the next one saves, where no entry loads it. */
static void shadow_stack_pointer(void)
{
    const struct kind *ssp = &kinds[2];
    struct vm vm;

    if (!has(ssp))
        return;
    vm_start(&vm, l2_use, 0);
    set_kind(&vm, ssp, 3);
    EXPECT_DONE(&vm);
    CHECK_EQ(vmx_get(GUEST_SSP), ssp->values[OF_L2]);
    set_kind(&vm, ssp, 2);
    EXPECT_DONE(&vm);
    CHECK_EQ(vmx_get(GUEST_SSP), ssp->values[OF_HOST]);
    set_kind(&vm, ssp, 1);
    EXPECT_DONE(&vm);
    CHECK_EQ(vmx_get(GUEST_SSP), ssp->values[OF_L2]);
    set_kind(&vm, ssp, 0);
    vmx_set(GUEST_SSP, ssp->values[OF_L1]);
    EXPECT_DONE(&vm);
    CHECK_EQ(vmx_get(GUEST_SSP), ssp->values[OF_L2]);
    set_kind(&vm, ssp, 3);
    vmx_set(HOST_SSP, 0);
    vmx_set(HOST_S_CET, 0);
    vmx_set(HOST_SSP_TABLE, 0);
    EXPECT_DONE(&vm);
}

void protected_read(void);
void modes_exits(void);

/* 32 bits without paging. */
static void enter_protected_mode(struct vm *vm)
{
    vm_set_code(vm, protected_read);
    vm_secondary_set((uint32_t)PROC2_UNRESTRICTED);
    vm_control_clear(ENTRY_CONTROLS, (uint32_t)ENTRY_GUEST_64);
    vm_control_set(ENTRY_CONTROLS, (uint32_t)ENTRY_LOAD_EFER);
    vm_control_set(EXIT_CONTROLS, (uint32_t)(EXITC_SAVE_EFER | EXITC_LOAD_EFER));
    vmx_set(GUEST_EFER, 0);
    vmx_set(HOST_EFER, cpu_rdmsr(IA32_EFER));
    vmx_set(GUEST_CR0, CR0_PE | CR0_NE | CR0_ET);
    vmx_set(GUEST_CS_SELECTOR, SEL_CODE32);
    vmx_set(GUEST_CS_AR_BYTES, 0xc09b);
    vm->regs[RBX] = l2_msr;
}

/* All of CET's at once, as one pair of controls has them. */
static void set_cet(struct vm *vm, unsigned controls, unsigned of_l2, unsigned of_host)
{
    for (unsigned i = 0; kinds[i].entry == ENTRY_LOAD_CET; i++) {
        set_kind(vm, &kinds[i], controls);
        vmx_set(kinds[i].guest, kinds[i].values[of_l2]);
        vmx_set(kinds[i].host, kinds[i].values[of_host]);
    }
}

/* L1 has no CET state again. */
static void clear_l1(void)
{
    struct vm vm;

    vm_start(&vm, l2_use, 0);
    set_cet(&vm, 3, OF_L1, OF_L1);
    for (unsigned i = 0; kinds[i].entry == ENTRY_LOAD_CET; i++)
        vmx_set(kinds[i].host, 0);
    l2_msr = 0;
    EXPECT_DONE(&vm);
}

/* L1 has the values OF_L2, whose upper halves an entry to 32 bits must not load, except for the table's. */
static void check_in_32_bits(const struct kind *kind, unsigned controls)
{
    uint64_t expected = kind->values[controls & 1 ? OF_HOST : OF_L2];
    struct vm vm;

    vm_start(&vm, l2_use, VM_EPT);
    set_cet(&vm, 3, OF_L1, OF_L2);
    l2_msr = 0;
    EXPECT_DONE(&vm);
    set_cet(&vm, controls, OF_HOST, OF_L1);
    l2_msr = kind->msr;
    enter_protected_mode(&vm);
    EXPECT_DONE(&vm);
    CHECK_EQ(vmx_get(kind->guest), expected);
    if (kind->msr) {
        CHECK_EQ(vm.regs[RDI] << 32 | vm.regs[RSI], expected);
        CHECK_EQ(cpu_rdmsr(kind->msr), controls & 2 ? kind->values[OF_L1] : expected);
    }
    vmx_stop();
    if (check_failures())
        print("# %s with controls %u\n", kind->name, controls);
}

/* An entry judges only the registers that it loads: an L2 of 32 bits runs with addresses of 64 bits that L1 had. */
static void in_32_bits(void)
{
    if (!has(&kinds[0]))
        return;
    for (unsigned controls = 0; controls < 4; controls++)
        for (unsigned i = 0; kinds[i].entry == ENTRY_LOAD_CET; i++)
            check_in_32_bits(&kinds[i], controls);
    clear_l1();
}

/* L1 goes on with addresses of 64 bits, and leaves IA-32e mode with them. */
static void then_l1_in_32_bits(void)
{
    struct vm vm;

    if (!has(&kinds[0]))
        return;
    vm_start(&vm, l2_use, 0);
    set_cet(&vm, 2, OF_HOST, OF_L2);
    l2_msr = 0;
    EXPECT_DONE(&vm);
    vmx_stop();
    legacy_reset();
    legacy_run(modes_exits);
    CHECK_EQ(legacy_trap.vector, LEGACY_NO_TRAP);
    CHECK_EQ(cpu_rdmsr(IA32_S_CET), kinds[0].values[OF_L2]);
    clear_l1();
}

struct msr_entry {
    uint32_t index, reserved;
    uint64_t value;
};

/* The lists come behind the registers: at entry over the guest's fields, at the exit over the host's; and what is
 * stored is L2's. SDM 3C 27.4 "Loading MSRs", 28.4 "Saving MSRs", 28.6 "Loading MSRs" */
static void check_lists(struct vm *vm, struct msr_entry *list, const struct kind *kind, unsigned controls)
{
    uint64_t own = l1_value(kind);

    l2_writes = false;
    set_kind(vm, kind, controls);
    set_l1(kind, in_msr(kind, OF_L1));
    list[0] = (struct msr_entry){kind->msr, 0, in_msr(kind, WRITTEN_BY_L2)};
    list[1] = (struct msr_entry){kind->msr, 0, 0};
    list[2] = (struct msr_entry){kind->msr, 0, in_msr(kind, OF_L2)};
    EXPECT_DONE(vm);
    CHECK_EQ(l2_found[0], in_msr(kind, WRITTEN_BY_L2));
    CHECK_EQ(l2_found[1], in_msr(kind, WRITTEN_BY_L2));
    CHECK_EQ(list[1].value, in_msr(kind, WRITTEN_BY_L2));
    CHECK_EQ(l1_value(kind), in_msr(kind, OF_L2));
    set_kind(vm, kind, 0);
    set_l1(kind, own);
    if (check_failures())
        print("# %s with controls %u\n", kind->name, controls);
}

static void lists(void)
{
    struct msr_entry *list;
    struct vm vm;

    vm_start(&vm, l2_use, 0);
    list = page_alloc();
    vmx_set(ENTRY_MSR_LOAD_ADDR, (uint64_t)&list[0]);
    vmx_set(ENTRY_MSR_LOAD_COUNT, 1);
    vmx_set(EXIT_MSR_STORE_ADDR, (uint64_t)&list[1]);
    vmx_set(EXIT_MSR_STORE_COUNT, 1);
    vmx_set(EXIT_MSR_LOAD_ADDR, (uint64_t)&list[2]);
    vmx_set(EXIT_MSR_LOAD_COUNT, 1);
    for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++)
        for (unsigned controls = 0; has(&kinds[i]) && kinds[i].msr && controls < 4; controls++)
            check_lists(&vm, list, &kinds[i], controls);
}

/* An entry that fails in its guest state loads L1's registers as an exit does. SDM 3C 27.8 "VM-Entry Failures During
 * or After Loading Guest State" */
static void failed_entries(void)
{
    struct vm vm;

    vm_start(&vm, l2_use, 0);
    for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
        const struct kind *kind = &kinds[i];
        if (!has(kind))
            continue;
        uint64_t own = l1_value(kind);
        set_kind(&vm, kind, 2);
        set_l1(kind, in_msr(kind, OF_L1));
        vmx_set(GUEST_RFLAGS, 0);
        REQUIRE_EQ(vm_enter(&vm), 0);
        CHECK_EQ(vm.exit.reason, EXIT_REASON_ENTRY_FAILURE | EXIT_INVALID_GUEST_STATE);
        if (kind->msr)
            CHECK_EQ(l1_value(kind), kind->host ? in_msr(kind, OF_HOST) : 0);
        CHECK_EQ(vmx_get(kind->guest), kind->values[OF_L2]);
        set_kind(&vm, kind, 2);
        EXPECT_DONE(&vm);
        set_kind(&vm, kind, 0);
        set_l1(kind, own);
    }
}

static void l2_cpuids(void)
{
    for (;;)
        (void)cpu_cpuid(0, 0);
}

/* The failed entry made L1's registers its host fields'; exits of another L2 make them that one's, each time. */
static void steady_after_failed_entry(void)
{
    struct vm vm[2];

    vmx_start();
    vm_create(&vm[0], l2_use, 0);
    vm_create(&vm[1], l2_cpuids, 0);
    for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
        const struct kind *kind = &kinds[i];
        if (!has(kind) || !kind->msr)
            continue;
        uint64_t own = l1_value(kind);
        vm_load(&vm[1]);
        set_kind(&vm[1], kind, 3);
        vm_set_code(&vm[1], l2_cpuids);
        for (unsigned turn = 0; turn < 4; turn++)
            EXPECT_EXIT_SKIP(&vm[1], EXIT_CPUID);
        vm_load(&vm[0]);
        set_kind(&vm[0], kind, 2);
        vmx_set(GUEST_RFLAGS, 0);
        REQUIRE_EQ(vm_enter(&vm[0]), 0);
        CHECK_EQ(vm[0].exit.reason, EXIT_REASON_ENTRY_FAILURE | EXIT_INVALID_GUEST_STATE);
        vm_load(&vm[1]);
        for (unsigned turn = 0; turn < 4; turn++) {
            set_l1(kind, in_msr(kind, OF_L1));
            EXPECT_EXIT_SKIP(&vm[1], EXIT_CPUID);
            CHECK_EQ(l1_value(kind), kind->host ? in_msr(kind, OF_HOST) : 0);
        }
        set_kind(&vm[1], kind, 0);
        set_l1(kind, own);
        if (check_failures())
            print("# %s\n", kind->name);
    }
}

static const struct {
    uint32_t control; /* of EXIT_CONTROLS for a host's field, else of ENTRY_CONTROLS */
    uint32_t field;
    uint64_t value;
} bad[] = {
    {EXITC_LOAD_CET, HOST_S_CET, BIT(6)},
    {EXITC_LOAD_CET, HOST_S_CET, BIT(10) | BIT(11)},
    {EXITC_LOAD_CET, HOST_S_CET, NONCANONICAL_ADDRESS},
    {EXITC_LOAD_CET, HOST_SSP, 1},
    {EXITC_LOAD_CET, HOST_SSP, NONCANONICAL_ADDRESS},
    {EXITC_LOAD_CET, HOST_SSP_TABLE, NONCANONICAL_ADDRESS},
    {EXITC_LOAD_PKRS, HOST_PKRS, BIT(32)},
    {ENTRY_LOAD_CET, GUEST_S_CET, NONCANONICAL_ADDRESS},
    {ENTRY_LOAD_CET, GUEST_SSP, 2},
    {ENTRY_LOAD_CET, GUEST_SSP, NONCANONICAL_ADDRESS},
    {ENTRY_LOAD_CET, GUEST_SSP_TABLE, NONCANONICAL_ADDRESS},
    {ENTRY_LOAD_PKRS, GUEST_PKRS, BIT(63)},
    {ENTRY_LOAD_UINV, GUEST_UINV, 0x100},
};

static bool is_host(uint32_t field)
{
    return field == HOST_S_CET || field == HOST_SSP || field == HOST_SSP_TABLE || field == HOST_PKRS;
}

/* Bochs 3.1 keeps 32 bits of IA32_PKRS, and so finds nothing wrong with the others. */
static bool is_exact(uint32_t field)
{
    return multiboot_find_carveout() || (field != HOST_PKRS && field != GUEST_PKRS);
}

static void checks(void)
{
    struct vm vm;

    vm_start(&vm, l2_use, 0);
    l2_msr = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        bool host = is_host(bad[i].field);
        enum vmcs_field controls = host ? EXIT_CONTROLS : ENTRY_CONTROLS;
        if (!vm_control_offered(controls, bad[i].control) || !is_exact(bad[i].field))
            continue;
        vmx_set(bad[i].field, bad[i].value); /* without its control it is not looked at */
        vm_set_code(&vm, l2_use);
        EXPECT_DONE(&vm);
        vmx_set(bad[i].field, bad[i].value);
        vm_control_set(controls, bad[i].control);
        vm_set_code(&vm, l2_use);
        CHECK_EQ(vm_enter(&vm), host ? VMXERR_ENTRY_HOST_STATE : 0);
        if (!host)
            CHECK_EQ(vm.exit.reason, EXIT_REASON_ENTRY_FAILURE | EXIT_INVALID_GUEST_STATE);
        if (check_failures())
            print("# field %x\n", bad[i].field);
        vmx_set(bad[i].field, 0);
        vm_control_clear(controls, bad[i].control);
    }
}

const struct scenario switched_scenarios[] = {
    {"switched-all-settings", all_settings, without_all},
    {"switched-shadow-stack-pointer", shadow_stack_pointer, without_all},
    {"switched-in-32-bits", in_32_bits, without_all},
    {"switched-then-l1-in-32-bits", then_l1_in_32_bits, without_all},
    {"switched-lists", lists, without_all},
    {"switched-failed-entries", failed_entries, without_all},
    {"switched-checks", checks, without_all},
    {"switched-steady-after-failed-entry", steady_after_failed_entry, without_all},
    {0},
};
