/* sources: mm/page.c */
#include "tests/host/host.h"

#include <string.h>

#include "kernel/percpu.h"
#include "mm/page.h"

#define POOL_PAGES 64
#define USABLE (POOL_PAGES - 1) /* one page holds the states */

static uint8_t *pool;

static int setup(void **state)
{
    (void)state;
    pool = host_memory(POOL_PAGES * PAGE_SIZE);
    page_init(pool, pool + POOL_PAGES * PAGE_SIZE);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    host_memory_free();
    return 0;
}

static void test_all_pages_are_given_once(void **state)
{
    void *page[USABLE];

    (void)state;
    assert_int_equal(page_count_free(), USABLE);
    for (unsigned i = 0; i < USABLE; i++) {
        page[i] = page_alloc();
        assert_non_null(page[i]);
        assert_true(IS_ALIGNED((uint64_t)page[i], PAGE_SIZE));
        for (unsigned k = 0; k < i; k++)
            assert_ptr_not_equal(page[i], page[k]);
    }
    assert_null(page_alloc());
    assert_int_equal(page_count_free(), 0);
    for (unsigned i = 0; i < USABLE; i++)
        page_free(page[i]);
    assert_int_equal(page_count_free(), USABLE);
}

static void test_pages_come_zeroed_and_go_junked(void **state)
{
    static const uint8_t zeros[PAGE_SIZE];
    uint8_t *page = page_alloc();

    (void)state;
    memset(page, 0x11, PAGE_SIZE);
    page_free(page);
    assert_int_equal(page[100], 0xa5);
    assert_int_equal(page[PAGE_SIZE - 1], 0xa5);
    assert_ptr_equal(page_alloc(), page);
    assert_memory_equal(page, zeros, PAGE_SIZE);
}

static void test_run_adjoins(void **state)
{
    uint8_t *holes[USABLE], *run;

    (void)state;
    for (unsigned i = 0; i < USABLE; i++)
        holes[i] = page_alloc();
    for (unsigned i = 0; i < USABLE; i += 2)
        page_free(holes[i]);
    assert_null(page_alloc_run(2));
    page_free(holes[31]);
    run = page_alloc_run(3);
    assert_ptr_equal(run, holes[30]);
    assert_null(page_alloc_run(2));
    for (unsigned i = 0; i < 3; i++)
        page_free(run + i * PAGE_SIZE);
    for (unsigned i = 1; i < USABLE; i += 2)
        if (i != 31)
            page_free(holes[i]);
    assert_int_equal(page_count_free(), USABLE);
    assert_non_null(page_alloc_run(USABLE));
    assert_null(page_alloc());
}

static void test_wrong_frees_are_caught(void **state)
{
    uint8_t *page = page_alloc();

    (void)state;
    page_free(page);
    expect_assert_failure(page_free(page));
    setup(NULL);
    page = page_alloc();
    expect_assert_failure(page_free(page + 8));
    expect_assert_failure(page_free(pool));
    expect_assert_failure(page_free(pool + POOL_PAGES * PAGE_SIZE));
}

static void test_store_to_free_page_is_caught(void **state)
{
    uint64_t *page = page_alloc();

    (void)state;
    page_free(page);
    page[2] = 7;
    expect_assert_failure(page = page_alloc());
}

static void test_random_traffic(void **state)
{
    uint8_t *held[USABLE];
    unsigned count = 0;

    (void)state;
    for (unsigned step = 0; step < 20000; step++) {
        if (host_random() % 2 && count < USABLE) {
            uint8_t *page = page_alloc();
            assert_non_null(page);
            memset(page, 0xff, PAGE_SIZE);
            held[count++] = page;
        } else if (count > 0) {
            unsigned victim = (unsigned)(host_random() % count);
            page_free(held[victim]);
            held[victim] = held[--count];
        }
        assert_int_equal(page_count_free(), USABLE - count);
        assert_int_equal(this_cpu()->counters[COUNT_PAGES_FREE], USABLE - count);
    }
}

static int setup_counted(void **state)
{
    memset(this_cpu()->counters, 0, sizeof this_cpu()->counters);
    return setup(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_all_pages_are_given_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pages_come_zeroed_and_go_junked, setup, teardown),
        cmocka_unit_test_setup_teardown(test_run_adjoins, setup, teardown),
        cmocka_unit_test_setup_teardown(test_wrong_frees_are_caught, setup, teardown),
        cmocka_unit_test_setup_teardown(test_store_to_free_page_is_caught, setup, teardown),
        cmocka_unit_test_setup_teardown(test_random_traffic, setup_counted, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
