/* sources: vmx/caps_missing.c */
/* Nestor's own demands on the CPU: what caps_settle() makes of controls that are wanted, and the name of what is
 * missing. What L1 is offered: test_caps12.c. */
#include "tests/host/host.h"

#include "kernel/msr.h"
#include "tests/host/cpu_models.h"
#include "vmx/caps.h"
#include "vmx/vmx_bits.h"

static void test_settle_and_accept(void **state)
{
    struct ctl_caps caps = {.must = 0x16, .may = 0x7f};

    (void)state;
    assert_int_equal(caps_settle(caps, 0x81), 0x17);
    assert_true(caps_accepts(caps, 0x17));
    assert_false(caps_accepts(caps, 0x15));
    assert_false(caps_accepts(caps, 0x96));
    assert_false(caps_accepts(caps, 0x100000016ull));
}

static void test_missing_is_named(void **state)
{
    struct vmx_caps cpu = model_skylake_x;

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(models); i++)
        assert_null(caps_missing(models[i]));
    cpu.proc2.may &= ~(uint32_t)PROC2_UNRESTRICTED;
    assert_string_equal(caps_missing(&cpu), "unrestricted guest");
    cpu.proc2.may &= ~(uint32_t)PROC2_EPT;
    cpu.ept_vpid = 0;
    assert_string_equal(caps_missing(&cpu), "EPT");
    cpu.proc2.may = 0;
    cpu.proc.may &= ~(uint32_t)PROC_SECONDARY;
    assert_string_equal(caps_missing(&cpu), "secondary processor-based controls");
    cpu.proc.may &= ~(uint32_t)PROC_USE_MSR_BITMAPS;
    assert_string_equal(caps_missing(&cpu), "MSR bitmaps");
    cpu = model_skylake_x;
    cpu.ept_vpid &= ~EPT_CAP_WALK4;
    assert_string_equal(caps_missing(&cpu), "4-level EPT");
}

/* Each bit that Nestor needs, taken away alone, has a name. */
static void test_each_missing_bit_is_named(void **state)
{
    static const uint64_t ept_bits[] = {EPT_CAP_WALK4,         EPT_CAP_WB,        EPT_CAP_2M, EPT_CAP_INVEPT,
                                        EPT_CAP_INVEPT_SINGLE, EPT_CAP_INVEPT_ALL};
    static const uint32_t exit_bits[] = {EXITC_HOST_64, EXITC_SAVE_EFER, EXITC_LOAD_EFER, EXITC_SAVE_PAT,
                                         EXITC_LOAD_PAT};
    static const uint32_t entry_bits[] = {ENTRY_GUEST_64, ENTRY_LOAD_EFER, ENTRY_LOAD_PAT};

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(ept_bits); i++) {
        struct vmx_caps cpu = model_skylake_x;
        cpu.ept_vpid &= ~ept_bits[i];
        assert_non_null(caps_missing(&cpu));
    }
    for (unsigned i = 0; i < ARRAY_SIZE(exit_bits); i++) {
        struct vmx_caps cpu = model_skylake_x;
        cpu.exit.may &= ~exit_bits[i];
        assert_non_null(caps_missing(&cpu));
    }
    for (unsigned i = 0; i < ARRAY_SIZE(entry_bits); i++) {
        struct vmx_caps cpu = model_skylake_x;
        cpu.entry.may &= ~entry_bits[i];
        assert_non_null(caps_missing(&cpu));
    }
}
int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_settle_and_accept),
        cmocka_unit_test(test_missing_is_named),
        cmocka_unit_test(test_each_missing_bit_is_named),
    };
    return cmocka_run_group_tests_name("caps", tests, NULL, NULL);
}
