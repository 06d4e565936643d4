/* sources: nested/bitmap/merged.c nested/bitmap/merged_cache.c nested/bitmap/merged_dump.c
   nested/bitmap/merged_pays.c nested/bitmap/merged_words.c nested/bitmap/merged_wrong.c vmx/msr_bitmap.c
   mm/ept_watch.c mm/ept.c mm/memmap.c mm/mtrr.c mm/page.c kernel/cmdline.c kernel/format.c */
/* Merged bitmaps that two processors name: one merge for both, and none is written while the other may run on it. */
#include "tests/host/merged_world.h"

enum { SLOTS = 4, PAGES = 3 };

struct processor {
    struct merged_owner *owner;
    struct merged *slot[SLOTS]; /* what each of its vmcs12s names */
    struct merged *runs;        /* its L2 runs on this one; NULL: in Nestor */
    uint8_t seen[PAGE_SIZE];    /* as it was at the entry */
};

/* The steps of nested/bitmap/slot_bitmaps for one bitmap: go on with the page, or with another entry for it. */
static void prepare(struct merged **m, gpa_t page, struct merged_owner *owner)
{
    if (*m && ((*m)->page != page || !merged_cache_keep(&cache, *m, owner))) {
        merged_cache_put(&cache, *m, owner, 0);
        *m = NULL;
    }
    if (!*m)
        *m = merged_cache_get(&cache, MERGED_MSR, page, owner);
    assert_non_null(*m);
    (void)merged_refresh(*m, merged_cache_policy(&cache, MERGED_MSR), 1); /* so that tracing pays */
}

static void drop(struct merged **m, struct merged_owner *owner)
{
    if (*m)
        merged_cache_put(&cache, *m, owner, 0);
    *m = NULL;
}

/* VMCLEAR here, VMPTRLD there: nothing is merged or protected again. */
static void test_moves_between_processors(void **unused)
{
    struct merged *a = NULL, *b = NULL;
    (void)unused;
    prepare(&a, PAGE_A, &processor_a);
    for (unsigned i = 0; i < 10; i++) {
        drop(&a, &processor_a);
        prepare(&b, PAGE_A, &processor_b);
        drop(&b, &processor_b);
        prepare(&a, PAGE_A, &processor_a);
    }
    assert_int_equal(counted(COUNT_BITMAP_MERGES), 1);
    assert_int_equal(counted(COUNT_WATCH_ARMED), 1);
    assert_int_equal(reads, 1);
    l1_store(PAGE_A, 0x5a);
    drop(&a, &processor_a);
    prepare(&b, PAGE_A, &processor_b); /* idle: nobody runs on it, so it is merged in place */
    assert_true(is_merge(b, l0_page));
    assert_int_equal(counted(COUNT_BITMAP_MERGES), 2);
    drop(&b, &processor_b);
    assert_int_equal(counted(COUNT_BITMAP_FREED), 0);
    merged_cache_release(&cache, &processor_a); /* it was the other's last */
    assert_int_equal(counted(COUNT_BITMAP_FREED), 0);
    merged_cache_release(&cache, &processor_b);
    assert_int_equal(counted(COUNT_BITMAP_FREED), 1);
}

/* Both name it: one merge; after a store one more, into pages of its own, which the other finds. */
static void test_one_merge_for_both(void **unused)
{
    struct merged *a = NULL, *b = NULL, *old;
    (void)unused;
    prepare(&a, PAGE_A, &processor_a);
    prepare(&b, PAGE_A, &processor_b);
    assert_ptr_equal(a, b);
    assert_int_equal(counted(COUNT_BITMAP_MERGES), 1);
    old = a;
    uint8_t *result = old->result, before = result[9];
    l1_store(PAGE_A + 9, (uint8_t)~before);
    prepare(&a, PAGE_A, &processor_a);
    assert_ptr_not_equal(a, old);
    assert_int_equal(result[9], before); /* the other may run on it */
    assert_true(is_merge(a, l0_page));
    prepare(&b, PAGE_A, &processor_b);
    assert_ptr_equal(a, b);
    assert_int_equal(counted(COUNT_BITMAP_MERGES), 2);
    drop(&a, &processor_a);
    drop(&b, &processor_b);
}

