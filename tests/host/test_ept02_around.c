/* sources: nested/ept02/ept02.c nested/ept02/ept02_around.c nested/ept02/ept02_fill.c nested/ept02/ept02_setup.c
   nested/ept02/ept02_tree.c nested/ept02/ept12_trace.c nested/ept02/ept02_filter.c nested/ept02/ept12_walk.c
   mm/gmem.c mm/ept_watch.c mm/ept.c mm/memmap.c mm/mtrr.c mm/page.c */
#include "tests/host/ept12_world.h"

/* Pages of L1 that the tests map in a row, of 512; and those of the first fill in a table. */
#define RUN 40u
#define FIRST 32u

/* EPT12 maps `count` pages from gpa2 0 on to 4 MiB on. */
static void map_pages(unsigned count, uint64_t flags)
{
    for (unsigned i = 0; i < count; i++)
        map12(i * PAGE_SIZE, 4 * MIB + i * PAGE_SIZE, flags);
}

static unsigned mapped_from(unsigned first)
{
    unsigned count = 0;

    for (unsigned i = first; i < EPT_ENTRIES; i++)
        count += leaf02(i * PAGE_SIZE).level != 0;
    return count;
}

/* From page `first` on, mapped to where L1 says with these rights, and no other. */
static void expect_mapped(unsigned first, unsigned count, uint64_t rights)
{
    for (unsigned i = first; i < first + count; i++) {
        assert_int_equal(leaf02(i * PAGE_SIZE).hpa, 4 * MIB + i * PAGE_SIZE);
        assert_int_equal(leaf02(i * PAGE_SIZE).permissions, rights);
    }
    assert_int_equal(mapped_from(0), count);
}

static void touch(unsigned page)
{
    assert_int_equal(fill(page * PAGE_SIZE, READ), EPT02_FILLED);
}

/* The 32 around the first, 128 at the second, and at the third all of the table; each is counted once. */
static void test_more_each_time(void **state)
{
    static const unsigned touched[] = {133, 170, 50}, sum[] = {FIRST, 128, EPT_ENTRIES};

    (void)state;
    map_pages(EPT_ENTRIES, RWX_WB);
    for (unsigned i = 0; i < ARRAY_SIZE(touched); i++) {
        touch(touched[i]);
        assert_int_equal(mapped_from(i < 2 ? 128 : 0), sum[i]);
        assert_int_equal(this_cpu()->counters[COUNT_EPT02_FILLS], sum[i]);
    }
    expect_mapped(0, EPT_ENTRIES, EPT_RWX);
}

/* Holes, leaves with other rights, breaks in the order of pages, leaves that are there already: at random, all of what
 * is mapped leads where L1 says, with what L1 allows. */
static void test_rows_at_random(void **state)
{
    (void)state;
    for (gpa_t base = 0; base < 40 * LARGE_2M; base += LARGE_2M) {
        uint64_t *table12 = map12(base, 0, 0);
        for (unsigned i = 0, page = 0; i < EPT_ENTRIES; i++, page++) {
            if (host_random() % 20 == 0)
                page = host_random() % 512;
            table12[i] = (4 * MIB + page % 512 * PAGE_SIZE) | RWX_WB;
            if (host_random() % 20 == 0)
                table12[i] &= ~(EPT_W * (host_random() % 4));
        }
        for (unsigned n = 0; n < 2 + base / LARGE_2M % 3; n++) {
            unsigned i = host_random() % EPT_ENTRIES;
            (void)fill(base + i * PAGE_SIZE, READ);
        }
        for (unsigned i = 0; i < EPT_ENTRIES; i++) {
            struct ept_leaf leaf = leaf02(base + i * PAGE_SIZE);
            if (leaf.level && !(table12[i] & EPT_R))
                fail();
            if (!leaf.level)
                continue;
            assert_int_equal(leaf.hpa, table12[i] & EPT_ADDRESS);
            assert_int_equal(leaf.permissions, table12[i] & EPT_RWX);
        }
    }
}

