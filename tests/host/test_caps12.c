/* sources: nested/rules/caps12.c vmx/vmcs_exists.c nested/rules/vmcs12.c vmx/vmcs_table.c */
#include "tests/host/host.h"

#include <string.h>

#include "kernel/msr.h"
#include "nested/rules/caps12.h"
#include "nested/rules/vmcs12.h"
#include "tests/host/cpu_models.h"
#include "vmx/vmcs_exists.h"
#include "vmx/vmx_bits.h"

static struct vmx_caps offered_on(const struct vmx_caps *cpu)
{
    struct vmx_caps offered;

    caps12_compute(cpu, &offered);
    return offered;
}

static void assert_has(uint64_t word, uint64_t bits)
{
    assert_int_equal(word & bits, bits);
}

static void assert_lacks(uint64_t word, uint64_t bits)
{
    assert_int_equal(word & bits, 0);
}

/* The controls without which KVM does not load. */
static void test_kvm_required(void **state)
{
    struct vmx_caps offered = offered_on(&model_skylake_x);

    (void)state;
    assert_has(offered.pin.may, PIN_EXTERNAL_INTERRUPT | PIN_NMI);
    assert_has(offered.proc.may, PROC_HLT | PROC_CR3_LOAD | PROC_CR3_STORE | PROC_UNCOND_IO | PROC_MOV_DR |
                                     PROC_TSC_OFFSETTING | PROC_MWAIT | PROC_MONITOR | PROC_INVLPG | PROC_RDPMC |
                                     PROC_INTERRUPT_WINDOW | PROC_CR8_LOAD | PROC_CR8_STORE);
    assert_has(offered.exit.may, EXITC_SAVE_DEBUG | EXITC_ACK_INTERRUPT | EXITC_HOST_64);
    assert_has(offered.entry.may, ENTRY_LOAD_DEBUG | ENTRY_GUEST_64);
    assert_true(GET(offered.basic, VMX_BASIC_REGION_SIZE) <= 4096);
    assert_int_equal(GET(offered.basic, VMX_BASIC_MEMORY_TYPE), 6);
    assert_lacks(offered.basic, VMX_BASIC_32BIT_ADDRESSES | VMX_BASIC_DUAL_MONITOR | BIT(31));
    assert_has(offered.cr4_fixed1, BIT(13));
}

/* All that nested/ virtualises and this CPU has, one by one. */
static void test_all_that_is_virtualised(void **state)
{
    struct vmx_caps offered = offered_on(&model_skylake_x);

    (void)state;
    assert_has(offered.proc2.may, PROC2_APIC_ACCESS | PROC2_EPT | PROC2_DESC_TABLE | PROC2_RDTSCP | PROC2_X2APIC |
                                      PROC2_VPID | PROC2_WBINVD | PROC2_UNRESTRICTED | PROC2_APIC_REGISTER |
                                      PROC2_VIRTUAL_INTERRUPTS | PROC2_PAUSE_LOOP | PROC2_RDRAND | PROC2_INVPCID |
                                      PROC2_RDSEED | PROC2_XSAVES | PROC2_TSC_SCALING);
    assert_has(offered.exit.may,
               EXITC_SAVE_PAT | EXITC_LOAD_PAT | EXITC_SAVE_EFER | EXITC_LOAD_EFER | EXITC_SAVE_TIMER);
    assert_has(offered.entry.may, ENTRY_LOAD_PAT | ENTRY_LOAD_EFER);
    assert_has(offered.ept_vpid, EPT_CAP_UC);
    assert_has(offered.old_exit.may, EXITC_SAVE_TIMER | EXITC_SAVE_PAT);
    assert_int_equal(offered.proc.may | PROC_MONITOR_TRAP, model_skylake_x.proc.may | PROC_MONITOR_TRAP);
}

