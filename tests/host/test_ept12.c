/* sources: nested/ept02/ept02.c nested/ept02/ept02_around.c nested/ept02/ept02_fill.c nested/ept02/ept02_setup.c
   nested/ept02/ept02_tree.c nested/ept02/ept12_trace.c nested/ept02/ept02_filter.c nested/ept02/ept12_walk.c
   mm/gmem.c mm/ept_watch.c mm/ept.c mm/memmap.c mm/mtrr.c mm/page.c */
#include "tests/host/ept12_world.h"

/* --- What EPT02 holds --- */

static void test_permissions_are_the_and(void **state)
{
    (void)state;
    for (unsigned permissions = 1; permissions < 8; permissions++) {
        gpa_t gpa2 = permissions * PAGE_SIZE;
        if ((permissions & 3) == 2)
            continue;
        map12(gpa2, 0x10000 + gpa2, permissions | PUT(6, EPT_MEMTYPE));
        assert_int_equal(fill(gpa2, permissions & EPT_R ? READ : FETCH), EPT02_FILLED);
        assert_int_equal(leaf02(gpa2 + 5).permissions, permissions);
        assert_int_equal(leaf02(gpa2 + 5).hpa, 0x10000 + gpa2 + 5);
        assert_int_equal(leaf02(gpa2).level, 1);
    }
}

static void test_leaf_size_is_the_smaller(void **state)
{
    (void)state;
    /* EPT01 has 1 GiB at FAR, 2 MiB and less below. */
    map12_at(0, 3, FAR | RWX_WB | EPT_LARGE, EPT_RWX);
    assert_int_equal(fill(0x123456, READ), EPT02_FILLED);
    assert_int_equal(leaf02(0x123456).level, 3);
    assert_int_equal(leaf02(0x123456).hpa, FAR + 0x123456);
    map12_at(GIB, 3, 0 | RWX_WB | EPT_LARGE, EPT_RWX);
    assert_int_equal(fill(GIB + 0x234567, READ), EPT02_FILLED);
    assert_int_equal(leaf02(GIB + 0x234567).level, 2);
    assert_int_equal(leaf02(GIB + 0x234567).hpa, 0x234567);
    map12_at(2 * GIB, 1, (FAR + 0x7000) | RWX_WB, EPT_RWX);
    assert_int_equal(fill(2 * GIB, READ), EPT02_FILLED);
    assert_int_equal(leaf02(2 * GIB).level, 1);
    assert_int_equal(leaf02(2 * GIB).hpa, FAR + 0x7000);
}

static void test_memory_types(void **state)
{
    static const unsigned row[][3] = {
        /* EPT12, EPT01, both */
        {MEMTYPE_WB, MEMTYPE_WB, MEMTYPE_WB}, {MEMTYPE_UC, MEMTYPE_WB, MEMTYPE_UC},
        {MEMTYPE_WC, MEMTYPE_WB, MEMTYPE_WC}, {MEMTYPE_WT, MEMTYPE_WB, MEMTYPE_WT},
        {MEMTYPE_WP, MEMTYPE_WB, MEMTYPE_WP}, {MEMTYPE_WB, MEMTYPE_UC, MEMTYPE_UC},
        {MEMTYPE_UC, MEMTYPE_UC, MEMTYPE_UC}, {MEMTYPE_WC, MEMTYPE_UC, MEMTYPE_UC},
        {MEMTYPE_WT, MEMTYPE_UC, MEMTYPE_UC},
    };

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(row); i++) {
        gpa_t gpa2 = i * PAGE_SIZE;
        map12(gpa2, row[i][1] == MEMTYPE_UC ? HOLE : 0x5000, EPT_R | PUT(row[i][0], EPT_MEMTYPE));
        assert_int_equal(fill(gpa2, READ), EPT02_FILLED);
        assert_int_equal(leaf02(gpa2).memtype, row[i][2]);
    }
}

static void test_mmio_passes_through(void **state)
{
    (void)state;
    map12(0x1000, 0xfee00000, RWX_WB);
    assert_int_equal(fill(0x1000, WRITE), EPT02_FILLED);
    assert_int_equal(leaf02(0x1000).hpa, 0xfee00000);
    /* Addresses that EPT01 maps on demand only. */
    map12(0x2000, 100 * GIB, RWX_WB);
    assert_int_equal(fill(0x2000, WRITE), EPT02_FILLED);
    assert_int_equal(leaf02(0x2000).hpa, 100 * GIB);
    assert_int_equal(leaf02(0x2000).permissions, EPT_RWX);
}

