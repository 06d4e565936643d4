/* sources: vmx/segment.c */
/* cflags: -include tests/host/fake_vmcs.h */
/* The linear address of a memory operand, and the checks of its segment: limit, type, canonical form. */
#include "tests/host/host.h"

#include "kernel/x86.h"
#include "vmx/operand.h"

#define ES 0u
#define CS 1u
#define SS 2u
#define DS 3u
#define FS 4u
#define GS 5u
/* Access rights of flat and other segments. */
#define AR_DATA_RW (AR_P | AR_S | AR_DB | 3)
#define AR_DATA_RO (AR_P | AR_S | AR_DB | 1)
#define AR_DATA_DOWN (AR_P | AR_S | AR_DB | 7)
#define AR_CODE_RX (AR_P | AR_S | AR_DB | 11)
#define AR_CODE_X (AR_P | AR_S | AR_DB | 9)

static void expect_linear(struct segment segment, unsigned number, uint64_t offset, unsigned len, bool write,
                          unsigned bits, gva_t want)
{
    struct fault fault;
    gva_t gva;

    assert_true(segment_linear(&segment, number, offset, len, write, bits, &gva, &fault));
    assert_int_equal(fault.vector, FAULT_NONE);
    assert_int_equal(gva, want);
}

static void expect_refused(struct segment segment, unsigned number, uint64_t offset, unsigned len, bool write,
                           unsigned bits, unsigned vector)
{
    struct fault fault;
    gva_t gva;

    assert_false(segment_linear(&segment, number, offset, len, write, bits, &gva, &fault));
    assert_int_equal(fault.vector, vector);
    assert_true(fault.has_error_code);
    assert_int_equal(fault.error_code, 0);
}

static struct segment segment_of(uint64_t access_rights, uint64_t base, uint32_t limit)
{
    return (struct segment){.access_rights = (uint32_t)access_rights, .base = base, .limit = limit};
}

static void test_segment_limit(void **state)
{
    struct segment s = segment_of(AR_DATA_RW, 0x10000, 0xfff);

    (void)state;
    expect_linear(s, DS, 0xff8, 8, true, 0, 0x10ff8);
    expect_refused(s, DS, 0xff9, 8, true, 0, VECTOR_GP);
    expect_refused(s, SS, 0xff9, 8, false, 0, VECTOR_SS);
    expect_refused(s, DS, 0xfffffff9, 8, false, 0, VECTOR_GP); /* no wrap back into the segment */
    s.limit = 0xffffffff;
    expect_linear(s, DS, 0xfffffff8, 8, true, 0, 0xfff8); /* the linear address has 32 bits */
    expect_refused(s, DS, 0xfffffffc, 8, true, 0, VECTOR_GP);
}

static void test_segment_expand_down(void **state)
{
    struct segment s = segment_of(AR_DATA_DOWN, 0, 0xfff);

    (void)state;
    expect_refused(s, DS, 0xfff, 1, false, 0, VECTOR_GP);
    expect_linear(s, DS, 0x1000, 8, true, 0, 0x1000);
    expect_linear(s, DS, 0xfffffff8, 8, true, 0, 0xfffffff8);
    expect_refused(s, DS, 0xfffffff9, 8, true, 0, VECTOR_GP);
    s.access_rights &= (uint32_t)~AR_DB;
    expect_linear(s, DS, 0xfff8, 8, true, 0, 0xfff8);
    expect_refused(s, DS, 0xfff9, 8, true, 0, VECTOR_GP);
    expect_refused(s, SS, 0x10000, 8, true, 0, VECTOR_SS);
}

static void test_segment_type(void **state)
{
    (void)state;
    expect_linear(segment_of(AR_DATA_RO, 0, 0xffff), DS, 0, 8, false, 0, 0);
    expect_refused(segment_of(AR_DATA_RO, 0, 0xffff), DS, 0, 8, true, 0, VECTOR_GP);
    expect_refused(segment_of(AR_DATA_RO, 0, 0xffff), SS, 0, 8, true, 0, VECTOR_GP);
    expect_linear(segment_of(AR_CODE_RX, 0, 0xffff), CS, 0, 8, false, 0, 0);
    expect_refused(segment_of(AR_CODE_RX, 0, 0xffff), CS, 0, 8, true, 0, VECTOR_GP);
    expect_refused(segment_of(AR_CODE_X, 0, 0xffff), CS, 0, 8, false, 0, VECTOR_GP);
    /* Conforming code has the bit that means expand-down in data. */
    expect_linear(segment_of(AR_CODE_RX | 4, 0, 0xffff), CS, 0, 8, false, 0, 0);
    expect_refused(segment_of(AR_UNUSABLE | AR_DATA_RW, 0, 0xffff), ES, 0, 8, false, 0, VECTOR_GP);
    expect_refused(segment_of(AR_UNUSABLE | AR_DATA_RW, 0, 0xffff), SS, 0, 8, false, 0, VECTOR_SS);
}

static void test_segment_long_mode(void **state)
{
    struct segment s = segment_of(AR_UNUSABLE, 0x1000, 0); /* neither limit nor type count */

    (void)state;
    for (unsigned number = ES; number <= DS; number++)
        expect_linear(s, number, 0x7fff00000000, 8, true, 48, 0x7fff00000000);
    expect_linear(s, FS, 0x7fff00000000, 8, true, 48, 0x7fff00001000);
    expect_linear(s, GS, (uint64_t)-0x800ll, 8, true, 48, 0x800); /* wraps */
}

static void test_segment_canonical(void **state)
{
    struct segment s = segment_of(AR_DATA_RW, 0, 0);

    (void)state;
    expect_linear(s, DS, 0x00007ffffffffff8, 8, false, 48, 0x00007ffffffffff8);
    expect_refused(s, DS, 0x00007ffffffffff9, 8, false, 48, VECTOR_GP); /* its last byte */
    expect_refused(s, DS, 0x0000800000000000, 8, false, 48, VECTOR_GP);
    expect_refused(s, SS, 0xffff7fffffffffff, 1, false, 48, VECTOR_SS);
    expect_linear(s, SS, 0xffff800000000000, 8, false, 48, 0xffff800000000000);
    expect_linear(s, DS, 0x0000800000000000, 8, false, 57, 0x0000800000000000);
    expect_linear(s, DS, 0xff00000000000000, 8, false, 57, 0xff00000000000000);
    expect_refused(s, DS, 0x0100000000000000, 8, false, 57, VECTOR_GP);
}
int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_segment_limit),     cmocka_unit_test(test_segment_expand_down),
        cmocka_unit_test(test_segment_type),      cmocka_unit_test(test_segment_long_mode),
        cmocka_unit_test(test_segment_canonical),
    };
    return cmocka_run_group_tests_name("segment", tests, NULL, NULL);
}