/* The controls that it uses for EPT, VPID, unrestricted guest and APIC virtualisation when there. */
static void test_kvm_wanted(void **state)
{
    struct vmx_caps offered = offered_on(&model_skylake_x);

    (void)state;
    assert_has(offered.pin.may, PIN_VIRTUAL_NMIS | PIN_PREEMPTION_TIMER);
    assert_has(offered.proc.may, PROC_RDTSC | PROC_TPR_SHADOW | PROC_USE_IO_BITMAPS | PROC_USE_MSR_BITMAPS |
                                     PROC_NMI_WINDOW | PROC_PAUSE | PROC_SECONDARY);
    assert_has(offered.proc2.may, PROC2_APIC_ACCESS | PROC2_EPT | PROC2_UNRESTRICTED | PROC2_VPID | PROC2_RDTSCP |
                                      PROC2_INVPCID | PROC2_XSAVES | PROC2_DESC_TABLE | PROC2_X2APIC | PROC2_WBINVD);
    assert_has(offered.ept_vpid, EPT_CAP_WALK4 | EPT_CAP_WB | EPT_CAP_INVEPT | EPT_CAP_INVEPT_ALL |
                                     EPT_CAP_INVEPT_SINGLE | EPT_CAP_2M | EPT_CAP_1G | EPT_CAP_AD | EPT_CAP_EXEC_ONLY);
    assert_has(offered.ept_vpid,
               VPID_CAP_INVVPID | VPID_CAP_ADDRESS | VPID_CAP_SINGLE | VPID_CAP_ALL | VPID_CAP_SINGLE_NONGLOBAL);
}

/* KVM refuses or complains when one of a pair is there without the other. */
static void test_entry_exit_pairs(void **state)
{
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(models); i++) {
        struct vmx_caps offered = offered_on(models[i]);

        assert_int_equal(!(offered.entry.may & ENTRY_LOAD_PAT), !(offered.exit.may & EXITC_LOAD_PAT));
        assert_int_equal(!(offered.entry.may & ENTRY_LOAD_EFER), !(offered.exit.may & EXITC_LOAD_EFER));
        assert_int_equal(!(offered.entry.may & ENTRY_LOAD_PERF_GLOBAL), !(offered.exit.may & EXITC_LOAD_PERF_GLOBAL));
    }
}

static void test_not_virtualised_is_not_offered(void **state)
{
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(models); i++) {
        struct vmx_caps all = *models[i], offered;

        all.pin.may = all.proc.may = all.proc2.may = all.exit.may = all.entry.may = UINT32_MAX;
        all.ept_vpid = all.misc = all.vmfunc = UINT64_MAX;
        all.proc3 = all.exit2 = 0;
        offered = offered_on(&all);
        assert_lacks(offered.proc.may, PROC_TERTIARY); /* though the CPU has it: none of them is virtualised */
        assert_lacks(offered.proc2.may, PROC2_ENCLS);
        assert_lacks(offered.exit.may, BIT(23) | BIT(31));
        assert_lacks(offered.entry.may, ENTRY_TO_SMM | ENTRY_NO_DUAL_MONITOR | BIT(16));
        assert_lacks(offered.ept_vpid, EPT_CAP_WALK5 | EPT_CAP_SUPERVISOR_SHADOW_STACK);
        assert_lacks(offered.misc, VMX_MISC_ACTIVITY_SHUTDOWN | VMX_MISC_PT | VMX_MISC_SMM_BLOCK_CTL |
                                       VMX_MISC_SMBASE_IN_SMM | VMX_MISC_MSEG_REVISION);
    }
}

