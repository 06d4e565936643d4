/* sources: nested/bitmap.c vmx/msr_bitmap.c mm/ept_watch.c mm/ept.c mm/memmap.c mm/mtrr.c mm/page.c kernel/cmdline.c kernel/format.c */
/* The cache of merged bitmaps over real write tracing. L1's memory is read through a fake gmem, which can store to the
 * page just before it is read. */
#include "tests/host/host.h"

#include <string.h>

#include "boot/bootinfo.h"
#include "kernel/cmdline.h"
#include "kernel/percpu.h"
#include "mm/page.h"
#include "nested/bitmap.h"

#define MEMORY (4 * MIB)
#define POOL_BASE MIB
#define PAGE_A 0x5000ull
#define PAGE_B 0x6000ull
#define MMIO 0xfee00000ull

static uint8_t *memory;
static struct ept ept;
static struct memmap map;
static struct ept_watch watch;
static struct gmem gmem = {&map, &watch};
static struct merged_cache cache;
static uint8_t l0_page[PAGE_SIZE], other_l0_page[PAGE_SIZE];
static const struct merged_policy l0 = {l0_page, 1}, next_l0 = {other_l0_page, 2};
static uint64_t free_at_start;
static unsigned reads;
static int user_a, user_b;

static enum { NO_STORE, STORE_BEFORE_PROTECTION, STORE_BEFORE_READ } store_when;
static bool writable_at_read;

/* A store of another processor of L1: a write fault first where the page is protected. */
static void l1_store(gpa_t gpa, uint8_t value)
{
    if (!(ept_translate(&ept, gpa).permissions & EPT_W))
        assert_true(ept_watch_hit(&watch, gpa));
    assert_true(ept_translate(&ept, gpa).permissions & EPT_W);
    memory[gpa] = value;
}

static void before_ept02_is_protected(void *context, gpa_t page)
{
    (void)context;
    if (store_when == STORE_BEFORE_PROTECTION)
        memory[page + 7] = 0x55; /* allowed by a TLB entry that is not flushed yet */
}

bool gmem_is_ram(const struct gmem *g, gpa_t gpa)
{
    return memmap_is(g->map, ALIGN_DOWN(gpa, PAGE_SIZE), PAGE_SIZE, REGION_RAM);
}

bool gmem_read(const struct gmem *g, gpa_t gpa, void *buffer, uint64_t len)
{
    reads++;
    assert_int_equal(len, PAGE_SIZE);
    if (!gmem_is_ram(g, gpa)) {
        memset(buffer, 0xff, len);
        return false;
    }
    writable_at_read = ept_translate(&ept, gpa).permissions & EPT_W;
    if (store_when == STORE_BEFORE_READ)
        l1_store(gpa + 7, 0x55);
    memcpy(buffer, memory + gpa, len);
    return true;
}

static uint64_t counted(enum counter counter)
{
    return this_cpu()->counters[counter];
}

static int setup(void **unused)
{
    (void)unused;
    memory = host_memory(MEMORY);
    host_random_fill(memory, 0x20000);
    page_init(memory + POOL_BASE, memory + MEMORY);
    memset(&map, 0, sizeof map);
    assert_int_equal(memmap_set(&map, 0, MIB, REGION_RAM), 0);
    assert_int_equal(memmap_set(&map, POOL_BASE, MEMORY - POOL_BASE, REGION_RESERVED), 0);
    memset(&ept, 0, sizeof ept);
    ept.features = (struct ept_features){true, true, 40};
    ept.map = &map;
    assert_int_equal(ept_build(&ept), 0);
    watch = (struct ept_watch){.ept01 = &ept, .protect_ept02 = before_ept02_is_protected};
    memset(&cache, 0, sizeof cache);
    cache.gmem = &gmem;
    cache.watch = &watch;
    memset(this_cpu()->counters, 0, sizeof this_cpu()->counters);
    memset(l0_page, 0, sizeof l0_page);
    memset(other_l0_page, 0, sizeof other_l0_page);
    l0_page[3] = 0xf0;
    other_l0_page[3] = 0x0f;
    options.bitmap = 0;
    options.fault = 0;
    store_when = NO_STORE;
    reads = 0;
    free_at_start = page_count_free();
    return 0;
}

static int teardown(void **unused)
{
    (void)unused;
    merged_release_user(&cache, &user_a);
    merged_release_user(&cache, &user_b);
    ept_retire_done(&ept, ept.generation);
    assert_int_equal(watch.pages, 0);
    assert_int_equal(page_count_free(), free_at_start);
    assert_int_equal(ept_translate(&ept, PAGE_A).permissions, EPT_RWX);
    host_memory_free();
    options.bitmap = options.fault = 0;
    return 0;
}

static bool writable(gpa_t gpa)
{
    return ept_translate(&ept, gpa).permissions & EPT_W;
}

