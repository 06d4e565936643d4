/* sources: mm/mtrr.c */
#include "tests/host/host.h"

#include <string.h>

#include "kernel/msr.h"
#include "mm/mtrr.h"

static struct mtrr mtrr;

static void set_variable(unsigned i, unsigned type, uint64_t base, uint64_t size)
{
    mtrr.variable[i].base = base | type;
    mtrr.variable[i].mask = (~(size - 1) & mtrr.address_mask) | MTRR_PHYSMASK_VALID;
}

static int setup(void **state)
{
    (void)state;
    memset(&mtrr, 0, sizeof mtrr);
    mtrr.default_type = MTRR_DEF_TYPE_E | MTRR_DEF_TYPE_FE | MEMTYPE_WB;
    mtrr.fixed_supported = true;
    mtrr.variable_count = 8;
    mtrr.address_mask = BITS(39, 12);
    return 0;
}

/* Everything WB but the hole below 4 GiB: what firmware of a PC sets. */
static void set_pc(void)
{
    memset(mtrr.fixed, MEMTYPE_WB, sizeof mtrr.fixed);
    mtrr.fixed[2] = 0; /* A0000-BFFFF */
    memset(&mtrr.fixed[3], MEMTYPE_WP, 8 * sizeof mtrr.fixed[0]);
    set_variable(0, MEMTYPE_UC, 0xc0000000, GIB);
}

static void test_disabled_is_uncached(void **state)
{
    unsigned type;

    (void)state;
    set_pc();
    mtrr.default_type &= ~MTRR_DEF_TYPE_E;
    assert_int_equal(mtrr_type(&mtrr, 0), MEMTYPE_UC);
    assert_int_equal(mtrr_type(&mtrr, 0x100000), MEMTYPE_UC);
    assert_true(mtrr_uniform(&mtrr, 0x40000000, GIB, &type));
    assert_int_equal(type, MEMTYPE_UC);
}

static void test_fixed_ranges(void **state)
{
    static const struct {
        hpa_t first, step;
    } range[] = {{0, 0x10000},      {0x80000, 0x4000}, {0xa0000, 0x4000}, {0xc0000, 0x1000},
                 {0xc8000, 0x1000}, {0xd0000, 0x1000}, {0xd8000, 0x1000}, {0xe0000, 0x1000},
                 {0xe8000, 0x1000}, {0xf0000, 0x1000}, {0xf8000, 0x1000}};

    (void)state;
    for (unsigned r = 0; r < ARRAY_SIZE(range); r++)
        for (unsigned i = 0; i < 8; i++) {
            memset(mtrr.fixed, MEMTYPE_WB, sizeof mtrr.fixed);
            ((uint8_t *)&mtrr.fixed[r])[i] = MEMTYPE_WC;
            for (hpa_t hpa = 0; hpa < MIB; hpa += PAGE_SIZE) {
                bool hit = hpa >= range[r].first + i * range[r].step && hpa < range[r].first + (i + 1) * range[r].step;
                assert_int_equal(mtrr_type(&mtrr, hpa), hit ? MEMTYPE_WC : MEMTYPE_WB);
            }
        }
}

static void test_fixed_need_their_enable(void **state)
{
    (void)state;
    set_pc();
    assert_int_equal(mtrr_type(&mtrr, 0xa0000), MEMTYPE_UC);
    mtrr.default_type &= ~MTRR_DEF_TYPE_FE;
    assert_int_equal(mtrr_type(&mtrr, 0xa0000), MEMTYPE_WB);
    mtrr.default_type |= MTRR_DEF_TYPE_FE;
    mtrr.fixed_supported = false;
    assert_int_equal(mtrr_type(&mtrr, 0xa0000), MEMTYPE_WB);
}