/* A register that entries load and exits change comes with both controls or not at all. */
static void test_switched_in_pairs(void **state)
{
    static const struct {
        uint64_t exit, entry;
    } rows[] = {
        {EXITC_CLEAR_UINV, ENTRY_LOAD_UINV},
        {EXITC_LOAD_CET, ENTRY_LOAD_CET},
        {EXITC_LOAD_PKRS, ENTRY_LOAD_PKRS},
        {EXITC_LOAD_PERF_GLOBAL | EXITC_SAVE_PERF_GLOBAL, ENTRY_LOAD_PERF_GLOBAL},
    };

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
        for (unsigned lacking = 0; lacking < 3; lacking++) {
            struct vmx_caps cpu = model_sapphire_rapids, offered;

            if (lacking == 1)
                cpu.exit.may &= ~(uint32_t)(rows[i].exit & -rows[i].exit);
            if (lacking == 2)
                cpu.entry.may &= ~(uint32_t)rows[i].entry;
            offered = offered_on(&cpu);
            assert_int_equal(offered.exit.may & rows[i].exit, lacking ? 0 : rows[i].exit);
            assert_int_equal(offered.entry.may & rows[i].entry, lacking ? 0 : rows[i].entry);
        }
    struct vmx_caps offered = offered_on(&model_skylake_x);
    assert_lacks(offered.exit.may, EXITC_LOAD_PERF_GLOBAL); /* nothing saves it at exits that L0 handles */
    assert_lacks(offered.entry.may, ENTRY_LOAD_PERF_GLOBAL);
}

/* The tertiary controls: a list of 64 bits, of which MSR lists and IA32_SPEC_CTRL are virtualised. */
static void test_tertiary_controls(void **state)
{
    struct vmx_caps cpu = model_skylake_x, offered;
    uint64_t value;

    (void)state;
    cpu.proc.may |= PROC_TERTIARY;
    cpu.old_proc.may |= PROC_TERTIARY;
    cpu.proc3 = ~(PROC3_MSR_LIST | PROC3_SPEC_CTRL); /* HLAT, IPI virtualization ... */
    offered = offered_on(&cpu);
    assert_int_equal(offered.proc3, 0);
    assert_lacks(offered.proc.may | offered.old_proc.may, PROC_TERTIARY);
    assert_false(caps12_msr(&offered, IA32_VMX_PROCBASED_CTLS3, &value));
    assert_false(vmcs_field_exists(&offered, FIELD_INDEX_PROC3_CONTROLS));
    assert_false(vmcs_field_exists(&offered, FIELD_INDEX_MSR_DATA));
    cpu.proc3 = UINT64_MAX;
    offered = offered_on(&cpu);
    assert_int_equal(offered.proc3, PROC3_MSR_LIST | PROC3_SPEC_CTRL);
    assert_has(offered.proc.may, PROC_TERTIARY);
    assert_has(offered.old_proc.may, PROC_TERTIARY);
    assert_true(caps12_msr(&offered, IA32_VMX_PROCBASED_CTLS3, &value));
    assert_int_equal(value, PROC3_MSR_LIST | PROC3_SPEC_CTRL);
    assert_true(vmcs_field_exists(&offered, FIELD_INDEX_PROC3_CONTROLS));
    assert_true(vmcs_field_exists(&offered, FIELD_INDEX_MSR_DATA));
    cpu.proc.may &= ~(uint32_t)PROC_TERTIARY;
    assert_int_equal(offered_on(&cpu).proc3, 0);
}

/* FRED, Key Locker and SMX are hidden, and 5-level paging where linear addresses have 48 bits: so are the bits that
 * turn them on. */
static void test_hidden_bits_of_cr4(void **state)
{
    struct vmx_caps cpu = model_skylake_x;

    (void)state;
    cpu.cr4_fixed1 = UINT64_MAX;
    cpu.linear_bits = 57;
    assert_int_equal(offered_on(&cpu).cr4_fixed1, ~(BIT(14) | BIT(19) | BIT(32)));
    cpu.linear_bits = 48;
    assert_int_equal(offered_on(&cpu).cr4_fixed1, ~(BIT(12) | BIT(14) | BIT(19) | BIT(32)));
}

