/* sources: vmx/msr_bitmap.c */
#include "tests/host/host.h"

#include <string.h>

#include "vmx/msr_bitmap.h"

static const uint32_t range_base[2] = {0, MSR_BITMAP_HIGH_BASE};

/* The reference: the layout as the SDM's sentence has it, nothing shared with the code under test. */
static bool reference_test(const uint8_t *page, uint32_t msr, enum msr_access access)
{
    unsigned quarter = (access == MSR_WRITE ? 2u : 0u) + (msr >= 0xc0000000u ? 1u : 0u);
    uint32_t index = msr & 0x1fffu;

    if (!(msr <= 0x1fffu || (msr >= 0xc0000000u && msr <= 0xc0001fffu)))
        return true;
    return (page[quarter * 1024u + index / 8u] >> (index % 8u)) & 1u;
}

static void test_bit_offsets(void **state)
{
    (void)state;
    assert_int_equal(msr_bitmap_bit(0, MSR_READ), 0);
    assert_int_equal(msr_bitmap_bit(0x1fff, MSR_READ), 0x400 * 8 - 1);
    assert_int_equal(msr_bitmap_bit(0xc0000000, MSR_READ), 0x400 * 8);
    assert_int_equal(msr_bitmap_bit(0xc0001fff, MSR_READ), 0x800 * 8 - 1);
    assert_int_equal(msr_bitmap_bit(0, MSR_WRITE), 0x800 * 8);
    assert_int_equal(msr_bitmap_bit(0x1fff, MSR_WRITE), 0xc00 * 8 - 1);
    assert_int_equal(msr_bitmap_bit(0xc0000000, MSR_WRITE), 0xc00 * 8);
    assert_int_equal(msr_bitmap_bit(0xc0001fff, MSR_WRITE), 0x1000 * 8 - 1);
}

static void test_out_of_range_always_exits(void **state)
{
    static const uint32_t outside[] = {0x2000, 0x40000000, 0x7fffffff, 0x80000000, 0xbfffffff, 0xc0002000, 0xffffffff};
    static uint8_t page[PAGE_SIZE];
    static const uint8_t zeros[PAGE_SIZE];

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(outside); i++) {
        for (unsigned access = MSR_READ; access <= MSR_WRITE; access++) {
            assert_int_equal(msr_bitmap_bit(outside[i], access), -1);
            assert_true(msr_bitmap_test(page, outside[i], access));
            msr_bitmap_set(page, outside[i], access);
            msr_bitmap_clear(page, outside[i], access);
        }
    }
    assert_memory_equal(page, zeros, PAGE_SIZE);
}

/* Each of the 2 x 2 x 8192 bits: set it alone, and no other answer changes; clear it again. */
static void test_every_bit_alone(void **state)
{
    static uint8_t page[PAGE_SIZE], expected[PAGE_SIZE];

    (void)state;
    for (unsigned bit = 0; bit < 8 * PAGE_SIZE; bit++) {
        enum msr_access access = bit < 4 * PAGE_SIZE ? MSR_READ : MSR_WRITE;
        uint32_t msr = range_base[bit / MSR_BITMAP_RANGE % 2] + bit % MSR_BITMAP_RANGE;

        assert_int_equal(msr_bitmap_bit(msr, access), bit);
        assert_false(msr_bitmap_test(page, msr, access));
        msr_bitmap_set(page, msr, access);
        assert_true(msr_bitmap_test(page, msr, access));
        expected[bit / 8] = (uint8_t)(1u << bit % 8);
        assert_memory_equal(page, expected, PAGE_SIZE);
        msr_bitmap_clear(page, msr, access);
        expected[bit / 8] = 0;
        assert_memory_equal(page, expected, PAGE_SIZE);
    }
}

static void compare_with_reference(const uint8_t *merged, const uint8_t *l0, const uint8_t *l1)
{
    for (unsigned bit = 0; bit < 8 * PAGE_SIZE; bit++) {
        enum msr_access access = bit < 4 * PAGE_SIZE ? MSR_READ : MSR_WRITE;
        uint32_t msr = range_base[bit / MSR_BITMAP_RANGE % 2] + bit % MSR_BITMAP_RANGE;
        bool want = reference_test(l0, msr, access) || reference_test(l1, msr, access);

        if (msr_bitmap_test(merged, msr, access) != want || reference_test(merged, msr, access) != want)
            fail_msg("MSR %#x, access %d: merged is not l0 | l1", msr, access);
    }
}

static void test_merge_random_pages(void **state)
{
    static uint64_t merged[PAGE_SIZE / 8], l0[PAGE_SIZE / 8], l1[PAGE_SIZE / 8];

    (void)state;
    for (unsigned round = 0; round < 64; round++) {
        host_random_fill(l0, sizeof l0);
        host_random_fill(l1, sizeof l1);
        for (unsigned i = 0; i < ARRAY_SIZE(l0); i++)
            l0[i] &= host_random() & (round & 1 ? host_random() & host_random() : ~0ull); /* sparse ones too */
        msr_bitmap_merge(merged, l0, l1);
        compare_with_reference((uint8_t *)merged, (uint8_t *)l0, (uint8_t *)l1);
    }
}

/* A merge that drops either side must be seen bit by bit: one bit on one side only. */
static void test_merge_keeps_each_side(void **state)
{
    static uint64_t merged[PAGE_SIZE / 8], one[PAGE_SIZE / 8], zero[PAGE_SIZE / 8];

    (void)state;
    for (unsigned bit = 0; bit < 8 * PAGE_SIZE; bit++) {
        one[bit / 64] = BIT(bit % 64);
        msr_bitmap_merge(merged, one, zero);
        assert_memory_equal(merged, one, PAGE_SIZE);
        msr_bitmap_merge(merged, zero, one);
        assert_memory_equal(merged, one, PAGE_SIZE);
        one[bit / 64] = 0;
    }
}

static void test_merge_in_place(void **state)
{
    static uint64_t page[PAGE_SIZE / 8], l1[PAGE_SIZE / 8], l0[PAGE_SIZE / 8];

    (void)state;
    host_random_fill(l0, sizeof l0);
    host_random_fill(l1, sizeof l1);
    memcpy(page, l1, sizeof page);
    msr_bitmap_merge(page, l0, page);
    compare_with_reference((uint8_t *)page, (uint8_t *)l0, (uint8_t *)l1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bit_offsets),           cmocka_unit_test(test_out_of_range_always_exits),
        cmocka_unit_test(test_every_bit_alone),       cmocka_unit_test(test_merge_random_pages),
        cmocka_unit_test(test_merge_keeps_each_side), cmocka_unit_test(test_merge_in_place),
    };
    return cmocka_run_group_tests_name("msr_bitmap", tests, NULL, NULL);
}
