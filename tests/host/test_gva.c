/* sources: vmx/gva.c */
#include "tests/host/gva_fixture.h"

static void test_no_paging(void **state)
{
    (void)state;
    f.state.cr0 = CR0_PE;
    f.state.cr4 = CR4_PAE;
    expect_gpa(0x12345678, GVA_WRITE, 0x12345678);
    expect_gpa(0xffffffff12345678, GVA_READ, 0x12345678);
}

static void test_32bit_4k(void **state)
{
    (void)state;
    mode_32bit();
    map(0xc0123456, 2, 1, 0xfedcb000, W);
    expect_gpa(0xc0123456, GVA_WRITE, 0xfedcb456);
    expect_gpa(0xffffffffc0123456, GVA_WRITE, 0xfedcb456); /* linear addresses have 32 bits */
    expect_fault(0xc0124456, GVA_WRITE, PF_WRITE);
    expect_fault(0xc0523456, GVA_READ, 0);
}

static void test_32bit_4m_pse36(void **state)
{
    (void)state;
    mode_32bit();
    map(0xc0123456, 2, 2, 0xfec00000, W);
    expect_gpa(0xc0123456, GVA_WRITE, 0xfed23456);
    map(0xc0123456, 2, 2, 0xfec00000 | 0xa5u << 13, W); /* bits 39:32 */
    expect_gpa(0xc0123456, GVA_WRITE, 0xa5fed23456);
}

static void test_32bit_without_pse(void **state)
{
    (void)state;
    mode_32bit();
    f.state.cr4 = 0;
    map(0xc0123456, 2, 1, 0xfedcb000, W);
    entry_set(0xc0123456, 2, entry_get(0xc0123456, 2) | PS);
    expect_gpa(0xc0123456, GVA_WRITE, 0xfedcb456);
}

static void test_32bit_reserved(void **state)
{
    (void)state;
    mode_32bit();
    map(0x123456, 2, 2, BIT(21), W);
    expect_fault(0x123456, GVA_WRITE, PF_PRESENT | PF_RESERVED | PF_WRITE);
    map(0x123456, 2, 2, BIT(20), W);
    expect_gpa(0x123456, GVA_WRITE, 0x8000123456);
    f.state.address_bits = 39;
    expect_fault(0x123456, GVA_READ, PF_PRESENT | PF_RESERVED);
    map(0x123456, 2, 2, BIT(19), W);
    expect_gpa(0x123456, GVA_WRITE, 0x4000123456);
    f.state.address_bits = 52; /* PSE-36 ends at 40 bits */
    map(0x123456, 2, 2, BIT(21), W);
    expect_fault(0x123456, GVA_READ, PF_PRESENT | PF_RESERVED);
}

static void test_pae_4k_2m(void **state)
{
    (void)state;
    mode_pae();
    map(0x80123456, 2, 1, 0xfe89abc000, W);
    expect_gpa(0x80123456, GVA_WRITE, 0xfe89abc456);
    map(0x80123456, 2, 2, 0xfe89a00000, W);
    expect_gpa(0x80123456, GVA_WRITE, 0xfe89b23456);
}

static void test_pae_pointer_registers(void **state)
{
    (void)state;
    mode_pae();
    for (unsigned i = 0; i < 4; i++) {
        gva_t gva = (gva_t)i << 30 | 0x123456;

        map(gva, 2, 1, 0x1234000, U);
        memset(f.state.pdpte, 0, sizeof f.state.pdpte);
        f.state.pdpte[i] = table_at(2) | P; /* no U, no W there: these bits have no meaning in a PDPTE */
        expect_gpa(gva, GVA_READ | GVA_USER, 0x1234456);
        f.state.pdpte[i] = table_at(2);
        expect_fault(gva, GVA_READ | GVA_USER, PF_USER);
    }
}

static void test_pae_reserved(void **state)
{
    (void)state;
    mode_pae();
    for (unsigned level = 1; level <= 2; level++) {
        for (unsigned bit = 40; bit <= 62; bit++) {
            map(0x123456, 2, 1, 0x1234000, W);
            entry_set(0x123456, level, entry_get(0x123456, level) | BIT(bit));
            expect_fault(0x123456, GVA_READ, PF_PRESENT | PF_RESERVED);
        }
    }
    map(0x123456, 2, 1, 0x1234000, W | NX);
    expect_gpa(0x123456, GVA_WRITE, 0x1234456);
    f.state.efer = 0;
    expect_fault(0x123456, GVA_WRITE, PF_PRESENT | PF_RESERVED | PF_WRITE);
}

static void test_4level_sizes(void **state)
{
    (void)state;
    mode_4level();
    map(gva_64, 4, 1, 0xfe89abc000, W);
    expect_gpa(gva_64, GVA_WRITE, 0xfe89abcabc);
    map(gva_64, 4, 2, 0xfe89a00000, W);
    expect_gpa(gva_64, GVA_WRITE, 0xfe89b89abc);
    map(gva_64, 4, 3, 0xfe80000000, W);
    expect_gpa(gva_64, GVA_WRITE, 0xfe96789abc);
}

