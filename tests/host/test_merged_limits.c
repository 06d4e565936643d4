/* sources: nested/bitmap/merged.c nested/bitmap/merged_cache.c nested/bitmap/merged_dump.c
   nested/bitmap/merged_pays.c nested/bitmap/merged_words.c nested/bitmap/merged_wrong.c vmx/msr_bitmap.c
   mm/ept_watch.c mm/ept.c mm/memmap.c mm/mtrr.c mm/page.c kernel/cmdline.c kernel/format.c */
/* Merged bitmaps without tracing, without memory, with the deliberate faults; and random rounds of everything. */
#include "tests/host/merged_world.h"
#include "vmx/msr_bitmap.h"

/* The policy of merging at each entry never traces and never trusts. */
static void test_policy_merge(void **unused)
{
    (void)unused;
    options.bitmap = 1;
    struct merged *m = get(PAGE_A);
    for (unsigned i = 1; i <= 5; i++) {
        memory[PAGE_A + i] = (uint8_t)i;
        refresh(m, l0);
        assert_int_equal(reads, i);
        assert_int_equal(m->state, MERGED_UNTRACED);
        assert_true(writable(PAGE_A));
        assert_true(is_merge(m, l0_page));
    }
    assert_int_equal(counted(COUNT_BITMAP_MERGES_SAVED), 0);
    put(m);
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
    refresh(m, l0);
    assert_int_equal(m->state, MERGED_UNTRACED);
    assert_true(is_merge(m, l0_page));
    assert_null(merged_cache_get(&cache, MERGED_MSR, PAGE_B, &processor_a));
    page_free(taken[--count]); /* for one of the two pages of an entry */
    assert_null(merged_cache_get(&cache, MERGED_MSR, PAGE_B, &processor_a));
    assert_int_equal(page_count_free(), 1);
    while (count)
        page_free(taken[--count]);
    refresh(m, l0);
    assert_true(merged_is_fresh(m, 1));
    put(m);
}

/* All entries used: no more. Idle ones make room, the one first that was used longest ago. */
static void test_cache_full(void **unused)
{
    struct merged *m[ARRAY_SIZE(entries)];
    (void)unused;
    for (unsigned i = 0; i < ARRAY_SIZE(entries); i++)
        m[i] = get(PAGE_A + i * PAGE_SIZE);
    assert_null(merged_cache_get(&cache, MERGED_MSR, 0x80000, &processor_a));
    refresh(m[20], l0);
    put(m[20]);
    put(m[10]);
    struct merged *next = get(0x80000);
    assert_ptr_equal(next, m[20]);
    assert_int_equal(next->state, MERGED_EMPTY);
    assert_int_equal(next->page, 0x80000);
    assert_true(writable(PAGE_A + 20 * PAGE_SIZE));
    assert_int_equal(counted(COUNT_BITMAP_FREED), 1);
    assert_ptr_equal(get(PAGE_A + 10 * PAGE_SIZE), m[10]); /* still there */
    for (unsigned i = 0; i < ARRAY_SIZE(entries); i++)
        put(m[i]);
}

static struct merged *evicted;

static void forget(void *context, struct merged *m)
{
    (void)context;
    evicted = m;
}

/* With somebody to tell, entries in use make room too, and there are no more than the room that was given. */
static void test_eviction_by_last_use(void **unused)
{
    struct merged *m[3];
    (void)unused;
    start_cache(3);
    cache.evict = forget;
    for (unsigned i = 0; i < 3; i++) {
        m[i] = get(PAGE_A + i * PAGE_SIZE);
        refresh(m[i], l0);
    }
    merged_cache_touch(&cache, m[0]);
    evicted = NULL;
    struct merged *next = get(0x80000);
    assert_ptr_equal(evicted, m[1]);
    assert_ptr_equal(next, m[1]); /* its place */
    assert_true(writable(PAGE_A + PAGE_SIZE));
    assert_false(writable(PAGE_A));
    assert_int_equal(counted(COUNT_BITMAP_EVICTED), 1);
    assert_int_equal(watch.pages, 2);
    put(m[0]);
    put(m[2]);
    put(next);
}

/* L1 rewrites the page before each entry: tracing stops after a few rounds, is tried again, and rests longer then. */
static void test_rewritten_page_rests(void **unused)
{
    enum { ROUNDS = 1000 };
    (void)unused;
    struct merged *m = get(PAGE_A);
    refresh(m, l0);
    for (unsigned i = 0; i < ROUNDS; i++) {
        l1_store(PAGE_A + i % PAGE_SIZE, (uint8_t)i);
        refresh(m, l0);
        assert_true(is_merge(m, l0_page));
    }
    assert_int_equal(counted(COUNT_BITMAP_MERGES), ROUNDS + 1);
    assert_between(counted(COUNT_BITMAP_UNTRACED), 3, 6);
    assert_between(counted(COUNT_WATCH_ARMED), 3, ROUNDS / 50);
    put(m);
}