/* The invariant: what the hardware reads is L1's page as it is now, OR L0's. */
static bool is_merge(const struct merged *m, const uint8_t *l0_bits)
{
    for (unsigned i = 0; i < PAGE_SIZE; i++) {
        uint8_t l1 = gmem_is_ram(&gmem, m->page) ? memory[m->page + i] : 0xff;
        if (m->result[i] != (l1 | l0_bits[i]) || m->snapshot[i] != l1)
            return false;
    }
    return true;
}

static struct merged *get(gpa_t page)
{
    struct merged *m = merged_get(&cache, MERGED_MSR, page);
    assert_non_null(m);
    return m;
}

static void test_empty_then_fresh(void **unused)
{
    (void)unused;
    struct merged *m = get(PAGE_A);
    assert_int_equal(m->state, MERGED_EMPTY);
    assert_int_equal(m->users, 1);
    assert_true(writable(PAGE_A));
    assert_int_equal(reads, 0);
    merged_refresh(&cache, m, l0);
    assert_int_equal(m->state, MERGED_FRESH);
    assert_true(merged_is_fresh(m, 1));
    assert_true(m->watcher.armed && m->traced);
    assert_false(writable(PAGE_A));
    assert_true(writable(PAGE_A + PAGE_SIZE));
    assert_true(is_merge(m, l0_page));
    merged_put(&cache, m, &user_a);
}

/* A fresh entry costs nothing: not one byte of L1's page is read. */
static void test_fresh_saves_the_merge(void **unused)
{
    (void)unused;
    struct merged *m = get(PAGE_A);
    merged_refresh(&cache, m, l0);
    for (unsigned i = 0; i < 10; i++)
        merged_refresh(&cache, m, l0);
    assert_int_equal(reads, 1);
    assert_int_equal(counted(COUNT_BITMAP_MERGES), 1);
    assert_int_equal(counted(COUNT_BITMAP_MERGES_SAVED), 10);
    assert_int_equal(counted(COUNT_WATCH_ARMED), 1);
    merged_put(&cache, m, &user_a);
}

static void test_store_makes_stale_and_is_merged(void **unused)
{
    (void)unused;
    struct merged *m = get(PAGE_A);
    merged_refresh(&cache, m, l0);
    memory[PAGE_A + 100] = 0;
    merged_refresh(&cache, m, l0); /* what no watch saw changes nothing: device DMA */
    assert_int_equal(reads, 1);
    l1_store(PAGE_A + 100, 0x81);
    assert_int_equal(m->state, MERGED_STALE);
    assert_false(m->watcher.armed);
    assert_true(writable(PAGE_A));
    l1_store(PAGE_A + 101, 0x42); /* further stores are free */
    assert_int_equal(counted(COUNT_BITMAP_MERGES), 1);
    merged_refresh(&cache, m, l0);
    assert_int_equal(m->state, MERGED_FRESH);
    assert_int_equal(m->result[101] & 0x42, 0x42);
    assert_false(writable(PAGE_A));
    assert_true(is_merge(m, l0_page));
    merged_put(&cache, m, &user_a);
}

/* Bits go both ways: what L1 cleared does not stay set, but for L0's. */
static void test_cleared_bits_are_cleared(void **unused)
{
    (void)unused;
    struct merged *m = get(PAGE_A);
    memset(memory + PAGE_A, 0xff, PAGE_SIZE);
    merged_refresh(&cache, m, l0);
    for (unsigned i = 0; i < PAGE_SIZE; i++)
        l1_store(PAGE_A + i, 0);
    merged_refresh(&cache, m, l0);
    assert_memory_equal(m->result, l0_page, PAGE_SIZE);
    merged_put(&cache, m, &user_a);
}

static void test_protects_before_it_reads(void **unused)
{
    (void)unused;
    struct merged *m = get(PAGE_A);
    store_when = STORE_BEFORE_PROTECTION;
    merged_refresh(&cache, m, l0);
    assert_false(writable_at_read);
    assert_int_equal(m->snapshot[7], 0x55);
    assert_true(is_merge(m, l0_page));
    merged_put(&cache, m, &user_a);
}

/* A store between protection and the copy: the copy may have it or not, the next entry looks again. */
static void test_store_during_the_merge_is_not_lost(void **unused)
{
    (void)unused;
    struct merged *m = get(PAGE_A);
    store_when = STORE_BEFORE_READ;
    merged_refresh(&cache, m, l0);
    assert_int_equal(m->state, MERGED_STALE);
    assert_false(merged_is_fresh(m, 1));
    store_when = NO_STORE;
    merged_refresh(&cache, m, l0);
    assert_int_equal(reads, 2);
    assert_true(merged_is_fresh(m, 1));
    assert_true(is_merge(m, l0_page));
    merged_put(&cache, m, &user_a);
}