static void assert_within(struct ctl_caps offered, struct ctl_caps cpu)
{
    assert_int_equal(offered.must, cpu.must);
    assert_lacks(offered.may, ~(uint64_t)(cpu.may | cpu.must));
    assert_has(offered.may, offered.must);
}

static void assert_set_within(const struct vmx_caps *offered, const struct vmx_caps *cpu)
{
    assert_within(offered->pin, cpu->pin);
    assert_within(offered->proc, cpu->proc);
    assert_within(offered->proc2, cpu->proc2);
    assert_within(offered->exit, cpu->exit);
    assert_within(offered->entry, cpu->entry);
    assert_within(offered->old_pin, cpu->old_pin);
    assert_within(offered->old_proc, cpu->old_proc);
    assert_within(offered->old_exit, cpu->old_exit);
    assert_within(offered->old_entry, cpu->old_entry);
    assert_lacks(offered->ept_vpid, ~cpu->ept_vpid);
    assert_lacks(offered->misc, ~cpu->misc);
    assert_lacks(offered->vmfunc, ~cpu->vmfunc);
}

static void test_never_more_than_the_cpu(void **state)
{
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(models); i++) {
        struct vmx_caps offered = offered_on(models[i]);
        assert_set_within(&offered, models[i]);
    }
    for (unsigned round = 0; round < 20000; round++) {
        struct vmx_caps cpu, offered;

        host_random_fill(&cpu, sizeof cpu);
        offered = offered_on(&cpu);
        assert_set_within(&offered, &cpu);
    }
}

/* Nestor in Nestor: what is computed from an offered set is that set, except for bits that only the CPU knows. */
static void test_offering_is_stable(void **state)
{
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(models); i++) {
        struct vmx_caps once = offered_on(models[i]), twice = offered_on(&once);
        assert_memory_equal(&once, &twice, sizeof once);
    }
}

static void test_default1_bits_stay(void **state)
{
    struct vmx_caps offered = offered_on(&model_skylake_x);

    (void)state;
    assert_int_equal(offered.pin.must, 0x16);
    assert_int_equal(offered.old_proc.must, 0x0401e172);
    assert_int_equal(offered.proc.must, 0x04006172);
    assert_has(offered.proc.may, 0x04006172);
    assert_int_equal(offered.old_exit.must, 0x36dff);
    assert_int_equal(offered.exit.must, 0x36dfb);
    assert_int_equal(offered.old_entry.must, 0x11ff);
    assert_int_equal(offered.entry.must, 0x11fb);
    assert_has(offered.old_proc.may, PROC_CR3_LOAD | PROC_CR3_STORE);
}

static void test_basic(void **state)
{
    struct vmx_caps offered = offered_on(&model_skylake_x);

    (void)state;
    assert_int_equal(GET(offered.basic, VMX_BASIC_REVISION), VMCS12_REVISION);
    assert_int_equal(GET(offered.basic, VMX_BASIC_REGION_SIZE), 4096);
    assert_has(offered.basic, VMX_BASIC_INS_OUTS_INFO | VMX_BASIC_TRUE_CONTROLS);
    assert_lacks(offered.basic, VMX_BASIC_NO_ERROR_CODE_CHECK);
    offered = offered_on(&model_tigerlake);
    assert_has(offered.basic, VMX_BASIC_NO_ERROR_CODE_CHECK);
}

static void test_misc(void **state)
{
    struct vmx_caps offered = offered_on(&model_skylake_x);

    (void)state;
    assert_int_equal(GET(offered.misc, VMX_MISC_CR3_TARGETS), 4);
    assert_has(offered.misc, VMX_MISC_STORE_LMA | VMX_MISC_ACTIVITY_HLT | VMX_MISC_ACTIVITY_WAIT_SIPI |
                                 VMX_MISC_VMWRITE_ANY | VMX_MISC_INJECT_LENGTH0);
    assert_lacks(offered.misc, VMX_MISC_ACTIVITY_SHUTDOWN);
    offered = offered_on(&model_sandy_bridge);
    assert_lacks(offered.misc, VMX_MISC_VMWRITE_ANY | VMX_MISC_INJECT_LENGTH0);
}