/* While one merges, the other does not take the page for merged. */
static void test_claimed_is_not_shared(void **unused)
{
    struct merged *a, *b;
    (void)unused;
    a = merged_cache_get(&cache, MERGED_MSR, PAGE_A, &processor_a);
    b = merged_cache_get(&cache, MERGED_MSR, PAGE_A, &processor_b);
    assert_ptr_not_equal(a, b);
    (void)merged_refresh(b, l0, 0);
    (void)merged_refresh(a, l0, 0);
    assert_true(is_merge(a, l0_page) && is_merge(b, l0_page));
    merged_set_state(a, MERGED_STALE); /* a store, and the merge that follows has begun: it is FRESH, but claimed */
    assert_true(merged_cache_keep(&cache, a, &processor_a));
    merged_set_state(a, MERGED_FRESH);
    drop(&b, &processor_b);
    merged_cache_release(&cache, &processor_b);
    b = merged_cache_get(&cache, MERGED_MSR, PAGE_A, &processor_b);
    assert_ptr_not_equal(a, b);
    put(a);
    drop(&b, &processor_b);
}

/* An entry that the other processor names does not make room: all exits instead. */
static void test_no_room_left_by_the_other(void **unused)
{
    struct merged *b[3] = {NULL};
    (void)unused;
    start_cache(3);
    for (unsigned i = 0; i < 3; i++)
        prepare(&b[i], PAGE_A + i * PAGE_SIZE, &processor_b);
    assert_null(merged_cache_get(&cache, MERGED_MSR, 0x80000, &processor_a));
    drop(&b[1], &processor_b);
    struct merged *a = get(0x80000);
    assert_true(writable(PAGE_A + PAGE_SIZE));
    put(a);
    drop(&b[0], &processor_b);
    drop(&b[2], &processor_b);
}

/* L2 leaves: what it ran on is what it was entered with. */
static void leave(struct processor *p)
{
    if (p->runs)
        assert_memory_equal(p->seen, p->runs->result, PAGE_SIZE);
    p->runs = NULL;
}

static void enter(struct processor *p, struct merged **m, gpa_t page)
{
    prepare(m, page, p->owner);
    assert_true(is_merge(*m, cache.l0[MERGED_MSR].page));
    p->runs = *m;
    memcpy(p->seen, (*m)->result, PAGE_SIZE);
}

static void test_random_processors(void **unused)
{
    static struct processor processors[2];
    (void)unused;
    memset(processors, 0, sizeof processors);
    processors[0].owner = &processor_a;
    processors[1].owner = &processor_b;
    for (unsigned round = 0; round < 50000; round++) {
        struct processor *p = &processors[host_random() % 2];
        struct merged **m = &p->slot[host_random() % SLOTS];
        gpa_t page = PAGE_A + host_random() % PAGES * PAGE_SIZE;
        leave(p);
        switch (host_random() % 8) {
        case 0:
            drop(m, p->owner);
            break;
        case 1:
            if (host_random() % 4 == 0)
                l1_store(page + host_random() % PAGE_SIZE, (uint8_t)host_random());
            break;
        case 2:
            if (host_random() % 16 == 0) {
                l0_generation++;
                cache.l0[MERGED_MSR].page = l0_generation % 2 ? l0_page : other_l0_page;
            }
            break;
        default:
            enter(p, m, *m && host_random() % 4 ? (*m)->page : page);
        }
    }
    for (unsigned i = 0; i < 2; i++)
        for (unsigned k = 0; k < SLOTS; k++)
            drop(&processors[i].slot[k], processors[i].owner);
    assert_true(counted(COUNT_BITMAP_MERGES) > 1000);
    assert_true(counted(COUNT_BITMAP_MERGES_SAVED) > 10000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_moves_between_processors),  TEST(test_one_merge_for_both), TEST(test_claimed_is_not_shared),
        TEST(test_no_room_left_by_the_other), TEST(test_random_processors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
