/* sources: vmx/msr_form.c */
#include "tests/host/host.h"

#include "vmx/msr_form.h"

static enum msr_form decode(const char *bytes, unsigned size, uint32_t *msr, unsigned *reg)
{
    *msr = 0;
    *reg = 99;
    return msr_form_decode((const uint8_t *)bytes, size, msr, reg);
}

/* Bytes as Bochs 3.1 executes them. */
static void test_known_encodings(void **state)
{
    uint32_t msr;
    unsigned reg;

    (void)state;
    assert_int_equal(decode("\x0f\x01\xc6", 3, &msr, &reg), MSR_FORM_WRMSRNS);
    assert_int_equal(decode("\x48\x0f\x01\xc6", 4, &msr, &reg), MSR_FORM_WRMSRNS);
    assert_int_equal(decode("\x2e\x0f\x01\xc6", 4, &msr, &reg), MSR_FORM_WRMSRNS);
    assert_int_equal(decode("\xc4\xe7\x7b\xf6\xc3\x82\x00\x00\xc0", 9, &msr, &reg), MSR_FORM_IMMEDIATE);
    assert_int_equal(msr, 0xc0000082);
    assert_int_equal(reg, 3);
    assert_int_equal(decode("\xc4\xc7\x7a\xf6\xc1\x01\x00\x00\x00", 9, &msr, &reg), MSR_FORM_IMMEDIATE);
    assert_int_equal(msr, 1);
    assert_int_equal(reg, 9);
}

static void test_each_register(void **state)
{
    (void)state;
    for (unsigned number = 0; number < 16; number++) {
        uint8_t bytes[9] = {
            0xc4, (uint8_t)(number < 8 ? 0xe7 : 0xc7), 0x7b, 0xf6, (uint8_t)(0xc0 | (number & 7)), 0x78, 0x56, 0x34,
            0x12};
        uint32_t msr;
        unsigned reg;
        assert_int_equal(msr_form_decode(bytes, 9, &msr, &reg), MSR_FORM_IMMEDIATE);
        assert_int_equal(reg, number);
        assert_int_equal(msr, 0x12345678);
    }
}

static void test_others(void **state)
{
    uint32_t msr;
    unsigned reg;

    (void)state;
    assert_int_equal(decode("\x0f\x30", 2, &msr, &reg), MSR_FORM_OTHER);
    assert_int_equal(decode("", 0, &msr, &reg), MSR_FORM_OTHER);
    assert_int_equal(decode("\x2e\x2e", 2, &msr, &reg), MSR_FORM_OTHER);
    assert_int_equal(decode("\xc4\xe7\x7b\xf6\xc3\x82\x00\x00", 8, &msr, &reg), MSR_FORM_OTHER);
    assert_int_equal(decode("\xc4\xe7\x7b\xf6\x03\x82\x00\x00\xc0", 9, &msr, &reg), MSR_FORM_OTHER);
    assert_int_equal(decode("\xc4\xe2\x7b\xf6\xc3\x82\x00\x00\xc0", 9, &msr, &reg), MSR_FORM_OTHER);
    assert_int_equal(decode("\xc4\xe7\x7b\xf8\xc3\x82\x00\x00\xc0", 9, &msr, &reg), MSR_FORM_OTHER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_encodings),
        cmocka_unit_test(test_each_register),
        cmocka_unit_test(test_others),
    };
    return cmocka_run_group_tests_name("msr_form", tests, NULL, NULL);
}