/* A leaf that EPT02 has is left as it is, also one of a page that is traced no more. */
static void test_what_is_there_stays(void **state)
{
    (void)state;
    map_pages(EPT_ENTRIES, RWX_WB);
    touch(0);
    assert_int_equal(ept_watch_add(&watch, 4 * MIB + 9 * PAGE_SIZE, &watcher), 0);
    ept_watch_remove(&watch, &watcher);
    touch(100);
    touch(300);
    assert_int_equal(leaf02(9 * PAGE_SIZE).permissions, EPT_R | EPT_X);
    assert_int_equal(leaf02(10 * PAGE_SIZE).permissions, EPT_RWX);
    assert_int_equal(mapped_from(0), EPT_ENTRIES);
}

/* L1 maps page by page: nothing is there that could be taken, and later, what it mapped behind the touched one. */
static void test_no_neighbours(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 20; i++) {
        map12(2 * i * PAGE_SIZE, 4 * MIB, RWX_WB);
        touch(2 * i);
    }
    assert_int_equal(mapped_from(0), 20);
    map12(101 * PAGE_SIZE, 4 * MIB, RWX_WB);
    map12(102 * PAGE_SIZE, 4 * MIB, RWX_WB);
    map12(200 * PAGE_SIZE, 4 * MIB, RWX_WB);
    touch(101);
    assert_int_equal(mapped_from(0), 20 + 2);
}

/* An entry that is not usual is left to an exit of its own; what is, though it leads elsewhere, is not. */
static void test_what_is_left(void **state)
{
    (void)state;
    map_pages(16, RWX_WB);
    map12(4 * PAGE_SIZE, 0, 0);
    map12(5 * PAGE_SIZE, 4 * MIB, EPT_W | PUT(MEMTYPE_WB, EPT_MEMTYPE)); /* a misconfiguration */
    map12(6 * PAGE_SIZE, 6 * MIB, RWX_WB);                               /* elsewhere */
    map12(7 * PAGE_SIZE, CARVEOUT, RWX_WB);                              /* Nestor's memory */
    map12(8 * PAGE_SIZE, FAR, RWX_WB);                                   /* no RAM */
    map12(9 * PAGE_SIZE, 4 * MIB, EPT_RWX | PUT(MEMTYPE_UC, EPT_MEMTYPE));
    map12(10 * PAGE_SIZE, BIT(45), RWX_WB); /* beyond the width of addresses */
    map12(11 * PAGE_SIZE, HOLE, RWX_WB);
    touch(0);
    for (unsigned i = 0; i < 16; i++)
        assert_int_equal(leaf02(i * PAGE_SIZE).level, i == 4 || i == 5 || i == 7 || i == 9 || i == 10 ? 0 : 1);
    assert_int_equal(leaf02(6 * PAGE_SIZE).hpa, 6 * MIB);
    assert_int_equal(leaf02(8 * PAGE_SIZE).hpa, FAR);
    assert_int_equal(leaf02(11 * PAGE_SIZE).memtype, MEMTYPE_UC);
    assert_int_equal(leaf02(12 * PAGE_SIZE).memtype, MEMTYPE_WB);
}

/* It sets no flag of EPT12: what lacks A is left, and what lacks D gets no W. */
static void test_flags_stay_l1s(void **state)
{
    uint64_t *clean, *unused;

    (void)state;
    eptp12 |= EPTP_AD;
    map_pages(RUN, RWX_WB | EPT_A | EPT_D);
    clean = map12(3 * PAGE_SIZE, 4 * MIB + 3 * PAGE_SIZE, RWX_WB | EPT_A);
    unused = map12(5 * PAGE_SIZE, 4 * MIB + 5 * PAGE_SIZE, RWX_WB);
    touch(0);
    assert_int_equal(mapped_from(0), FIRST - 1);
    assert_int_equal(leaf02(2 * PAGE_SIZE).permissions, EPT_RWX);
    assert_int_equal(leaf02(3 * PAGE_SIZE).permissions, EPT_R | EPT_X);
    assert_int_equal(leaf02(5 * PAGE_SIZE).level, 0);
    assert_int_equal(*clean & (EPT_A | EPT_D), EPT_A);
    assert_int_equal(*unused & (EPT_A | EPT_D), 0);
}

