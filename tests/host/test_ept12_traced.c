/* sources: nested/ept02/ept02.c nested/ept02/ept02_around.c nested/ept02/ept02_fill.c nested/ept02/ept02_setup.c
   nested/ept02/ept02_tree.c nested/ept02/ept12_trace.c nested/ept02/ept02_filter.c nested/ept02/ept12_walk.c
   mm/gmem.c mm/ept_watch.c mm/ept.c mm/memmap.c mm/mtrr.c mm/page.c */
#include "tests/host/ept12_world.h"

/* --- Traced pages --- */

static void test_traced_page_has_no_w(void **state)
{
    struct ept02_exit out;

    (void)state;
    map12(0x1000, 0x5000, RWX_WB);
    assert_int_equal(ept_watch_add(&watch, 0x5000, &watcher), 0);
    assert_int_equal(fill(0x1000, READ), EPT02_FILLED);
    assert_int_equal(leaf02(0x1000).permissions, EPT_R | EPT_X);
    assert_int_equal(ept02_fill(&e, eptp12, 0x1abc, WRITE, WRITE, false, &out), EPT02_WATCH);
    assert_int_equal(out.gpa1, 0x5abc);
    assert_true(ept_watch_hit(&watch, out.gpa1));
    assert_int_equal(fill(0x1abc, WRITE), EPT02_FILLED);
    assert_int_equal(leaf02(0x1000).permissions, EPT_RWX);
}

static void test_tracing_takes_w_from_all_leaves(void **state)
{
    uint64_t other = new_table() | 0x1e, first = eptp12;

    (void)state;
    map12(0x1000, 0x5000, RWX_WB);
    map12(0x7000000, 0x5000, RWX_WB);
    map12(0x2000, 0x6000, RWX_WB);
    map12_at(GIB, 2, 0 | RWX_WB | EPT_LARGE, EPT_RWX);
    assert_int_equal(fill(0x1000, WRITE), EPT02_FILLED);
    assert_int_equal(fill(0x2000, WRITE), EPT02_FILLED);
    assert_int_equal(fill(0x7000000, WRITE), EPT02_FILLED);
    assert_int_equal(fill(GIB + 0x9000, WRITE), EPT02_FILLED);
    eptp12 = other;
    map12(0x3000, 0x5000, RWX_WB);
    assert_int_equal(fill(0x3000, WRITE), EPT02_FILLED);
    (void)settle_of(first);
    (void)settle_of(other);
    assert_int_equal(ept_watch_add(&watch, 0x5000, &watcher), 0);
    assert_int_equal(leaf02(0x3000).permissions, EPT_R | EPT_X);
    assert_true(settle_of(first));
    assert_true(settle_of(other));
    eptp12 = first;
    assert_int_equal(leaf02(0x1000).permissions, EPT_R | EPT_X);
    assert_int_equal(leaf02(0x7000000).permissions, EPT_R | EPT_X);
    assert_int_equal(leaf02(0x2000).permissions, EPT_RWX);
    assert_int_equal(leaf02(GIB).permissions, EPT_R | EPT_X);
    /* A store elsewhere in the large page works: the leaf becomes smaller. */
    assert_int_equal(fill(GIB + 0x9000, WRITE), EPT02_FILLED);
    assert_int_equal(leaf02(GIB + 0x9000).level, 1);
    assert_int_equal(fill(GIB + 0x5000, WRITE), EPT02_WATCH);
    ept_watch_remove(&watch, &watcher);
}

static void test_filter_saves_the_scan(void **state)
{
    (void)state;
    map12(0x1000, 0x5000, EPT_R | PUT(6, EPT_MEMTYPE));
    assert_int_equal(fill(0x1000, READ), EPT02_FILLED);
    (void)settle();
    assert_int_equal(shared.writable[0], 0);
    assert_int_equal(ept_watch_add(&watch, 0x5000, &watcher), 0);
    assert_false(settle());
    ept_watch_remove(&watch, &watcher);
    map12(0x2000, 0x5000, RWX_WB);
    assert_int_equal(fill(0x2000, WRITE), EPT02_FILLED);
    assert_int_equal(shared.writable[0], BIT(5));
    assert_int_equal(ept_watch_add(&watch, 0x5000, &watcher), 0);
    assert_int_equal(shared.writable[0], 0);
    assert_true(settle());
    ept_watch_remove(&watch, &watcher);
    /* A large leaf has a mark of its own, as it loses W as a whole. */
    map12_at(GIB, 2, 0x200000 | RWX_WB | EPT_LARGE, EPT_RWX);
    assert_int_equal(fill(GIB, WRITE), EPT02_FILLED);
    assert_int_equal(shared.writable[8], 0);
    assert_int_equal(shared.writable_large[0], BIT(1));
    assert_int_equal(ept_watch_add(&watch, 0x2ff000, &watcher), 0);
    assert_int_equal(leaf02(GIB).permissions, EPT_R | EPT_X);
    assert_int_equal(shared.writable_large[0], 0);
    ept_watch_remove(&watch, &watcher);
    /* The part of one that EPT01 has split is a page like others. */
    assert_int_equal(ept_watch_add(&watch, 0x2ff000, &watcher), 0);
    assert_int_equal(fill(GIB + 0x5000, WRITE), EPT02_FILLED);
    assert_int_equal(leaf02(GIB + 0x5000).level, 1);
    assert_int_equal(shared.writable[8], BIT(5));
    ept_watch_remove(&watch, &watcher);
}