static void test_poor_cpu_offers_less(void **state)
{
    struct vmx_caps offered = offered_on(&model_sandy_bridge);

    (void)state;
    assert_has(offered.proc2.may, PROC2_EPT | PROC2_UNRESTRICTED | PROC2_VPID);
    assert_lacks(offered.proc2.may, PROC2_RDRAND | PROC2_INVPCID | PROC2_PML | PROC2_TSC_SCALING |
                                        PROC2_VIRTUAL_INTERRUPTS | PROC2_APIC_REGISTER);
    assert_lacks(offered.ept_vpid, EPT_CAP_AD | EPT_CAP_1G);
    assert_has(offered.ept_vpid, EPT_CAP_WALK4 | EPT_CAP_2M | VPID_CAP_ADDRESS);
}

/* Advertised by the machine, but without effect there: hidden by clearing the CPU's bit. */
static void test_quirk_hides_monitor_trap(void **state)
{
    struct vmx_caps cpu = model_tigerlake;
    struct vmx_caps offered = offered_on(&cpu);

    (void)state;
    assert_has(offered.proc.may, PROC_MONITOR_TRAP);
    cpu.proc.may &= ~(uint32_t)PROC_MONITOR_TRAP;
    cpu.old_proc.may &= ~(uint32_t)PROC_MONITOR_TRAP;
    offered = offered_on(&cpu);
    assert_lacks(offered.proc.may | offered.old_proc.may, PROC_MONITOR_TRAP);
    offered = offered_on(&model_skylake_x);
    assert_lacks(offered.proc.may, PROC_MONITOR_TRAP);
}

static void test_dependents_drop(void **state)
{
    struct vmx_caps cpu = model_skylake_x, offered;
    uint64_t value;

    (void)state;
    cpu.proc2.may &= ~(uint32_t)PROC2_EPT;
    offered = offered_on(&cpu);
    assert_lacks(offered.ept_vpid, UINT32_MAX);
    assert_has(offered.ept_vpid, VPID_CAP_INVVPID);
    cpu.proc2.may &= ~(uint32_t)PROC2_VPID;
    offered = offered_on(&cpu);
    assert_int_equal(offered.ept_vpid, 0);
    assert_false(caps12_msr(&offered, IA32_VMX_EPT_VPID_CAP, &value));
    cpu.pin.may &= ~(uint32_t)PIN_PREEMPTION_TIMER;
    offered = offered_on(&cpu);
    assert_lacks(offered.exit.may | offered.old_exit.may, EXITC_SAVE_TIMER);
    cpu.proc.may &= ~(uint32_t)PROC_SECONDARY;
    offered = offered_on(&cpu);
    assert_int_equal(offered.proc2.may, 0);
    assert_false(caps12_msr(&offered, IA32_VMX_PROCBASED_CTLS2, &value));
}

/* The timer's rate says nothing without the timer; the longest MSR list is the CPU's. */
static void test_misc_numbers(void **state)
{
    struct vmx_caps cpu = model_skylake_x, offered;

    (void)state;
    cpu.misc |= PUT(5, VMX_MISC_TIMER_RATE) | PUT(3, VMX_MISC_MSR_LIST_MAX);
    offered = offered_on(&cpu);
    assert_int_equal(GET(offered.misc, VMX_MISC_TIMER_RATE), 5);
    assert_int_equal(GET(offered.misc, VMX_MISC_MSR_LIST_MAX), 3);
    cpu.pin.may &= ~(uint32_t)PIN_PREEMPTION_TIMER;
    offered = offered_on(&cpu);
    assert_int_equal(GET(offered.misc, VMX_MISC_TIMER_RATE), 0);
    assert_has(offered.misc, VMX_MISC_STORE_LMA);
}