static void test_4level_pat_bits(void **state)
{
    (void)state;
    mode_4level();
    map(gva_64, 4, 1, 0x1234000 | BIT(7), W); /* PAT of a small page */
    expect_gpa(gva_64, GVA_WRITE, 0x1234abc);
    map(gva_64, 4, 2, 0x1200000 | BIT(12), W); /* PAT of a large page */
    expect_gpa(gva_64, GVA_WRITE, 0x1389abc);
    map(gva_64, 4, 3, 0x40000000 | BIT(12), W);
    expect_gpa(gva_64, GVA_WRITE, 0x56789abc);
}

static void test_4level_reserved(void **state)
{
    (void)state;
    mode_4level();
    for (unsigned level = 1; level <= 4; level++) {
        for (unsigned bit = 40; bit <= 51; bit++) {
            map(gva_64, 4, 1, 0x1234000, W);
            entry_set(gva_64, level, entry_get(gva_64, level) | BIT(bit));
            expect_fault(gva_64, GVA_WRITE, PF_PRESENT | PF_RESERVED | PF_WRITE);
        }
        map(gva_64, 4, 1, 0x1234000, W);
        entry_set(gva_64, level, entry_get(gva_64, level) | BITS(58, 52) | BITS(11, 9)); /* for software */
        expect_gpa(gva_64, GVA_WRITE, 0x1234abc);
        f.state.efer &= ~EFER_NXE;
        entry_set(gva_64, level, entry_get(gva_64, level) | NX);
        expect_fault(gva_64, GVA_READ, PF_PRESENT | PF_RESERVED);
        f.state.efer |= EFER_NXE;
    }
    f.state.address_bits = 52;
    map(gva_64, 4, 1, BITS(51, 12), W);
    expect_gpa(gva_64, GVA_WRITE, BITS(51, 12) | 0xabc);
}

static void test_large_page_reserved(void **state)
{
    (void)state;
    mode_4level();
    for (unsigned level = 2; level <= 3; level++) {
        for (unsigned bit = 13; bit < 12 + 9 * (level - 1); bit++) {
            map(gva_64, 4, level, BIT(bit), W);
            expect_fault(gva_64, GVA_READ, PF_PRESENT | PF_RESERVED);
        }
    }
    map(gva_64, 4, 3, 0x40000000, W);
    f.state.pages_1g = false;
    expect_fault(gva_64, GVA_READ, PF_PRESENT | PF_RESERVED);
    map(gva_64, 4, 1, 0x1000, W);
    entry_set(gva_64, 4, entry_get(gva_64, 4) | PS);
    expect_fault(gva_64, GVA_READ, PF_PRESENT | PF_RESERVED);
}

static void test_not_present_at_each_level(void **state)
{
    (void)state;
    mode_4level();
    for (unsigned level = 1; level <= 4; level++) {
        map(gva_64, 4, 1, 0x1234000, W | U);
        entry_set(gva_64, level, ~P); /* whatever the other bits are */
        expect_fault(gva_64, GVA_READ, 0);
        expect_fault(gva_64, GVA_WRITE | GVA_USER, PF_WRITE | PF_USER);
        expect_fault(gva_64, GVA_FETCH, PF_FETCH);
    }
}

static void test_5level(void **state)
{
    gva_t gva = 0xff12923456789abc;

    (void)state;
    mode_5level();
    map(gva, 5, 1, 0xfe89abc000, W);
    expect_gpa(gva, GVA_WRITE, 0xfe89abcabc);
    entry_set(gva, 5, entry_get(gva, 5) | PS);
    expect_fault(gva, GVA_WRITE, PF_PRESENT | PF_RESERVED | PF_WRITE);
}

static void test_table_outside_ram(void **state)
{
    (void)state;
    mode_4level();
    map(gva_64, 4, 1, 0x1234000, W);
    entry_set(gva_64, 3, 0x100000 | P | W); /* no RAM there: reads as all-ones */
    expect_fault(gva_64, GVA_READ, PF_PRESENT | PF_RESERVED);
}

/* A right taken away at any one level is taken away. */
/* SDM 3A 4.6.1 sentence by sentence, as a reference for all combinations. */
static bool walk_with_flags(gva_t gva, uint32_t access)
{
    struct fault fault;
    gpa_t gpa;

    return gva_walk(&f.state, &memory_flags, gva, access, &gpa, &fault);
}

static void test_accessed_and_dirty(void **state)
{
    (void)state;
    mode_4level();
    map(gva_64, 4, 1, 0x1234000, W);
    assert_true(walk_with_flags(gva_64, GVA_READ));
    for (unsigned level = 1; level <= 4; level++)
        assert_int_equal(entry_get(gva_64, level) & (A | D), A);
    assert_true(walk_with_flags(gva_64, GVA_WRITE));
    for (unsigned level = 2; level <= 4; level++)
        assert_int_equal(entry_get(gva_64, level) & (A | D), A);
    assert_int_equal(entry_get(gva_64, 1), 0x1234000 | W | A | D | P);
    assert_int_equal(f.swaps, 5);
    assert_true(walk_with_flags(gva_64, GVA_WRITE));
    assert_int_equal(f.swaps, 5); /* nothing left to set */
}