/* Whatever place the leaves have, in their tables and those above. */
static void test_all_places_lose_w(void **state)
{
    static const gpa_t places[] = {0x5000,
                                   0x6000,
                                   LARGE_2M - PAGE_SIZE,
                                   5 * LARGE_2M + 0x5000,
                                   511 * LARGE_2M,
                                   3 * GIB + 300 * LARGE_2M + 0x7000,
                                   511 * GIB,
                                   700 * GIB + 0x5000,
                                   BIT(47) + 0x5000,
                                   BIT(48) - PAGE_SIZE};
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
        map12(places[i], 0x5000, RWX_WB);
        assert_int_equal(fill(places[i], WRITE), EPT02_FILLED);
    }
    map12(0x7000, 0x6000, RWX_WB);
    map12_at(2 * GIB, 3, 0 | RWX_WB | EPT_LARGE, EPT_RWX);
    assert_int_equal(fill(0x7000, WRITE), EPT02_FILLED);
    assert_int_equal(fill(2 * GIB + 0x5000, WRITE), EPT02_FILLED);
    for (unsigned round = 0; round < 2; round++) {
        assert_int_equal(ept_watch_add(&watch, 0x5000, &watcher), 0);
        for (unsigned i = 0; i < ARRAY_SIZE(places); i++)
            assert_int_equal(leaf02(places[i]).permissions, EPT_R | EPT_X);
        assert_int_equal(leaf02(2 * GIB + 0x5000).permissions, EPT_R | EPT_X);
        assert_int_equal(leaf02(0x7000).permissions, EPT_RWX);
        ept_watch_remove(&watch, &watcher);
        for (unsigned i = 0; i < ARRAY_SIZE(places); i++)
            assert_int_equal(fill(places[i], WRITE), EPT02_FILLED);
        assert_int_equal(fill(2 * GIB + 0x5000, WRITE), EPT02_FILLED);
    }
}

/* --- Everything at once --- */

/* No EPT02 leaf may allow what EPT01 does not, nor reach Nestor. */
static void check_tables(const uint64_t *table, unsigned level)
{
    for (unsigned i = 0; i < EPT_ENTRIES; i++) {
        struct ept_leaf leaf02_part, leaf01;
        if (!table[i])
            continue;
        if (!ept_is_leaf(table[i], level)) {
            check_tables(hpa_to_va(table[i] & EPT_ADDRESS), level - 1);
            continue;
        }
        leaf02_part = ept_leaf_of(table[i], 0, level);
        assert_false((table[i] & EPT_W) && !(table[i] & EPT_R));
        if (leaf02_part.hpa == ept01.ones_page) {
            assert_false(table[i] & EPT_W);
            continue;
        }
        assert_true(IS_ALIGNED(leaf02_part.hpa, ept_level_size(level)));
        for (uint64_t part = 0; part < ept_level_size(level); part += level == 3 ? LARGE_2M : PAGE_SIZE) {
            leaf01 = ept_translate(&ept01, leaf02_part.hpa + part);
            assert_int_equal(leaf01.hpa, leaf02_part.hpa + part);
            assert_false(leaf02_part.permissions & ~leaf01.permissions);
        }
    }
}

static void check_all_trees(void)
{
    for (unsigned i = 0; i < EPT02_ROOTS; i++)
        if (e.root[i].table)
            check_tables(e.root[i].table, 4);
}

