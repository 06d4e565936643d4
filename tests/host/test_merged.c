/* sources: nested/bitmap/merged.c nested/bitmap/merged_cache.c nested/bitmap/merged_dump.c
   nested/bitmap/merged_pays.c nested/bitmap/merged_words.c nested/bitmap/merged_wrong.c vmx/msr_bitmap.c
   mm/ept_watch.c mm/ept.c mm/memmap.c mm/mtrr.c mm/page.c kernel/cmdline.c kernel/format.c */
/* States, sharing and content of merged bitmaps. */
#include "tests/host/merged_world.h"

static void test_empty_then_fresh(void **unused)
{
    (void)unused;
    struct merged *m = get(PAGE_A);
    assert_int_equal(m->state, MERGED_EMPTY);
    assert_int_equal(m->users, 1);
    assert_true(writable(PAGE_A));
    assert_int_equal(reads, 0);
    refresh(m, l0);
    assert_int_equal(m->state, MERGED_FRESH);
    assert_true(merged_is_fresh(m, 1));
    assert_true(m->watcher.armed);
    assert_false(writable(PAGE_A));
    assert_true(writable(PAGE_A + PAGE_SIZE));
    assert_true(is_merge(m, l0_page));
    put(m);
}

/* A fresh entry costs nothing: not one byte of L1's page is read. */
static void test_fresh_saves_the_merge(void **unused)
{
    (void)unused;
    struct merged *m = get(PAGE_A);
    refresh(m, l0);
    for (unsigned i = 0; i < 10; i++)
        refresh(m, l0);
    assert_int_equal(reads, 1);
    assert_int_equal(counted(COUNT_BITMAP_MERGES), 1);
    assert_int_equal(counted(COUNT_BITMAP_MERGES_SAVED), 10);
    assert_int_equal(counted(COUNT_WATCH_ARMED), 1);
    put(m);
}

static void test_store_makes_stale_and_is_merged(void **unused)
{
    (void)unused;
    struct merged *m = get(PAGE_A);
    refresh(m, l0);
    memory[PAGE_A + 100] = 0;
    options.bitmap_check = 0;
    refresh(m, l0); /* what no watch saw changes nothing: device DMA */
    assert_int_equal(reads, 1);
    l1_store(PAGE_A + 100, 0x81);
    assert_int_equal(m->state, MERGED_STALE);
    assert_false(m->watcher.armed);
    assert_true(writable(PAGE_A));
    l1_store(PAGE_A + 101, 0x42); /* further stores are free */
    assert_int_equal(counted(COUNT_BITMAP_MERGES), 1);
    refresh(m, l0);
    assert_int_equal(m->state, MERGED_FRESH);
    assert_int_equal(m->result[101] & 0x42, 0x42);
    assert_false(writable(PAGE_A));
    assert_true(is_merge(m, l0_page));
    put(m);
}

/* Bits go both ways: what L1 cleared does not stay set, except for L0's. */
static void test_cleared_bits_are_cleared(void **unused)
{
    (void)unused;
    struct merged *m = get(PAGE_A);
    memset(memory + PAGE_A, 0xff, PAGE_SIZE);
    refresh(m, l0);
    for (unsigned i = 0; i < PAGE_SIZE; i++)
        l1_store(PAGE_A + i, 0);
    refresh(m, l0);
    assert_memory_equal(m->result, l0_page, PAGE_SIZE);
    put(m);
}

static void test_protects_before_it_reads(void **unused)
{
    (void)unused;
    struct merged *m = get(PAGE_A);
    store_when = STORE_BEFORE_PROTECTION;
    refresh(m, l0);
    assert_false(writable_at_read);
    assert_int_equal(m->snapshot[7], 0x55);
    assert_true(is_merge(m, l0_page));
    put(m);
}

/* A store between protection and the copy: the copy may have it or not, the next entry looks again. */
static void test_store_during_the_merge_is_not_lost(void **unused)
{
    (void)unused;
    struct merged *m = get(PAGE_A);
    store_when = STORE_BEFORE_READ;
    refresh(m, l0);
    assert_int_equal(m->state, MERGED_STALE);
    assert_false(merged_is_fresh(m, 1));
    store_when = NO_STORE;
    refresh(m, l0);
    assert_int_equal(reads, 2);
    assert_true(merged_is_fresh(m, 1));
    assert_true(is_merge(m, l0_page));
    put(m);
}

