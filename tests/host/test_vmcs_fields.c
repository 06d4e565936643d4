/* sources: vmx/vmcs_table.c vmx/exit_names.c */
#include "tests/host/host.h"

#include <string.h>

#include "vmx/exit_names.h"
#include "vmx/vmcs.h"

static void test_rows_agree_with_encodings(void **state)
{
    (void)state;
    for (unsigned row = 0; row < FIELD_COUNT; row++) {
        const struct vmcs_field *field = &vmcs_fields[row];

        assert_int_equal(field->width, field->encoding >> 13 & 3);
        assert_int_equal(field->area, field->encoding >> 10 & 3);
        for (unsigned other = row + 1; other < FIELD_COUNT; other++) {
            assert_int_not_equal(field->encoding, vmcs_fields[other].encoding);
            assert_string_not_equal(field->name, vmcs_fields[other].name);
        }
    }
}

static void test_known_rows(void **state)
{
    (void)state;
    assert_int_equal(vmcs_fields[FIELD_INDEX_VPID].encoding, 0x0000);
    assert_int_equal(vmcs_fields[FIELD_INDEX_GUEST_RIP].encoding, 0x681e);
    assert_int_equal(vmcs_fields[FIELD_INDEX_HOST_RIP].encoding, 0x6c16);
    assert_int_equal(vmcs_fields[FIELD_INDEX_EXIT_REASON].encoding, 0x4402);
    assert_int_equal(vmcs_fields[FIELD_INDEX_EXIT_REASON].area, VMCS_AREA_INFO);
    assert_int_equal(vmcs_fields[FIELD_INDEX_GUEST_CR3].width, VMCS_WIDTH_NAT);
}

static void test_names(void **state)
{
    (void)state;
    for (unsigned row = 0; row < FIELD_COUNT; row++)
        assert_string_equal(vmcs_field_name(vmcs_fields[row].encoding), vmcs_fields[row].name);
    assert_string_equal(vmcs_field_name(0), "VPID");
    assert_string_equal(vmcs_field_name(0x681e), "GUEST_RIP");
    assert_string_equal(vmcs_field_name(0x2004), "MSR_BITMAP");
    assert_string_equal(vmcs_field_name(0x2005), "MSR_BITMAP"); /* the upper half of a 64-bit field */
    assert_string_equal(vmcs_field_name(0x7ffe), "?");
    assert_string_equal(vmcs_field_name(UINT32_MAX), "?");
}

static void test_exit_reason_names(void **state)
{
    (void)state;
    assert_string_equal(exit_reason_name(EXIT_CPUID), "CPUID");
    assert_string_equal(exit_reason_name(0), "exception or NMI");
    assert_string_equal(exit_reason_name(EXIT_REASON_COUNT - 1), "WRMSRNS, immediate");
    assert_string_equal(exit_reason_name(35), "?"); /* a hole in the numbers */
    assert_string_equal(exit_reason_name(EXIT_REASON_COUNT), "?");
    assert_string_equal(exit_reason_name(UINT32_MAX), "?");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_agree_with_encodings),
        cmocka_unit_test(test_known_rows),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_exit_reason_names),
    };
    return cmocka_run_group_tests_name("vmcs_fields", tests, NULL, NULL);
}