/* L2's view: the CPU walks EPT02, Nestor fills. The result is EPT02_FILLED when the access went through. */
static enum ept02_result access_l2(gpa_t gpa2, unsigned access)
{
    for (unsigned tries = 0; tries < 4; tries++) {
        struct ept_leaf leaf = leaf02(gpa2);
        struct ept02_exit out;
        enum ept02_result result;
        if (leaf.level && (leaf.permissions & access) == access)
            return EPT02_FILLED;
        result = ept02_fill(&e, eptp12, gpa2, access, access, false, &out);
        if (result == EPT02_WATCH)
            assert_true(ept_watch_hit(&watch, out.gpa1));
        else if (result != EPT02_FILLED)
            return result;
    }
    fail_msg("the access neither went through nor was it L1's");
    return EPT02_MISCONFIG;
}

static void test_random_life(void **state)
{
    static const unsigned accesses[] = {READ, WRITE, FETCH, READ | WRITE};

    (void)state;
    for (unsigned round = 0; round < 40; round++) {
        next_table = (eptp12 & EP4TA) + PAGE_SIZE;
        eptp12 ^= round % 2 ? EPTP_AD : 0;
        random_tree(8);
        invept_and_entry();
        for (unsigned step = 0; step < 400; step++) {
            gpa_t gpa2 = random_gpa2();
            unsigned access = accesses[host_random() % 4];
            struct expectation x = reference_walk(gpa2, access);
            enum ept02_result result = access_l2(gpa2, access);
            switch (x.kind) {
            case EPT12_WALK_OK:
                if (ept_is_carveout(&ept01, x.gpa1))
                    assert_int_equal(result, access & WRITE ? EPT02_CARVEOUT : EPT02_FILLED);
                else
                    assert_int_equal(result, EPT02_FILLED);
                if (result == EPT02_FILLED && !ept_is_carveout(&ept01, x.gpa1))
                    assert_int_equal(leaf02(gpa2).hpa, x.gpa1);
                break;
            case EPT12_WALK_MISCONFIG:
                assert_int_equal(result, EPT02_MISCONFIG);
                break;
            default:
                assert_int_equal(result, EPT02_VIOLATION);
            }
            assert_false(leaf02(gpa2).permissions & ~x.permissions);
            if (step % 5 == 0 && !watcher.armed) {
                gpa_t page = host_random() % 2 ? ALIGN_DOWN(x.gpa1, PAGE_SIZE) : host_random() % 2048 * PAGE_SIZE;
                (void)!ept_watch_add(&watch, page, &watcher);
            } else if (step % 5 == 3) {
                ept_watch_remove(&watch, &watcher);
            }
            ept_retire_done(&ept01, ept01.generation);
            if (step % 50 == 0)
                check_all_trees();
        }
        check_all_trees();
        ept_watch_remove(&watch, &watcher);
    }
    assert_true(this_cpu()->counters[COUNT_EPT02_RECYCLED] > 0);
}

/* --- Two processors --- */

static volatile bool stop;

/* L2 on one processor stores to a page again and again; it has no other way to W than ept02_fill(). */
static void *store_again_and_again(void *unused)
{
    struct ept02_exit out;

    while (!stop)
        (void)ept02_fill(&e, eptp12, 0x1000, WRITE, WRITE, false, &out);
    return unused;
}

/* While the page is traced by the other processor, no leaf may have W, whatever the fills did at the same time. */
static void test_fill_against_protect(void **state)
{
    struct watcher neighbour = {.stale = became_stale};
    pthread_t thread;
    unsigned seen = 0;

    (void)state;
    map12(0x1000, 0x5000, RWX_WB);
    /* Keeps the large page split: tracing is quick then, and meets the fills more often. */
    assert_int_equal(ept_watch_add(&watch, 0x7000, &neighbour), 0);
    stop = false;
    assert_int_equal(pthread_create(&thread, NULL, store_again_and_again, NULL), 0);
    for (unsigned round = 0; round < 30000; round++) {
        bool writable;
        assert_int_equal(ept_watch_add(&watch, 0x5000, &watcher), 0);
        spinlock_lock(&e.lock);
        writable = leaf02(0x1000).permissions & EPT_W;
        spinlock_unlock(&e.lock);
        seen += writable;
        ept_watch_remove(&watch, &watcher);
    }
    stop = true;
    pthread_join(thread, NULL);
    ept_watch_remove(&watch, &neighbour);
    assert_int_equal(seen, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_traced_page_has_no_w),  TEST(test_tracing_takes_w_from_all_leaves),
        TEST(test_filter_saves_the_scan), TEST(test_all_places_lose_w),
        TEST(test_random_life),           TEST(test_fill_against_protect),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