/* Rights are those of the entry, of the tables above, and of EPT01. */
static void test_rights(void **state)
{
    (void)state;
    map_pages(16, EPT_R | PUT(MEMTYPE_WB, EPT_MEMTYPE));
    map12(2 * PAGE_SIZE, 4 * MIB + 2 * PAGE_SIZE, EPT_R | EPT_X | PUT(MEMTYPE_WB, EPT_MEMTYPE));
    touch(0);
    assert_int_equal(leaf02(2 * PAGE_SIZE).permissions, EPT_R | EPT_X);
    assert_int_equal(leaf02(4 * PAGE_SIZE).permissions, EPT_R);
    assert_int_equal(mapped_from(0), 16);
}

static void test_rights_above(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 16; i++)
        map12_at(i * PAGE_SIZE, 1, 4 * MIB + i * PAGE_SIZE + RWX_WB, EPT_R | EPT_X);
    touch(0);
    expect_mapped(0, 16, EPT_R | EPT_X);
}

/* Pages that came by themselves lose W like others when one is traced. */
static void test_traced_afterwards(void **state)
{
    (void)state;
    map_pages(RUN, RWX_WB);
    touch(0);
    assert_int_equal(leaf02(9 * PAGE_SIZE).permissions, EPT_RWX);
    assert_int_equal(ept_watch_add(&watch, 4 * MIB + 9 * PAGE_SIZE, &watcher), 0);
    assert_int_equal(leaf02(9 * PAGE_SIZE).permissions, EPT_R | EPT_X);
    assert_int_equal(leaf02(10 * PAGE_SIZE).permissions, EPT_RWX);
    ept_watch_remove(&watch, &watcher);
}

/* A traced page is not to be had with W; its neighbours, whose large page is split, are. */
static void test_traced_before(void **state)
{
    (void)state;
    map_pages(16, RWX_WB);
    assert_int_equal(ept_watch_add(&watch, 4 * MIB + 9 * PAGE_SIZE, &watcher), 0);
    touch(0);
    assert_int_equal(mapped_from(0), 16);
    for (unsigned i = 0; i < 16; i++)
        assert_int_equal(leaf02(i * PAGE_SIZE).permissions, i == 9 ? EPT_R | EPT_X : EPT_RWX);
    ept_watch_remove(&watch, &watcher);
}

/* Pages of 2 MiB: as large as both sides have them, and traced like small ones. */
static void test_large_pages(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 4; i++)
        map12_at(i * LARGE_2M, 2, (i < 3 ? i * LARGE_2M : 4 * MIB + PAGE_SIZE) | RWX_WB | EPT_LARGE, EPT_RWX);
    assert_int_equal(ept_watch_add(&watch, LARGE_2M, &watcher), 0); /* of the second, EPT01 has small pages now */
    assert_int_equal(fill(0, READ), EPT02_FILLED);
    assert_int_equal(leaf02(0).level, 2);
    assert_int_equal(leaf02(LARGE_2M).level, 0);
    assert_int_equal(leaf02(2 * LARGE_2M).level, 2);
    assert_int_equal(leaf02(2 * LARGE_2M).hpa, 2 * LARGE_2M);
    assert_int_equal(leaf02(2 * LARGE_2M).permissions, EPT_RWX);
    assert_int_equal(leaf02(3 * LARGE_2M).level, 0); /* reserved bits */
    ept_watch_remove(&watch, &watcher);
    assert_int_equal(ept_watch_add(&watch, 2 * LARGE_2M + PAGE_SIZE, &watcher), 0);
    assert_int_equal(leaf02(2 * LARGE_2M).permissions, EPT_R | EPT_X);
    ept_watch_remove(&watch, &watcher);
}