/* Once L1 leaves it alone it is traced again, and soon rests no longer than at first. */
static void test_quiet_page_is_traced_again(void **unused)
{
    (void)unused;
    struct merged *m = get(PAGE_A);
    refresh(m, l0);
    for (unsigned i = 0; i < 10; i++) {
        l1_store(PAGE_A, (uint8_t)i);
        refresh(m, l0);
    }
    assert_int_equal(m->state, MERGED_UNTRACED);
    for (unsigned i = 0; i < 100; i++)
        refresh(m, l0);
    assert_true(merged_is_fresh(m, 1));
    assert_int_equal(counted(COUNT_BITMAP_UNTRACED), 1);
    for (unsigned i = 0; i < 50; i++) { /* a store for every fourth entry: tracing pays */
        l1_store(PAGE_A, (uint8_t)i);
        for (unsigned k = 0; k < 4; k++)
            refresh(m, l0);
    }
    assert_int_equal(counted(COUNT_BITMAP_UNTRACED), 1);
    put(m);
}

static bool waits(struct merged *m)
{
    assert_true(merged_cache_keep(&cache, m, &processor_a));
    return merged_waits(m);
}

/* The first merges are done at once. Then each waits, until an access shows that it was wanted, for a while. */
static void test_merge_waits(void **unused)
{
    unsigned merges[] = {4, 64};
    (void)unused;
    struct merged *m = get(PAGE_A);
    for (unsigned round = 0; round < ARRAY_SIZE(merges); round++) {
        for (unsigned i = 0; i < merges[round]; i++) {
            l1_store(PAGE_A, (uint8_t)(i + 1));
            assert_false(waits(m));
            refresh(m, l0);
            assert_true(is_merge(m, l0_page));
        }
        if (merged_is_fresh(m, 1))
            assert_false(waits(m)); /* there is nothing to wait with */
        l1_store(PAGE_A, 0);
        uint64_t faults = counted(COUNT_WATCH_ARMED);
        for (unsigned i = 0; i < 100; i++) {
            l1_store(PAGE_A, (uint8_t)i);
            assert_true(waits(m));
        }
        assert_int_equal(counted(COUNT_WATCH_ARMED), faults);
        merged_wanted(m);
    }
    m->pays.keep_traced = true;
    for (unsigned i = 0; i < 100; i++)
        assert_false(waits(m));
    m->pays.keep_traced = false;
    m->pays.eager = 0;
    options.bitmap = BITMAP_MERGE;
    assert_false(waits(m));
    options.bitmap = BITMAP_TRACE;
    assert_true(waits(m));
    put(m);
}

/* L2 wrote to it while it ran: only a trace shows that. */
static void test_page_of_l2_stays_traced(void **unused)
{
    (void)unused;
    struct merged *m = get(PAGE_A);
    m->pays.keep_traced = true;
    refresh(m, l0);
    for (unsigned i = 0; i < 20; i++) {
        l1_store(PAGE_A, (uint8_t)i);
        refresh(m, l0);
        assert_true(merged_is_fresh(m, 1));
    }
    put(m);
}

/* The short list: what is not on it exits, what is follows L1's page and L0's. */
static void test_policy_allow(void **unused)
{
    enum { GS = 0xc0000101, STAR = 0xc0000081 };
    (void)unused;
    options.bitmap = BITMAP_ALLOW;
    cache.merge = merged_wrong_choose();
    memset(memory + PAGE_A, 0, PAGE_SIZE);
    struct merged *m = get(PAGE_A);
    refresh(m, l0);
    assert_false(msr_bitmap_test(m->result, GS, MSR_READ));
    assert_true(msr_bitmap_test(m->result, STAR, MSR_READ));
    assert_ptr_equal(merged_l1_page(m), memory + PAGE_A);
    msr_bitmap_set(memory + PAGE_A, GS, MSR_READ);
    refresh(m, l0);
    assert_true(msr_bitmap_test(m->result, GS, MSR_READ));
    assert_false(msr_bitmap_test(m->result, GS, MSR_WRITE));
    msr_bitmap_clear(memory + PAGE_A, GS, MSR_READ);
    msr_bitmap_set(other_l0_page, GS, MSR_WRITE);
    refresh(m, next_l0);
    assert_false(msr_bitmap_test(m->result, GS, MSR_READ));
    assert_true(msr_bitmap_test(m->result, GS, MSR_WRITE));
    assert_true(writable(PAGE_A));
    put(m);
}