static void test_pages_are_told_apart(void **unused)
{
    (void)unused;
    struct merged *a = get(PAGE_A), *b = get(PAGE_B);
    merged_refresh(&cache, a, l0);
    merged_refresh(&cache, b, l0);
    l1_store(PAGE_B, 0x11);
    assert_int_equal(a->state, MERGED_FRESH);
    assert_int_equal(b->state, MERGED_STALE);
    merged_refresh(&cache, b, l0);
    assert_true(is_merge(a, l0_page) && is_merge(b, l0_page));
    merged_put(&cache, a, &user_a);
    merged_put(&cache, b, &user_a);
}

/* One page in several roles: each role has its own result, one store makes all stale. */
static void test_kinds_are_told_apart(void **unused)
{
    (void)unused;
    struct merged *msr = get(PAGE_A), *io = merged_get(&cache, MERGED_IO_A, PAGE_A);
    assert_non_null(io);
    assert_ptr_not_equal(msr, io);
    merged_refresh(&cache, msr, l0);
    merged_refresh(&cache, io, next_l0);
    assert_true(is_merge(msr, l0_page) && is_merge(io, other_l0_page));
    assert_int_equal(counted(COUNT_BITMAP_MERGES), 1); /* counts MSR bitmaps */
    l1_store(PAGE_A, 1);
    assert_int_equal(msr->state, MERGED_STALE);
    assert_int_equal(io->state, MERGED_STALE);
    merged_put(&cache, msr, &user_a);
    merged_put(&cache, io, &user_a);
}

static void test_users_share_an_entry(void **unused)
{
    (void)unused;
    struct merged *first = get(PAGE_A);
    merged_refresh(&cache, first, l0);
    struct merged *second = get(PAGE_A);
    assert_ptr_equal(first, second);
    assert_int_equal(first->users, 2);
    merged_refresh(&cache, second, l0);
    assert_int_equal(reads, 1);
    merged_put(&cache, first, &user_a);
    merged_release_user(&cache, &user_a); /* another one names it still */
    assert_true(second->in_use);
    assert_false(writable(PAGE_A));
    merged_put(&cache, second, &user_b);
    merged_release_user(&cache, &user_a); /* not the last user */
    assert_true(second->in_use);
    merged_release_user(&cache, &user_b);
    assert_false(second->in_use);
    assert_true(writable(PAGE_A));
    assert_int_equal(counted(COUNT_BITMAP_FREED), 1);
}

/* An idle entry keeps its page: naming it again costs nothing. */
static void test_idle_entry_is_found_again(void **unused)
{
    (void)unused;
    struct merged *m = get(PAGE_A);
    merged_refresh(&cache, m, l0);
    merged_put(&cache, m, &user_a);
    struct merged *b = get(PAGE_B);
    merged_refresh(&cache, b, l0);
    assert_ptr_equal(get(PAGE_A), m);
    merged_refresh(&cache, m, l0);
    assert_int_equal(reads, 2);
    assert_true(is_merge(m, l0_page));
    merged_put(&cache, m, &user_a);
    /* And hears of stores meanwhile. */
    l1_store(PAGE_A, 0x77);
    assert_ptr_equal(get(PAGE_A), m);
    assert_int_equal(m->state, MERGED_STALE);
    merged_refresh(&cache, m, l0);
    assert_true(is_merge(m, l0_page));
    merged_put(&cache, m, &user_a);
    merged_put(&cache, b, &user_a);
}

static void test_policy_generation(void **unused)
{
    (void)unused;
    struct merged *m = get(PAGE_A);
    merged_refresh(&cache, m, l0);
    assert_false(merged_is_fresh(m, 2));
    merged_refresh(&cache, m, next_l0);
    assert_true(merged_is_fresh(m, 2));
    assert_true(is_merge(m, other_l0_page));
    assert_int_equal(counted(COUNT_WATCH_ARMED), 1); /* the watch stays */
    merged_put(&cache, m, &user_a);
}

/* Holes, MMIO, Nestor's memory: all-ones, which cannot change, so FRESH without a watch. */
static void test_page_that_is_not_ram(void **unused)
{
    static const gpa_t pages[] = {MMIO, POOL_BASE, 0x7fffff000};
    (void)unused;
    for (unsigned i = 0; i < ARRAY_SIZE(pages); i++) {
        struct merged *m = get(pages[i]);
        merged_refresh(&cache, m, l0);
        assert_true(merged_is_fresh(m, 1));
        assert_false(m->watcher.armed);
        assert_true(m->traced);
        for (unsigned k = 0; k < PAGE_SIZE; k++)
            assert_int_equal(m->result[k], 0xff);
        merged_put(&cache, m, &user_a);
    }
}

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

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

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
        TEST(test_policy_merge),
        TEST(test_no_pages_for_the_watch),
        TEST(test_cache_full),
        TEST(test_fault_drop_l0_bits),
        TEST(test_fault_skip_remerge),
        TEST(test_option_values),
        TEST(test_random_rounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
