/* sources: nested/ept02/ept02.c nested/ept02/ept02_around.c nested/ept02/ept02_fill.c nested/ept02/ept02_setup.c
   nested/ept02/ept02_tree.c nested/ept02/ept12_trace.c nested/ept02/ept02_filter.c nested/ept02/ept12_walk.c
   nested/ept02/ept02_stale.c mm/gmem.c mm/ept_watch.c mm/ept.c mm/memmap.c mm/mtrr.c mm/page.c */
/* The findings of the lint of a missing INVEPT: each change after which the SDM wants one, and no other. */
#include "tests/host/ept12_world.h"

#include "nested/ept02/ept02_stale.h"

#define ALL 1000000u

static struct ept02_stale found;

/* The finding of a look at the whole tree; "" for none. */
static const char *look(void)
{
    gpa_t from = 0;
    unsigned leaves = ALL;
    bool any = ept02_find_stale(&e, ept02_root(&e, eptp12), eptp12, &from, &leaves, &found);

    assert_int_equal(any, found.what != NULL);
    return any ? found.what : "";
}

static void fill_all(gpa_t gpa2)
{
    assert_int_equal(fill(gpa2, READ), EPT02_FILLED);
    assert_string_equal(look(), "");
}

static void test_each_change(void **state)
{
    static const struct {
        uint64_t old, new;
        const char *what;
    } changes[] = {
        {0x5000 | RWX_WB, 0x5000 | RWX_WB, ""},
        {0x5000 | EPT_R | (RWX_WB & ~(uint64_t)EPT_RWX), 0x5000 | RWX_WB, ""}, /* L2 would fault and see it */
        {0x5000 | RWX_WB, 0x5000 | RWX_WB | EPT_A | EPT_D, ""},
        {0x5000 | RWX_WB | EPT_A | EPT_D, 0x5000 | RWX_WB, ""}, /* not what the lint is for */
        {0x5000 | RWX_WB, 0x6000 | RWX_WB, "has another address than before"},
        {0x5000 | RWX_WB, 0x5000 | (RWX_WB & ~(uint64_t)EPT_W), "has fewer rights than before"},
        {0x5000 | RWX_WB, 0x5000 | (RWX_WB & ~(uint64_t)EPT_X), "has fewer rights than before"},
        {0x5000 | RWX_WB, 0, "is not present any more"},
        {0x5000 | RWX_WB, 0x5000 | (RWX_WB & ~(uint64_t)EPT_R), "is misconfigured now"},
        {0x5000 | RWX_WB, 0x5000 | EPT_RWX, "has another memory type than before"},
        {0x5000 | RWX_WB, 0x5000 | RWX_WB | EPT_IGNORE_PAT, "has another memory type than before"},
    };

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(changes); i++) {
        uint64_t *entry = map12(0x3000, changes[i].old & EPT_ADDRESS, changes[i].old & ~EPT_ADDRESS);
        fill_all(0x3000);
        *entry = changes[i].new;
        assert_string_equal(look(), changes[i].what);
        assert_int_equal(*entry, changes[i].new); /* no flag was set */
        if (*changes[i].what) {
            assert_int_equal(found.gpa2, 0x3000);
            assert_int_equal(found.where, (uint64_t)((uint8_t *)entry - memory));
            assert_int_equal(found.entry, changes[i].new);
            assert_int_equal(found.level, 1);
        }
        invept_and_entry();
        assert_string_equal(look(), "");
    }
}

static void test_a_large_page_is_split(void **state)
{
    uint64_t *entry = map12_at(LARGE_2M, 2, LARGE_2M | RWX_WB | EPT_LARGE, EPT_RWX);
    gpa_t table = new_table();

    (void)state;
    fill_all(LARGE_2M);
    for (unsigned i = 0; i < EPT_ENTRIES; i++)
        *entry_at(table, i * PAGE_SIZE, 1) = (LARGE_2M + i * PAGE_SIZE) | RWX_WB;
    *entry = table | EPT_RWX;
    assert_string_equal(look(), "has smaller pages than before");
    assert_int_equal(found.where, table);
}

static void test_a_table_above(void **state)
{
    (void)state;
    map12(GIB, 0x5000, RWX_WB);
    fill_all(GIB);
    *entry_at(eptp12 & EP4TA, GIB, 4) = 0;
    assert_string_equal(look(), "is not present any more");
    assert_int_equal(found.level, 4);
    assert_int_equal(found.gpa2, GIB);
}

/* EPT01's large page is split and loses W behind EPT02's back, and Nestor's own memory is the page of ones: L1 changed
 * nothing. */
static void test_changes_of_nestor_are_none(void **state)
{
    (void)state;
    map12_at(2 * LARGE_2M, 2, (2 * LARGE_2M) | RWX_WB | EPT_LARGE, EPT_RWX);
    fill_all(2 * LARGE_2M);
    assert_int_equal(ept_watch_add(&watch, 2 * LARGE_2M + 0x7000, &watcher), 0);
    assert_string_equal(look(), "");
    assert_int_equal(fill(2 * LARGE_2M + 0x7000, READ), EPT02_FILLED);
    assert_string_equal(look(), "");
    ept_watch_remove(&watch, &watcher);
    map12(0x9000, CARVEOUT, RWX_WB);
    fill_all(0x9000);
}

static bool look_at_three(gpa_t *from)
{
    unsigned leaves = 3;
    bool any = ept02_find_stale(&e, ept02_root(&e, eptp12), eptp12, from, &leaves, &found);

    assert_true(any || !leaves || !*from);
    return any;
}

/* A few leaves at each look: the whole tree is seen in the end, from wherever it went on. */
static void test_a_look_goes_on(void **state)
{
    gpa_t from = 0, seen = 0;
    uint64_t *last = NULL;
    unsigned looks = 0;

    (void)state;
    for (unsigned i = 0; i < 20; i++) {
        last = map12(i * (LARGE_2M + 0x1000), 0x5000, RWX_WB);
        fill_all(i * (LARGE_2M + 0x1000));
    }
    do {
        assert_false(look_at_three(&from));
        assert_true(from == 0 || from > seen);
        seen = from;
        looks++;
    } while (from);
    assert_int_equal(looks, 7);
    *last = 0;
    for (looks = 1; !look_at_three(&from); looks++)
        assert_true(looks < 7);
    assert_int_equal(found.gpa2, 19 * (LARGE_2M + 0x1000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(test_each_change), TEST(test_a_large_page_is_split),
                                       TEST(test_a_table_above), TEST(test_changes_of_nestor_are_none),
                                       TEST(test_a_look_goes_on)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