/* The deliberate faults exist to be noticed: the invariant does not hold under them. */
static void test_fault_drop_l0_bits(void **unused)
{
    (void)unused;
    options.bitmap_check = 0;
    memset(memory + PAGE_A, 0, PAGE_SIZE);
    options.fault = 1;
    cache.merge = merged_wrong_choose();
    struct merged *m = get(PAGE_A);
    refresh(m, l0);
    assert_false(is_merge(m, l0_page));
    assert_int_equal(m->result[3] & l0_page[3], 0);
    options.fault = 0;
    cache.merge = merged_wrong_choose();
    refresh(m, next_l0);
    assert_true(is_merge(m, other_l0_page));
    put(m);
}

static void test_fault_skip_remerge(void **unused)
{
    (void)unused;
    options.bitmap_check = 0;
    memory[PAGE_A + 9] = 0;
    options.fault = 2;
    cache.merge = merged_wrong_choose();
    struct merged *m = get(PAGE_A);
    refresh(m, l0);
    assert_true(is_merge(m, l0_page)); /* the first merge is whole */
    l1_store(PAGE_A + 9, 0x80);
    refresh(m, l0);
    assert_true(merged_is_fresh(m, 1));
    assert_false(is_merge(m, l0_page));
    assert_int_equal(m->result[9] & 0x80, 0);
    options.fault = 0;
    cache.merge = merged_wrong_choose();
    l1_store(PAGE_A + 9, 0x81);
    refresh(m, l0);
    assert_true(is_merge(m, l0_page));
    put(m);
}

/* The option's words are the numbers that the code and these tests use. */
static void test_option_values(void **unused)
{
    struct options to = options;
    (void)unused;
    assert_int_equal(cmdline_parse("bitmap=merge fault=drop-l0-bits", &to, NULL), 0);
    assert_int_equal(to.bitmap, 1);
    assert_int_equal(to.fault, 1);
    assert_int_equal(cmdline_parse("bitmap=allow fault=forget-generation", &to, NULL), 0);
    assert_int_equal(to.bitmap, BITMAP_ALLOW);
    assert_int_equal(to.fault, FAULT_FORGET_GENERATION);
    assert_int_equal(cmdline_parse("bitmap=exit fault=never-rejoin", &to, NULL), 0);
    assert_int_equal(to.bitmap, BITMAP_EXIT);
    assert_int_equal(to.fault, FAULT_NEVER_REJOIN);
    assert_int_equal(cmdline_parse("fault=skip-ept02", &to, NULL), 0);
    assert_int_equal(to.fault, FAULT_SKIP_EPT02);
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
                slot[i] = merged_cache_get(&cache, (enum merged_kind)(host_random() % 2), page, &processor_a);
            break;
        case 1:
            if (slot[i])
                put(slot[i]);
            slot[i] = NULL;
            break;
        case 2:
            l1_store(page + host_random() % PAGE_SIZE, (uint8_t)host_random());
            break;
        case 3:
            if (host_random() % 16 == 0)
                policy = policy.generation == 1 ? next_l0 : l0;
            if (host_random() % 16 == 0)
                merged_cache_release(&cache, &processor_a);
            break;
        default:
            if (!slot[i])
                break;
            refresh(slot[i], policy);
            assert_true(is_merge(slot[i], policy.page));
            assert_true(merged_is_fresh(slot[i], policy.generation) || slot[i]->pays.untraced);
            assert_true(!writable(slot[i]->page) || slot[i]->pays.untraced);
        }
        if (round % 8 == 0)
            ept_retire_done(&ept, ept.generation);
    }
    for (unsigned i = 0; i < SLOTS; i++)
        if (slot[i])
            put(slot[i]);
    assert_true(counted(COUNT_BITMAP_MERGES) > 100 && counted(COUNT_BITMAP_MERGES_SAVED) > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_policy_merge),       TEST(test_no_pages_for_the_watch),     TEST(test_cache_full),
        TEST(test_fault_drop_l0_bits), TEST(test_fault_skip_remerge),         TEST(test_option_values),
        TEST(test_random_rounds),      TEST(test_eviction_by_last_use),       TEST(test_rewritten_page_rests),
        TEST(test_merge_waits),        TEST(test_quiet_page_is_traced_again), TEST(test_page_of_l2_stays_traced),
        TEST(test_policy_allow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