static void test_carveout(void **state)
{
    struct ept02_exit out;

    (void)state;
    map12(0x1000, CARVEOUT + 0x3000, RWX_WB);
    assert_int_equal(fill(0x1000, READ), EPT02_FILLED);
    assert_int_equal(leaf02(0x1234).hpa, ept01.ones_page + 0x234);
    assert_int_equal(leaf02(0x1000).permissions, EPT_R | EPT_X);
    assert_int_equal(ept02_fill(&e, eptp12, 0x1008, WRITE, WRITE, false, &out), EPT02_CARVEOUT);
    assert_int_equal(out.gpa1, CARVEOUT + 0x3008);
    assert_int_equal(*out.entry & (EPT_ADDRESS | EPT_RWX), ept01.ones_page | EPT_R | EPT_X);
    *out.entry |= EPT_W;
    assert_int_equal(leaf02(0x1000).permissions, EPT_RWX);
    *out.entry &= ~EPT_W;
    /* Inside a large page of L1, and as a write from the start. */
    map12_at(GIB, 2, CARVEOUT | RWX_WB | EPT_LARGE, EPT_RWX);
    assert_int_equal(fill(GIB + 0x5000, WRITE), EPT02_CARVEOUT);
    assert_int_equal(leaf02(GIB + 0x5000).hpa, ept01.ones_page);
    assert_int_equal(leaf02(GIB + 0x5000).level, 1);
    assert_int_equal(leaf02(GIB + 0x6000).level, 0);
    /* Where L1 itself refuses the write, the violation is L1's. */
    map12(0x2000, CARVEOUT, EPT_R | PUT(6, EPT_MEMTYPE));
    assert_int_equal(fill(0x2000, WRITE), EPT02_VIOLATION);
}

/* --- Changes of EPT12, and INVEPT --- */

static void test_invept_is_asked_for_when_something_goes(void **state)
{
    uint64_t *entry = map12(0x1000, 0x5000, EPT_R | PUT(6, EPT_MEMTYPE));

    (void)state;
    (void)eptp02_of(eptp12);
    assert_true(settle());
    assert_false(settle());
    assert_int_equal(fill(0x1000, READ), EPT02_FILLED);
    *entry |= EPT_W;
    assert_int_equal(fill(0x1000, WRITE), EPT02_FILLED);
    assert_false(settle()); /* more is allowed: the violation itself made the processor forget */
    *entry = 0x6000 | EPT_R | PUT(6, EPT_MEMTYPE);
    assert_int_equal(fill(0x1000, READ), EPT02_FILLED);
    assert_true(settle());
    assert_int_equal(leaf02(0x1000).hpa, 0x6000);
    invept_and_entry();
    assert_int_equal(leaf02(0x1000).level, 0);
    assert_false(settle());
}

/* L1 makes a table of a large page and a large page of a table, without INVEPT, while L2 runs on. */
static void test_large_page_toggles(void **state)
{
    uint64_t *entry = map12_at(GIB, 2, 0x200000 | RWX_WB | EPT_LARGE, EPT_RWX), large = *entry;
    gpa_t table = new_table();

    (void)state;
    for (unsigned i = 0; i < EPT_ENTRIES; i++)
        ((uint64_t *)(memory + table))[i] = (0x400000 + i * PAGE_SIZE) | RWX_WB;
    for (unsigned round = 0; round < 50; round++) {
        gpa_t gpa2 = GIB + host_random() % LARGE_2M;
        *entry = round % 2 ? table | EPT_RWX : large;
        assert_int_equal(fill(gpa2, WRITE), EPT02_FILLED);
        assert_int_equal(leaf02(gpa2).level, round % 2 ? 1 : 2);
        assert_int_equal(leaf02(gpa2).hpa, (round % 2 ? 0x400000 : 0x200000) + (gpa2 - GIB));
        assert_true(settle());
    }
    ept02_invept_all(&e);
    assert_true(settle());
    assert_int_equal(e.pages_used - e.clean, 1); /* the root alone */
}

