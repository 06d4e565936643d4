/* sources: nested/wrong_bits.c kernel/format.c */
#include "tests/host/host.h"

#include <string.h>

#include "nested/wrong_bits.h"
#include "vmx/vmcs_table.h"

static const struct vmx_caps caps = {
    .pin = {0x16, 0x3f},
    .proc2 = {0, 0x2},
    .proc3 = 0x40,
    .exit2 = 0x4,
    .cr0_fixed0 = 0x80000021,
    .cr0_fixed1 = 0xffffffff,
};

static void expect(unsigned field, uint64_t value, const char *wanted)
{
    char text[WRONG_BITS_TEXT];

    wrong_bits(text, sizeof text, field, value, &caps);
    assert_string_equal(text, wanted);
}

static void test_bits_that_must_be_1(void **state)
{
    (void)state;
    expect(FIELD_INDEX_PIN_CONTROLS, 0x10, ", bits that must be 1: 1, 2 by IA32_VMX_TRUE_PINBASED_CTLS");
    expect(FIELD_INDEX_HOST_CR0, 0x80000001, ", bits that must be 1: 5 by IA32_VMX_CR0_FIXED0 and _FIXED1");
}

static void test_bits_that_must_be_0_have_names(void **state)
{
    (void)state;
    expect(FIELD_INDEX_PIN_CONTROLS, 0x96,
           ", bits that must be 0: 7 (process posted interrupts) by IA32_VMX_TRUE_PINBASED_CTLS");
    expect(FIELD_INDEX_PROC2_CONTROLS, 0x21,
           ", bits that must be 0: 0 (virtualize APIC accesses), 5 (enable VPID) by "
           "IA32_VMX_PROCBASED_CTLS2");
    expect(FIELD_INDEX_EXIT2_CONTROLS, 0xc,
           ", bits that must be 0: 3 (prematurely busy shadow stack) by IA32_VMX_EXIT_CTLS2");
    expect(FIELD_INDEX_PROC3_CONTROLS, 1ull << 63, ", bits that must be 0: 63 by IA32_VMX_PROCBASED_CTLS3");
}

static void test_both(void **state)
{
    (void)state;
    expect(FIELD_INDEX_PIN_CONTROLS, 0x82,
           ", bits that must be 1: 2, 4, bits that must be 0: 7 (process posted interrupts) by "
           "IA32_VMX_TRUE_PINBASED_CTLS");
}

static void test_nothing_of_what_holds_or_of_other_fields(void **state)
{
    (void)state;
    expect(FIELD_INDEX_PIN_CONTROLS, 0x16, "");
    expect(FIELD_INDEX_MSR_BITMAP, 0x800, "");
}

/* However many bits are wrong: all 32 with the longest names. */
static void test_long_lists_are_cut(void **state)
{
    const struct vmx_caps none = {.proc = {0, 0}};
    char text[WRONG_BITS_TEXT + 1];

    (void)state;
    memset(text, 'x', sizeof text);
    wrong_bits(text, WRONG_BITS_TEXT, FIELD_INDEX_PROC_CONTROLS, UINT32_MAX, &none);
    assert_int_equal(text[WRONG_BITS_TEXT - 1], 0);
    assert_int_equal(text[WRONG_BITS_TEXT], 'x');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bits_that_must_be_1),
        cmocka_unit_test(test_bits_that_must_be_0_have_names),
        cmocka_unit_test(test_both),
        cmocka_unit_test(test_nothing_of_what_holds_or_of_other_fields),
        cmocka_unit_test(test_long_lists_are_cut),
    };
    return cmocka_run_group_tests_name("wrong_bits", tests, NULL, NULL);
}