static void test_ept_without_vpid(void **state)
{
    struct vmx_caps cpu = model_skylake_x, offered;
    uint64_t value;

    (void)state;
    cpu.proc2.may &= ~(uint32_t)PROC2_VPID;
    offered = offered_on(&cpu);
    assert_true(caps12_msr(&offered, IA32_VMX_EPT_VPID_CAP, &value));
    assert_int_equal(value >> 32, 0);
    assert_has(value, EPT_CAP_WALK4);
}

static void test_msr_values(void **state)
{
    struct vmx_caps offered = offered_on(&model_skylake_x);
    uint64_t value;

    (void)state;
    assert_true(caps12_msr(&offered, IA32_VMX_BASIC, &value));
    assert_int_equal(value, offered.basic);
    assert_true(caps12_msr(&offered, IA32_VMX_TRUE_PROCBASED_CTLS, &value));
    assert_int_equal(value, (uint64_t)offered.proc.may << 32 | offered.proc.must);
    assert_true(caps12_msr(&offered, IA32_VMX_PROCBASED_CTLS, &value));
    assert_int_equal(value, (uint64_t)offered.old_proc.may << 32 | offered.old_proc.must);
    assert_true(caps12_msr(&offered, IA32_VMX_CR4_FIXED1, &value));
    assert_int_equal(value, model_skylake_x.cr4_fixed1);
    assert_true(caps12_msr(&offered, IA32_VMX_EPT_VPID_CAP, &value));
    assert_int_equal(value, offered.ept_vpid);
}

static void test_msrs_that_exist(void **state)
{
    struct vmx_caps offered = offered_on(&model_skylake_x), cpu = model_skylake_x;
    uint64_t value;

    (void)state;
    for (uint32_t msr = IA32_VMX_BASIC; msr <= IA32_VMX_TRUE_ENTRY_CTLS; msr++)
        assert_true(caps12_msr(&offered, msr, &value));
    assert_false(caps12_msr(&offered, IA32_VMX_BASIC - 1, &value));
    assert_false(caps12_msr(&offered, IA32_VMX_PROCBASED_CTLS3, &value));
    assert_false(caps12_msr(&offered, 0x493, &value));
    assert_false(caps12_msr(&offered, UINT32_MAX, &value));
    assert_int_equal(caps12_msr(&offered, IA32_VMX_VMFUNC, &value), !!(offered.proc2.may & PROC2_VMFUNC));
    cpu.basic &= ~VMX_BASIC_TRUE_CONTROLS;
    offered = offered_on(&cpu);
    for (uint32_t msr = IA32_VMX_TRUE_PINBASED_CTLS; msr <= IA32_VMX_TRUE_ENTRY_CTLS; msr++)
        assert_false(caps12_msr(&offered, msr, &value));
}

/* The highest index is one that a VMREAD sweep over the offered fields finds. */
static void test_vmcs_enum(void **state)
{
    struct vmx_caps offered = offered_on(&model_skylake_x);

    (void)state;
    assert_int_equal(offered.vmcs_enum, 0x32); /* TSC multiplier, 2032h */
    for (unsigned i = 0; i < ARRAY_SIZE(models); i++) {
        bool found = false;

        offered = offered_on(models[i]);
        for (unsigned row = 0; row < FIELD_COUNT; row++) {
            if (!vmcs_field_exists(&offered, row))
                continue;
            assert_true((vmcs_fields[row].encoding & 0x3fe) <= offered.vmcs_enum);
            found |= (vmcs_fields[row].encoding & 0x3fe) == offered.vmcs_enum;
        }
        assert_true(found);
    }
}