static void test_accessed_32bit_keeps_neighbour(void **state)
{
    (void)state;
    mode_32bit();
    map(0x1000, 2, 1, 0x1234000, W);
    map(0x2000, 2, 1, 0x5678000, W);
    assert_true(walk_with_flags(0x1000, GVA_WRITE));
    assert_int_equal(entry_get(0x1000, 1), 0x1234000 | W | A | D | P);
    assert_int_equal(entry_get(0x2000, 1), 0x5678000 | W | P);
    assert_int_equal(entry_get(0x1000, 2) & (A | D), A);
}

static void test_no_flags_on_fault(void **state)
{
    (void)state;
    mode_4level();
    map(gva_64, 4, 1, 0x1234000, 0);
    assert_false(walk_with_flags(gva_64, GVA_WRITE));
    assert_int_equal(f.swaps, 0);
    assert_int_equal(entry_get(gva_64, 1), 0x1234000 | P);
}

/* Another processor takes the page away between reading its entry and marking it. */
static void unmap_meanwhile(struct fixture *fixture)
{
    (void)fixture;
    entry_set(gva_64, 1, 0);
}

static void test_entry_changed_meanwhile(void **state)
{
    (void)state;
    mode_4level();
    map(gva_64, 4, 1, 0x1234000, W);
    f.on_swap = unmap_meanwhile;
    assert_false(walk_with_flags(gva_64, GVA_WRITE));
    assert_int_equal(f.swaps_refused, 1);
    assert_int_equal(entry_get(gva_64, 1), 0);
}

static void toggle_meanwhile(struct fixture *fixture)
{
    (void)fixture;
    for (unsigned level = 1; level <= 4; level++)
        entry_set(gva_64, level, (entry_get(gva_64, level) ^ BIT(9)) & ~A);
}

static void test_entry_changed_for_ever(void **state)
{
    (void)state;
    mode_4level();
    map(gva_64, 4, 1, 0x1234000, W);
    f.on_swap = toggle_meanwhile;
    assert_true(walk_with_flags(gva_64, GVA_WRITE));
    assert_true(f.swaps_refused > 0);
}

/* Random addresses, sizes, frames and rights in all modes: what was built is what is found. */
static void test_random_mappings(void **state)
{
    static void (*const modes[])(void) = {mode_32bit, mode_pae, mode_4level, mode_5level};
    static const unsigned top[] = {2, 2, 4, 5}, largest[] = {2, 2, 3, 3};

    (void)state;
    for (unsigned round = 0; round < 20000; round++) {
        unsigned mode = host_random() % 4, leaf = 1 + (unsigned)(host_random() % largest[mode]);
        unsigned shift = mode == 0 ? 2 + leaf * 10 : 3 + leaf * 9;
        gva_t gva = mode < 2 ? (uint32_t)host_random() : host_random();
        uint64_t page = host_random() & BITS(mode == 0 ? 31 : 39, shift), used;
        bool write = host_random() & 1, user = host_random() & 1, writable = true, user_page = true;

        setup(NULL);
        modes[mode]();
        map(gva, top[mode], leaf, page, W | U);
        for (unsigned level = leaf; level <= top[mode]; level++) {
            used = host_random() & host_random() & (W | U);
            writable = writable && !(used & W);
            user_page = user_page && !(used & U);
            entry_set(gva, level, entry_get(gva, level) & ~used);
        }
        if ((user && !user_page) || (write && !writable))
            expect_fault(gva, (write ? GVA_WRITE : 0) | (user ? GVA_USER : 0),
                         PF_PRESENT | (write ? PF_WRITE : 0) | (user ? PF_USER : 0));
        else
            expect_gpa(gva, (write ? GVA_WRITE : 0) | (user ? GVA_USER : 0), page | (gva & (BIT(shift) - 1)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_no_paging),
        TEST(test_32bit_4k),
        TEST(test_32bit_4m_pse36),
        TEST(test_32bit_without_pse),
        TEST(test_32bit_reserved),
        TEST(test_pae_4k_2m),
        TEST(test_pae_pointer_registers),
        TEST(test_pae_reserved),
        TEST(test_4level_sizes),
        TEST(test_4level_pat_bits),
        TEST(test_4level_reserved),
        TEST(test_large_page_reserved),
        TEST(test_not_present_at_each_level),
        TEST(test_5level),
        TEST(test_table_outside_ram),
        TEST(test_accessed_and_dirty),
        TEST(test_accessed_32bit_keeps_neighbour),
        TEST(test_no_flags_on_fault),
        TEST(test_entry_changed_meanwhile),
        TEST(test_entry_changed_for_ever),
        TEST(test_random_mappings),
    };
    return cmocka_run_group_tests_name("gva", tests, NULL, NULL);
}
