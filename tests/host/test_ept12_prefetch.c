/* sources: nested/ept02/ept02.c nested/ept02/ept02_fill.c nested/ept02/ept02_setup.c nested/ept02/ept02_tree.c
   nested/ept02/ept12_trace.c nested/ept02/ept02_filter.c nested/ept02/ept12_walk.c mm/gmem.c mm/ept_watch.c mm/ept.c
   mm/memmap.c mm/mtrr.c mm/page.c */
#include "tests/host/ept12_world.h"

/* Pages of L1 that the tests map in a row. */
#define RUN 40u

/* EPT12 maps RUN pages from gpa2 0 on to 4 MiB on. */
static void map_run(uint64_t flags)
{
    for (unsigned i = 0; i < RUN; i++)
        map12(i * PAGE_SIZE, 4 * MIB + i * PAGE_SIZE, flags);
}

static unsigned mapped_pages(void)
{
    unsigned count = 0;

    for (unsigned i = 0; i < EPT_ENTRIES; i++)
        count += leaf02(i * PAGE_SIZE).level != 0;
    return count;
}

/* The first page tells nothing; a second one behind it does. */
static void test_pages_in_a_row(void **state)
{
    (void)state;
    map_run(RWX_WB);
    assert_int_equal(fill(0, READ), EPT02_FILLED);
    assert_int_equal(mapped_pages(), 1);
    assert_int_equal(fill(PAGE_SIZE, READ), EPT02_FILLED);
    assert_int_equal(mapped_pages(), 2 + 16);
    for (unsigned i = 0; i < mapped_pages(); i++) {
        assert_int_equal(leaf02(i * PAGE_SIZE).hpa, 4 * MIB + i * PAGE_SIZE);
        assert_int_equal(leaf02(i * PAGE_SIZE).permissions, EPT_RWX);
    }
}

static void test_a_page_alone(void **state)
{
    (void)state;
    map_run(RWX_WB);
    assert_int_equal(fill(3 * PAGE_SIZE, READ), EPT02_FILLED);
    assert_int_equal(fill(9 * PAGE_SIZE, READ), EPT02_FILLED);
    assert_int_equal(mapped_pages(), 2);
}

/* It goes no farther than L1's entries do, and not into another large page of EPT01. */
static void test_where_it_ends(void **state)
{
    (void)state;
    map_run(RWX_WB);
    map12(4 * PAGE_SIZE, 0, 0);
    map12(8 * PAGE_SIZE, 4 * MIB, EPT_W);    /* a misconfiguration */
    map12(12 * PAGE_SIZE, 6 * MIB, RWX_WB);  /* elsewhere */
    map12(16 * PAGE_SIZE, CARVEOUT, RWX_WB); /* Nestor's memory */
    map12(20 * PAGE_SIZE, FAR, RWX_WB);      /* no RAM */
    assert_int_equal(fill(0, READ), EPT02_FILLED);
    assert_int_equal(fill(PAGE_SIZE, READ), EPT02_FILLED);
    assert_int_equal(mapped_pages(), 4);
    assert_int_equal(leaf02(4 * PAGE_SIZE).level, 0);
    assert_int_equal(fill(5 * PAGE_SIZE, READ), EPT02_FILLED);
    assert_int_equal(fill(6 * PAGE_SIZE, READ), EPT02_FILLED);
    assert_int_equal(leaf02(7 * PAGE_SIZE).level, 1);
    assert_int_equal(leaf02(8 * PAGE_SIZE).level, 0);
    assert_int_equal(fill(10 * PAGE_SIZE, READ), EPT02_FILLED);
    assert_int_equal(fill(11 * PAGE_SIZE, READ), EPT02_FILLED);
    assert_int_equal(leaf02(12 * PAGE_SIZE).level, 0);
    assert_int_equal(fill(14 * PAGE_SIZE, READ), EPT02_FILLED);
    assert_int_equal(fill(15 * PAGE_SIZE, READ), EPT02_FILLED);
    assert_int_equal(leaf02(16 * PAGE_SIZE).level, 0);
    assert_int_equal(fill(18 * PAGE_SIZE, READ), EPT02_FILLED);
    assert_int_equal(fill(19 * PAGE_SIZE, READ), EPT02_FILLED);
    assert_int_equal(leaf02(20 * PAGE_SIZE).level, 0);
}