static void test_precedence(void **state)
{
    static const unsigned row[][3] = {
        {MEMTYPE_UC, MEMTYPE_WB, MEMTYPE_UC}, {MEMTYPE_WB, MEMTYPE_UC, MEMTYPE_UC},
        {MEMTYPE_WT, MEMTYPE_WB, MEMTYPE_WT}, {MEMTYPE_WB, MEMTYPE_WT, MEMTYPE_WT},
        {MEMTYPE_WB, MEMTYPE_WB, MEMTYPE_WB}, {MEMTYPE_UC, MEMTYPE_WC, MEMTYPE_UC},
        {MEMTYPE_WC, MEMTYPE_WB, MEMTYPE_UC}, {MEMTYPE_WP, MEMTYPE_WP, MEMTYPE_WP},
        {MEMTYPE_WP, MEMTYPE_WT, MEMTYPE_UC},
    };

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(row); i++) {
        set_variable(0, row[i][0], 0x10000000, 256 * MIB);
        set_variable(5, row[i][1], 0x18000000, 64 * MIB);
        assert_int_equal(mtrr_type(&mtrr, 0x10000000), row[i][0]);
        assert_int_equal(mtrr_type(&mtrr, 0x18000000), row[i][2]);
        assert_int_equal(mtrr_type(&mtrr, 0x20000000), MEMTYPE_WB);
    }
    set_variable(0, MEMTYPE_WB, 0x10000000, 256 * MIB);
    set_variable(1, MEMTYPE_WT, 0x18000000, 64 * MIB);
    set_variable(5, MEMTYPE_UC, 0x18000000, 64 * MIB);
    assert_int_equal(mtrr_type(&mtrr, 0x18000000), MEMTYPE_UC);
    mtrr.variable[5].mask &= ~MTRR_PHYSMASK_VALID;
    assert_int_equal(mtrr_type(&mtrr, 0x18000000), MEMTYPE_WT);
}

static void test_uniform_on_a_pc(void **state)
{
    unsigned type;

    (void)state;
    set_pc();
    assert_false(mtrr_uniform(&mtrr, 0, LARGE_2M, &type));
    assert_false(mtrr_uniform(&mtrr, 0, GIB, &type));
    assert_true(mtrr_uniform(&mtrr, LARGE_2M, LARGE_2M, &type));
    assert_int_equal(type, MEMTYPE_WB);
    assert_true(mtrr_uniform(&mtrr, GIB, 2 * GIB, &type));
    assert_false(mtrr_uniform(&mtrr, GIB, 3 * GIB, &type));
    assert_true(mtrr_uniform(&mtrr, 3 * GIB, GIB, &type));
    assert_int_equal(type, MEMTYPE_UC);
    assert_true(mtrr_uniform(&mtrr, 4 * GIB, 4 * GIB, &type));
    /* A register that says what the default says cuts nothing. */
    set_variable(1, MEMTYPE_WB, 0x40100000, MIB);
    assert_true(mtrr_uniform(&mtrr, GIB, GIB, &type));
    set_variable(1, MEMTYPE_WC, 0x40100000, PAGE_SIZE);
    assert_false(mtrr_uniform(&mtrr, GIB, GIB, &type));
    assert_true(mtrr_uniform(&mtrr, 0x40100000, PAGE_SIZE, &type));
    assert_int_equal(type, MEMTYPE_WC);
}

static void test_uniform_against_every_page(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 300; round++) {
        setup(NULL);
        for (unsigned i = 0; i < 11; i++)
            memset(&mtrr.fixed[i], host_random() % 4 ? MEMTYPE_WB : MEMTYPE_UC, 8);
        for (unsigned i = 0; i < 4; i++) {
            uint64_t size = PAGE_SIZE << host_random() % 12;
            set_variable(i, host_random() % 2 ? MEMTYPE_UC : MEMTYPE_WT, (host_random() % (8 * MIB)) & -size, size);
        }
        /* A mask with a hole in it, which the SDM allows. */
        if (round % 3 == 0)
            mtrr.variable[0].mask &= ~BIT(14);
        for (hpa_t size = PAGE_SIZE; size <= 8 * MIB; size *= 2)
            for (hpa_t base = 0; base < 8 * MIB; base += size) {
                unsigned type, first = mtrr_type(&mtrr, base);
                bool uniform = true;
                for (hpa_t hpa = base; hpa < base + size; hpa += PAGE_SIZE)
                    uniform &= mtrr_type(&mtrr, hpa) == first;
                assert_int_equal(mtrr_uniform(&mtrr, base, size, &type), uniform);
                assert_int_equal(type, first);
            }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_disabled_is_uncached, setup),
        cmocka_unit_test_setup(test_fixed_ranges, setup),
        cmocka_unit_test_setup(test_fixed_need_their_enable, setup),
        cmocka_unit_test_setup(test_precedence, setup),
        cmocka_unit_test_setup(test_uniform_on_a_pc, setup),
        cmocka_unit_test_setup(test_uniform_against_every_page, setup),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