static void test_roots_by_ep4ta_and_ad(void **state)
{
    uint64_t a = eptp12, b = new_table() | 0x1e;
    uint64_t a02 = eptp02_of(a), b02 = eptp02_of(b), a_ad = eptp02_of(a | EPTP_AD);

    (void)state;
    assert_int_equal(a02 & 0xfff, 0x1e);
    assert_int_equal(a_ad & 0xfff, 0x5e);
    assert_true((a02 & EP4TA) != (b02 & EP4TA) && (a02 & EP4TA) != (a_ad & EP4TA));
    /* The memory type of L1's EPTP is of no matter to the tables. */
    assert_int_equal(eptp02_of((a & ~7ull) | 0), a02);
    assert_int_equal(eptp02_of(b), b02);
    map12(0x1000, 0x5000, RWX_WB);
    assert_int_equal(fill(0x1000, READ), EPT02_FILLED);
    assert_int_equal(ept02_translate(&e, b, 0x1000).level, 0);
    /* INVEPT goes by EP4TA alone. */
    eptp12 = a | EPTP_AD;
    assert_int_equal(fill(0x1000, READ), EPT02_FILLED);
    (void)settle_of(a);
    (void)settle_of(b);
    (void)settle_of(a | EPTP_AD);
    ept02_invept_single(&e, b);
    assert_false(settle_of(a) || settle_of(a | EPTP_AD));
    assert_true(settle_of(b));
    assert_int_equal(ept02_translate(&e, a, 0x1000).level, 1);
    ept02_invept_single(&e, a | 0x41);
    assert_true(settle_of(a) && settle_of(a | EPTP_AD));
    assert_false(settle_of(b));
    assert_int_equal(ept02_translate(&e, a, 0x1000).level, 0);
    assert_int_equal(ept02_translate(&e, a | EPTP_AD, 0x1000).level, 0);
    assert_int_equal(this_cpu()->counters[COUNT_EPT02_FLUSHES], 2); /* that of b was empty */
    assert_int_equal(eptp02_of(a), a02);
}

static void test_least_recently_used_root_goes(void **state)
{
    uint64_t first = eptp12;

    (void)state;
    map12(0x1000, 0x5000, RWX_WB);
    assert_int_equal(fill(0x1000, READ), EPT02_FILLED);
    for (unsigned i = 1; i < EPT02_ROOTS; i++)
        (void)eptp02_of(0x100000000 + i * PAGE_SIZE);
    assert_int_equal(ept02_translate(&e, first, 0x1000).level, 1);
    (void)eptp02_of(first);
    (void)eptp02_of(0x200000000); /* evicts number 1 */
    assert_int_equal(ept02_translate(&e, first, 0x1000).level, 1);
    for (unsigned i = 0; i < EPT02_ROOTS; i++)
        (void)eptp02_of(0x300000000 + i * PAGE_SIZE);
    assert_int_equal(ept02_translate(&e, first, 0x1000).level, 0);
    assert_int_equal(e.pages_used, EPT02_ROOTS + (e.clean));
}

/* --- Want of pages --- */

static void test_recycling_keeps_the_root(void **state)
{
    uint64_t eptp02 = eptp02_of(eptp12);

    (void)state;
    /* One table of EPT02 for each 2 MiB: far more than the limit. */
    for (unsigned i = 0; i < 300; i++) {
        gpa_t gpa2 = i * LARGE_2M;
        map12(gpa2, 0x5000, RWX_WB);
        assert_int_equal(fill(gpa2, WRITE), EPT02_FILLED);
        assert_int_equal(leaf02(gpa2).hpa, 0x5000);
        assert_true(e.pages_used <= PAGE_LIMIT);
        assert_int_equal(eptp02_of(eptp12), eptp02);
    }
    assert_true(this_cpu()->counters[COUNT_EPT02_RECYCLED] > 2);
    assert_true(settle());
}