static void test_fields_follow_features(void **state)
{
    struct vmx_caps offered = offered_on(&model_skylake_x);

    (void)state;
    assert_true(vmcs_field_exists(&offered, FIELD_INDEX_GUEST_RIP));
    assert_true(vmcs_field_exists(&offered, FIELD_INDEX_EPT_POINTER));
    assert_true(vmcs_field_exists(&offered, FIELD_INDEX_TSC_MULTIPLIER));
    assert_true(vmcs_field_exists(&offered, FIELD_INDEX_EOI_EXIT_BITMAP2));
    assert_false(vmcs_field_exists(&offered, FIELD_INDEX_GUEST_PERF_GLOBAL_CTRL));
    assert_false(vmcs_field_exists(&offered, FIELD_INDEX_HOST_PERF_GLOBAL_CTRL));
    assert_false(vmcs_field_exists(&offered, FIELD_COUNT));
    offered = offered_on(&model_sandy_bridge);
    assert_false(vmcs_field_exists(&offered, FIELD_INDEX_TSC_MULTIPLIER));
    assert_false(vmcs_field_exists(&offered, FIELD_INDEX_EOI_EXIT_BITMAP2));
    assert_false(vmcs_field_exists(&offered, FIELD_INDEX_PLE_WINDOW));
    assert_true(vmcs_field_exists(&offered, FIELD_INDEX_GUEST_PDPTE3));
    assert_true(vmcs_field_exists(&offered, FIELD_INDEX_VPID));
}

static void test_width_masks_and_trim(void **state)
{
    struct vmcs12 v;

    (void)state;
    assert_int_equal(vmcs12_width_mask(FIELD_INDEX_VPID), 0xffff);
    assert_int_equal(vmcs12_width_mask(FIELD_INDEX_PIN_CONTROLS), 0xffffffff);
    assert_true(vmcs12_width_mask(FIELD_INDEX_MSR_BITMAP) == UINT64_MAX);
    assert_true(vmcs12_width_mask(FIELD_INDEX_GUEST_RIP) == UINT64_MAX);
    memset(&v, 0xff, sizeof v);
    vmcs12_trim(&v);
    for (unsigned i = 0; i < FIELD_COUNT; i++)
        assert_true(v.field[i] == vmcs12_width_mask(i));
    assert_int_equal(v.GUEST_CS_SELECTOR, 0xffff);
}

static void test_secondary_controls_count_when_activated(void **state)
{
    struct vmcs12 v = {.PROC2_CONTROLS = PROC2_EPT};

    (void)state;
    assert_int_equal(vmcs12_proc2(&v), 0);
    v.PROC_CONTROLS = PROC_SECONDARY;
    assert_int_equal(vmcs12_proc2(&v), PROC2_EPT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kvm_required),
        cmocka_unit_test(test_kvm_wanted),
        cmocka_unit_test(test_all_that_is_virtualised),
        cmocka_unit_test(test_entry_exit_pairs),
        cmocka_unit_test(test_not_virtualised_is_not_offered),
        cmocka_unit_test(test_switched_in_pairs),
        cmocka_unit_test(test_tertiary_controls),
        cmocka_unit_test(test_hidden_bits_of_cr4),
        cmocka_unit_test(test_never_more_than_the_cpu),
        cmocka_unit_test(test_offering_is_stable),
        cmocka_unit_test(test_default1_bits_stay),
        cmocka_unit_test(test_basic),
        cmocka_unit_test(test_misc),
        cmocka_unit_test(test_poor_cpu_offers_less),
        cmocka_unit_test(test_quirk_hides_monitor_trap),
        cmocka_unit_test(test_dependents_drop),
        cmocka_unit_test(test_misc_numbers),
        cmocka_unit_test(test_ept_without_vpid),
        cmocka_unit_test(test_msr_values),
        cmocka_unit_test(test_msrs_that_exist),
        cmocka_unit_test(test_vmcs_enum),
        cmocka_unit_test(test_fields_follow_features),
        cmocka_unit_test(test_width_masks_and_trim),
        cmocka_unit_test(test_secondary_controls_count_when_activated),
    };
    return cmocka_run_group_tests_name("caps12", tests, NULL, NULL);
}