/* 32 at the first, 128 at the second, all at the third; as EPT01 has them, of 2 MiB or of 1 GiB. */
static void test_large_rows(void **state)
{
    static const unsigned touched[] = {35, 70, 300}, sum[] = {32, 128, EPT_ENTRIES - 6};

    (void)state;
    for (unsigned i = 0; i < EPT_ENTRIES; i++)
        map12_at(i * LARGE_2M, 2, (i / 16 % 2 ? FAR + i * LARGE_2M : i % 4 * LARGE_2M) | RWX_WB | EPT_LARGE, EPT_RWX);
    for (unsigned i = 128; i < EPT_ENTRIES; i += EPT_ENTRIES / 8)
        map12_at(i * LARGE_2M, 2, CARVEOUT | RWX_WB | EPT_LARGE, EPT_RWX);
    assert_int_equal(ept_watch_add(&watch, PAGE_SIZE, &watcher), 0);
    ept_watch_remove(&watch, &watcher); /* the first gigabyte is in pages of 2 MiB now */
    for (unsigned i = 0; i < ARRAY_SIZE(touched); i++) {
        unsigned mapped = 0;
        assert_int_equal(fill(touched[i] * LARGE_2M, READ), EPT02_FILLED);
        for (unsigned n = 0; n < EPT_ENTRIES; n++) {
            struct ept_leaf leaf = leaf02(n * LARGE_2M);
            mapped += leaf.level == 2;
            assert_true(!leaf.level || leaf.hpa == (n / 16 % 2 ? FAR + n * LARGE_2M : n % 4 * LARGE_2M));
            assert_true(!leaf.level || leaf.permissions == EPT_RWX);
        }
        assert_int_equal(mapped, sum[i]);
    }
    assert_int_equal(ept_watch_add(&watch, 6 * MIB, &watcher), 0);
    for (unsigned n = 0; n < EPT_ENTRIES; n++)
        if (leaf02(n * LARGE_2M).level)
            assert_int_equal(leaf02(n * LARGE_2M).permissions, n / 16 % 2 == 0 && n % 4 == 3 ? EPT_R | EPT_X : EPT_RWX);
    ept_watch_remove(&watch, &watcher);
}

/* A row does not go on where EPT01 has another leaf: a page of another 2 MiB may be traced, or Nestor's. */
static void test_row_ends_with_ept01(void **state)
{
    (void)state;
    for (unsigned i = 0; i < EPT_ENTRIES; i++) {
        map12(i * PAGE_SIZE, 3 * MIB + i * PAGE_SIZE, RWX_WB);
        map12(LARGE_2M + i * PAGE_SIZE, 7 * MIB + i * PAGE_SIZE, RWX_WB);
    }
    assert_int_equal(ept_watch_add(&watch, 4 * MIB + 5 * PAGE_SIZE, &watcher), 0);
    touch(0);
    touch(100);
    touch(300);
    touch(EPT_ENTRIES);
    touch(EPT_ENTRIES + 100);
    touch(EPT_ENTRIES + 200);
    for (unsigned i = 0; i < EPT_ENTRIES; i++) {
        assert_int_equal(leaf02(i * PAGE_SIZE).permissions, i == 256 + 5 ? EPT_R | EPT_X : EPT_RWX);
        assert_int_equal(leaf02(LARGE_2M + i * PAGE_SIZE).level, i < 256);
    }
    ept_watch_remove(&watch, &watcher);
}

/* The page that Nestor's memory reads as is itself of that memory, and writable while a processor makes a step. */
static void test_page_of_ones(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 8; i++)
        map12(i * PAGE_SIZE, i == 3 ? ept01.ones_page : 4 * MIB + i * PAGE_SIZE, RWX_WB);
    *ept_carveout_entry(&ept01, ept01.ones_page) |= EPT_W;
    touch(0);
    assert_int_equal(leaf02(3 * PAGE_SIZE).level, 0);
    assert_int_equal(leaf02(4 * PAGE_SIZE).level, 1);
    *ept_carveout_entry(&ept01, ept01.ones_page) &= ~EPT_W;
}

/* INVEPT takes all of it back. */
static void test_invept(void **state)
{
    (void)state;
    map_pages(RUN, RWX_WB);
    touch(0);
    (void)settle();
    invept_and_entry();
    assert_int_equal(mapped_from(0), 0);
    assert_false(settle());
    touch(0);
    assert_int_equal(mapped_from(0), FIRST);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_more_each_time), TEST(test_no_neighbours),
        TEST(test_what_is_left),   TEST(test_flags_stay_l1s),
        TEST(test_rights),         TEST(test_rights_above),
        TEST(test_traced_before),  TEST(test_traced_afterwards),
        TEST(test_large_pages),    TEST(test_invept),
        TEST(test_rows_at_random), TEST(test_what_is_there_stays),
        TEST(test_large_rows),     TEST(test_row_ends_with_ept01),
        TEST(test_page_of_ones),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