/* It sets no flag of EPT12: what lacks A is left, and what lacks D gets no W. */
static void test_flags_stay_l1s(void **state)
{
    uint64_t *clean, *unused;

    (void)state;
    eptp12 |= EPTP_AD;
    map_run(RWX_WB | EPT_A | EPT_D);
    clean = map12(3 * PAGE_SIZE, 4 * MIB + 3 * PAGE_SIZE, RWX_WB | EPT_A);
    unused = map12(5 * PAGE_SIZE, 4 * MIB + 5 * PAGE_SIZE, RWX_WB);
    assert_int_equal(fill(0, READ), EPT02_FILLED);
    assert_int_equal(fill(PAGE_SIZE, READ), EPT02_FILLED);
    assert_int_equal(mapped_pages(), 5);
    assert_int_equal(leaf02(2 * PAGE_SIZE).permissions, EPT_RWX);
    assert_int_equal(leaf02(3 * PAGE_SIZE).permissions, EPT_R | EPT_X);
    assert_int_equal(*clean & (EPT_A | EPT_D), EPT_A);
    assert_int_equal(*unused & (EPT_A | EPT_D), 0);
}

/* Rights that the tables above do not give, and pages that are mapped already. */
static void test_rights_and_neighbours(void **state)
{
    (void)state;
    map_run(EPT_R | PUT(MEMTYPE_WB, EPT_MEMTYPE));
    assert_int_equal(fill(0, READ), EPT02_FILLED);
    assert_int_equal(fill(6 * PAGE_SIZE, READ), EPT02_FILLED);
    assert_int_equal(fill(PAGE_SIZE, READ), EPT02_FILLED);
    assert_int_equal(mapped_pages(), 7); /* up to the one that is there */
    assert_int_equal(leaf02(4 * PAGE_SIZE).permissions, EPT_R);
}

/* Pages that came by themselves lose W like others when one is traced. */
static void test_traced_afterwards(void **state)
{
    (void)state;
    map_run(RWX_WB);
    assert_int_equal(fill(0, READ), EPT02_FILLED);
    assert_int_equal(fill(PAGE_SIZE, READ), EPT02_FILLED);
    assert_int_equal(leaf02(9 * PAGE_SIZE).permissions, EPT_RWX);
    assert_int_equal(ept_watch_add(&watch, 4 * MIB + 9 * PAGE_SIZE, &watcher), 0);
    assert_int_equal(leaf02(9 * PAGE_SIZE).permissions, EPT_R | EPT_X);
    ept_watch_remove(&watch, &watcher);
}

/* A traced page is not to be had with W, nor are its neighbours: the large page is split. */
static void test_traced_before(void **state)
{
    (void)state;
    map_run(RWX_WB);
    assert_int_equal(ept_watch_add(&watch, 4 * MIB + 9 * PAGE_SIZE, &watcher), 0);
    assert_int_equal(fill(0, READ), EPT02_FILLED);
    assert_int_equal(fill(PAGE_SIZE, READ), EPT02_FILLED);
    assert_int_equal(mapped_pages(), 2);
    ept_watch_remove(&watch, &watcher);
}

/* INVEPT takes all of it back. */
static void test_invept(void **state)
{
    (void)state;
    map_run(RWX_WB);
    assert_int_equal(fill(0, READ), EPT02_FILLED);
    assert_int_equal(fill(PAGE_SIZE, READ), EPT02_FILLED);
    (void)settle();
    invept_and_entry();
    assert_int_equal(mapped_pages(), 0);
    assert_false(settle());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_pages_in_a_row),        TEST(test_a_page_alone),
        TEST(test_where_it_ends),         TEST(test_flags_stay_l1s),
        TEST(test_rights_and_neighbours), TEST(test_traced_afterwards),
        TEST(test_traced_before),         TEST(test_invept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