static void test_nobody_else_leaves_pages(void **state)
{
    void *held[4096];
    unsigned count = 0;

    (void)state;
    while ((held[count] = page_alloc()))
        count++;
    for (unsigned i = 0; i < 20; i++) {
        gpa_t gpa2 = i * 512 * GIB / 4;
        map12(gpa2, 0x5000, RWX_WB);
        assert_int_equal(fill(gpa2, READ), EPT02_FILLED);
        assert_int_equal(leaf02(gpa2).hpa, 0x5000);
        (void)eptp02_of(0x300000000 + i * PAGE_SIZE);
    }
    while (count > 0)
        page_free(held[--count]);
}

static void test_init_without_pages(void **state)
{
    static struct ept02s other;
    void *held[4096];
    unsigned count = 0;

    (void)state;
    while (page_count_free() > EPT02_RESERVE - 1)
        held[count++] = page_alloc();
    assert_int_equal(ept02_init(&other, &shared, &caps, PAGE_LIMIT), -1);
    assert_int_equal(page_count_free(), EPT02_RESERVE - 1);
    while (count > 0)
        page_free(held[--count]);
}

/* A processor makes a step with the leaf of EPT01, which has W meanwhile; EPT02 of another takes nothing over. */
static void test_carveout_open_elsewhere(void **state)
{
    uint64_t *leaf01 = ept_carveout_entry(&ept01, CARVEOUT);

    (void)state;
    map12(0x1000, CARVEOUT, RWX_WB);
    *leaf01 |= EPT_W;
    assert_int_equal(fill(0x1000, READ), EPT02_FILLED);
    assert_int_equal(leaf02(0x1000).permissions & EPT_W, 0);
    assert_int_equal(fill(0x1000, WRITE), EPT02_CARVEOUT);
    assert_int_equal(leaf02(0x1000).permissions & EPT_W, 0);
    *leaf01 &= ~EPT_W;
}

static void test_carveout_closes(void **state)
{
    struct ept02_exit out;

    (void)state;
    map12(0x1000, CARVEOUT, RWX_WB);
    map12(0x2000, 0x5000, RWX_WB);
    assert_int_equal(fill(0x2000, WRITE), EPT02_FILLED);
    assert_int_equal(ept02_fill(&e, eptp12, 0x1000, WRITE, WRITE, false, &out), EPT02_CARVEOUT);
    (void)settle();
    *out.entry |= EPT_W;
    ept02_close(&e, eptp12, 0x1000);
    assert_int_equal(leaf02(0x1000).permissions, EPT_R | EPT_X);
    assert_true(settle());
    ept02_close(&e, eptp12, 0x2000); /* other pages stay as they are */
    assert_int_equal(leaf02(0x2000).permissions, EPT_RWX);
    assert_false(settle());
}

/* One instruction stores to two pages of the carve-out, and there are no pages for the second: the first one's table
 * goes, and whoever has it then loses nothing. */
static void test_carveout_closes_without_its_table(void **state)
{
    struct ept02_exit out;
    uint64_t *first, kept = ept01.ones_page | EPT_RWX;

    (void)state;
    map12(0x1000, CARVEOUT, RWX_WB);
    assert_int_equal(ept02_fill(&e, eptp12, 0x1000, WRITE, WRITE, false, &out), EPT02_CARVEOUT);
    first = out.entry;
    *first |= EPT_W;
    for (unsigned i = 1; ept02_translate(&e, eptp12, 0x1000).level; i++) {
        map12(i * LARGE_2M, 0x5000, RWX_WB);
        assert_int_equal(fill(i * LARGE_2M, WRITE), EPT02_FILLED);
    }
    *first = kept;
    ept02_close(&e, eptp12, 0x1000);
    assert_int_equal(*first, kept);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_carveout_open_elsewhere),
        TEST(test_carveout_closes),
        TEST(test_carveout_closes_without_its_table),
        TEST(test_permissions_are_the_and),
        TEST(test_leaf_size_is_the_smaller),
        TEST(test_memory_types),
        TEST(test_mmio_passes_through),
        TEST(test_carveout),
        TEST(test_invept_is_asked_for_when_something_goes),
        TEST(test_large_page_toggles),
        TEST(test_roots_by_ep4ta_and_ad),
        TEST(test_least_recently_used_root_goes),
        TEST(test_recycling_keeps_the_root),
        TEST(test_nobody_else_leaves_pages),
        TEST(test_init_without_pages),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