static void test_pages_are_told_apart(void **unused)
{
    (void)unused;
    struct merged *a = get(PAGE_A), *b = get(PAGE_B);
    refresh(a, l0);
    refresh(b, l0);
    l1_store(PAGE_B, 0x11);
    assert_int_equal(a->state, MERGED_FRESH);
    assert_int_equal(b->state, MERGED_STALE);
    refresh(b, l0);
    assert_true(is_merge(a, l0_page) && is_merge(b, l0_page));
    put(a);
    put(b);
}

/* One page in several roles: each role has its own result, one store makes all stale. */
static void test_kinds_are_told_apart(void **unused)
{
    (void)unused;
    struct merged *msr = get(PAGE_A), *io = merged_cache_get(&cache, MERGED_IO_A, PAGE_A, &processor_a);
    assert_non_null(io);
    assert_ptr_not_equal(msr, io);
    refresh(msr, l0);
    refresh(io, next_l0);
    assert_true(is_merge(msr, l0_page) && is_merge(io, other_l0_page));
    assert_int_equal(counted(COUNT_BITMAP_MERGES), 1); /* counts MSR bitmaps */
    l1_store(PAGE_A, 1);
    assert_int_equal(msr->state, MERGED_STALE);
    assert_int_equal(io->state, MERGED_STALE);
    put(msr);
    put(io);
}

static void test_users_share_an_entry(void **unused)
{
    (void)unused;
    struct merged *first = get(PAGE_A);
    refresh(first, l0);
    struct merged *second = get(PAGE_A);
    assert_ptr_equal(first, second);
    assert_int_equal(first->users, 2);
    refresh(second, l0);
    assert_int_equal(reads, 1);
    put(first);
    merged_cache_release(&cache, &processor_a); /* another slot names it still */
    assert_false(writable(PAGE_A));
    put(second);
    merged_cache_release(&cache, &processor_b); /* not the last that had it */
    assert_false(writable(PAGE_A));
    merged_cache_release(&cache, &processor_a);
    assert_true(writable(PAGE_A));
    assert_int_equal(counted(COUNT_BITMAP_FREED), 1);
}

/* An idle entry keeps its page: naming it again costs nothing. */
static void test_idle_entry_is_found_again(void **unused)
{
    (void)unused;
    struct merged *m = get(PAGE_A);
    refresh(m, l0);
    put(m);
    struct merged *b = get(PAGE_B);
    refresh(b, l0);
    assert_ptr_equal(get(PAGE_A), m);
    refresh(m, l0);
    assert_int_equal(reads, 2);
    assert_true(is_merge(m, l0_page));
    put(m);
    /* And hears of stores meanwhile. */
    l1_store(PAGE_A, 0x77);
    assert_ptr_equal(get(PAGE_A), m);
    assert_int_equal(m->state, MERGED_STALE);
    refresh(m, l0);
    assert_true(is_merge(m, l0_page));
    put(m);
    put(b);
}

static void test_policy_generation(void **unused)
{
    (void)unused;
    struct merged *m = get(PAGE_A);
    refresh(m, l0);
    assert_false(merged_is_fresh(m, 2));
    refresh(m, next_l0);
    assert_true(merged_is_fresh(m, 2));
    assert_true(is_merge(m, other_l0_page));
    assert_int_equal(counted(COUNT_WATCH_ARMED), 1); /* the watch stays */
    put(m);
}

/* Holes, MMIO, Nestor's memory: all-ones, which cannot change, so FRESH without a watch. */
static void test_page_that_is_not_ram(void **unused)
{
    static const gpa_t pages[] = {MMIO, POOL_BASE, 0x7fffff000};
    (void)unused;
    for (unsigned i = 0; i < ARRAY_SIZE(pages); i++) {
        struct merged *m = get(pages[i]);
        refresh(m, l0);
        assert_true(merged_is_fresh(m, 1));
        assert_false(m->watcher.armed);
        for (unsigned k = 0; k < PAGE_SIZE; k++)
            assert_int_equal(m->result[k], 0xff);
        put(m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_empty_then_fresh),
        TEST(test_fresh_saves_the_merge),
        TEST(test_store_makes_stale_and_is_merged),
        TEST(test_cleared_bits_are_cleared),
        TEST(test_protects_before_it_reads),
        TEST(test_store_during_the_merge_is_not_lost),
        TEST(test_pages_are_told_apart),
        TEST(test_kinds_are_told_apart),
        TEST(test_users_share_an_entry),
        TEST(test_idle_entry_is_found_again),
        TEST(test_policy_generation),
        TEST(test_page_that_is_not_ram),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
