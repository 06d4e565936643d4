/* sources: nested/bitmap.c vmx/msr_bitmap.c mm/ept_watch.c mm/ept.c mm/memmap.c mm/mtrr.c mm/page.c kernel/cmdline.c kernel/format.c */
/* Merged bitmaps without tracing, without memory, with the deliberate faults; and random rounds of everything. */
#include "tests/host/merged_world.h"

/* The policy of merging at each entry never traces and never trusts. */
static void test_policy_merge(void **unused)
{
    (void)unused;
    options.bitmap = 1;
    struct merged *m = get(PAGE_A);
    for (unsigned i = 1; i <= 5; i++) {
        memory[PAGE_A + i] = (uint8_t)i;
        merged_refresh(&cache, m, l0);
        assert_int_equal(reads, i);
        assert_false(m->traced);
        assert_true(writable(PAGE_A));
        assert_true(is_merge(m, l0_page));
    }
    assert_int_equal(counted(COUNT_BITMAP_MERGES_SAVED), 0);
    merged_put(&cache, m, &user_a);
}

/* Tables for splitting EPT01 run out: no watch, so a merge at each entry. */
static void test_no_pages_for_the_watch(void **unused)
{
    static void *taken[MEMORY / PAGE_SIZE];
    unsigned count = 0;
    (void)unused;
    struct merged *m = get(PAGE_A);
    while ((taken[count] = page_alloc()) != NULL)
        count++;
    merged_refresh(&cache, m, l0);
    assert_int_equal(m->state, MERGED_STALE);
    assert_false(m->traced);
    assert_true(is_merge(m, l0_page));
    assert_null(merged_get(&cache, MERGED_MSR, PAGE_B));
    page_free(taken[--count]); /* for one of the two pages of an entry */
    assert_null(merged_get(&cache, MERGED_MSR, PAGE_B));
    assert_int_equal(page_count_free(), 1);
    while (count)
        page_free(taken[--count]);
    merged_refresh(&cache, m, l0);
    assert_true(merged_is_fresh(m, 1));
    merged_put(&cache, m, &user_a);
}

/* All entries used: no more. Idle ones make room, the one first that was used longest ago. */
static void test_cache_full(void **unused)
{
    struct merged *m[MERGED_MAX];
    (void)unused;
    for (unsigned i = 0; i < MERGED_MAX; i++)
        m[i] = get(PAGE_A + i * PAGE_SIZE);
    assert_null(merged_get(&cache, MERGED_MSR, 0x80000));
    merged_refresh(&cache, m[20], l0);
    merged_put(&cache, m[20], &user_a);
    merged_put(&cache, m[10], &user_a);
    struct merged *next = get(0x80000);
    assert_ptr_equal(next, m[20]);
    assert_int_equal(next->state, MERGED_EMPTY);
    assert_int_equal(next->page, 0x80000);
    assert_true(writable(PAGE_A + 20 * PAGE_SIZE));
    assert_int_equal(counted(COUNT_BITMAP_FREED), 1);
    assert_ptr_equal(get(PAGE_A + 10 * PAGE_SIZE), m[10]); /* still there */
    for (unsigned i = 0; i < MERGED_MAX; i++)
        merged_put(&cache, m[i], &user_a);
}

/* The deliberate faults exist to be noticed: the invariant does not hold under them. */
static void test_fault_drop_l0_bits(void **unused)
{
    (void)unused;
    memset(memory + PAGE_A, 0, PAGE_SIZE);
    options.fault = 1;
    struct merged *m = get(PAGE_A);
    merged_refresh(&cache, m, l0);
    assert_false(is_merge(m, l0_page));
    assert_int_equal(m->result[3] & l0_page[3], 0);
    options.fault = 0;
    merged_refresh(&cache, m, next_l0);
    assert_true(is_merge(m, other_l0_page));
    merged_put(&cache, m, &user_a);
}

static void test_fault_skip_remerge(void **unused)
{
    (void)unused;
    memory[PAGE_A + 9] = 0;
    options.fault = 2;
    struct merged *m = get(PAGE_A);
    merged_refresh(&cache, m, l0);
    assert_true(is_merge(m, l0_page)); /* the first merge is whole */
    l1_store(PAGE_A + 9, 0x80);
    merged_refresh(&cache, m, l0);
    assert_true(merged_is_fresh(m, 1));
    assert_false(is_merge(m, l0_page));
    assert_int_equal(m->result[9] & 0x80, 0);
    options.fault = 0;
    l1_store(PAGE_A + 9, 0x81);
    merged_refresh(&cache, m, l0);
    assert_true(is_merge(m, l0_page));
    merged_put(&cache, m, &user_a);
}

/* The option's words are the numbers that the code and these tests use. */
static void test_option_values(void **unused)
{
    struct options to = options;
    (void)unused;
    assert_int_equal(cmdline_parse("bitmap=merge fault=drop-l0-bits", &to, NULL), 0);
    assert_int_equal(to.bitmap, 1);
    assert_int_equal(to.fault, 1);
    assert_int_equal(cmdline_parse("bitmap=trace fault=skip-remerge", &to, NULL), 0);
    assert_int_equal(to.bitmap, 0);
    assert_int_equal(to.fault, 2);
}

/* Rounds of everything: after each entry the invariants hold for what the entry uses. */
static void test_random_rounds(void **unused)
{
    enum { PAGES = 5, SLOTS = 6 };
    struct merged *slot[SLOTS] = {NULL};
    struct merged_policy policy = l0;
    (void)unused;
    for (unsigned round = 0; round < 20000; round++) {
        unsigned i = (unsigned)(host_random() % SLOTS);
        gpa_t page = PAGE_A + host_random() % PAGES * PAGE_SIZE;
        switch (host_random() % 6) {
        case 0:
            if (!slot[i])
                slot[i] = merged_get(&cache, (enum merged_kind)(host_random() % 2), page);
            break;
        case 1:
            if (slot[i])
                merged_put(&cache, slot[i], &user_a);
            slot[i] = NULL;
            break;
        case 2:
            l1_store(page + host_random() % PAGE_SIZE, (uint8_t)host_random());
            break;
        case 3:
            if (host_random() % 16 == 0)
                policy = policy.generation == 1 ? next_l0 : l0;
            if (host_random() % 16 == 0)
                merged_release_user(&cache, &user_a);
            break;
        default:
            if (!slot[i])
                break;
            merged_refresh(&cache, slot[i], policy);
            assert_true(is_merge(slot[i], policy.page));
            assert_true(merged_is_fresh(slot[i], policy.generation));
            assert_false(writable(slot[i]->page));
        }
        if (round % 8 == 0)
            ept_retire_done(&ept, ept.generation);
    }
    for (unsigned i = 0; i < SLOTS; i++)
        if (slot[i])
            merged_put(&cache, slot[i], &user_a);
    assert_true(counted(COUNT_BITMAP_MERGES) > 100 && counted(COUNT_BITMAP_MERGES_SAVED) > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_policy_merge),       TEST(test_no_pages_for_the_watch), TEST(test_cache_full),
        TEST(test_fault_drop_l0_bits), TEST(test_fault_skip_remerge),     TEST(test_option_values),
        TEST(test_random_rounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
