/* sources: nested/bitmap/merged.c nested/bitmap/merged_cache.c nested/bitmap/merged_dump.c
   nested/bitmap/merged_pays.c nested/bitmap/merged_words.c nested/bitmap/merged_wrong.c vmx/msr_bitmap.c
   nested/bitmap/slot_bitmaps.c nested/rules/merge.c nested/rules/vmcs12.c vmx/vmcs_table.c mm/ept_watch.c mm/ept.c
   mm/memmap.c mm/mtrr.c mm/page.c kernel/cmdline.c kernel/format.c */
/* cflags: -include tests/host/tlb_insn.h */
/* MSR bitmaps of enlightened VMCSs: L1 says when it has written to the page, and nobody watches it. */
#include "nested/bitmap/slot_bitmaps.h"

#include "tests/host/merged_world.h"

/* The fields of vmcs02 are not looked at here; and the counters are those of one processor. */
void tlb_vmwrite(uint32_t encoding, uint64_t value)
{
    (void)encoding, (void)value;
}

struct cpu *tlb_this_cpu(void)
{
    return &percpu_host_cpu;
}

static struct slot_bitmaps slot, other;
static struct vmcs12 v;

static int begin(void **unused)
{
    int failed = setup(unused);
    memset(&v, 0, sizeof v);
    v.PROC_CONTROLS = PROC_USE_MSR_BITMAPS;
    v.MSR_BITMAP = PAGE_A;
    slot = (struct slot_bitmaps){.owner = &processor_a};
    other = (struct slot_bitmaps){.owner = &processor_b};
    for (unsigned kind = 0; kind < MERGED_KINDS; kind++)
        cache.l0[kind].page = l0_page;
    return failed;
}

static int end(void **unused)
{
    slot_bitmaps_put(&slot, &cache);
    slot_bitmaps_put(&other, &cache);
    return teardown(unused);
}
#define WORD_TEST(function) cmocka_unit_test_setup_teardown(function, begin, end)

/* An entry of the enlightened VMCS. */
static void enter(bool written)
{
    slot_bitmaps_tell(&slot, true, written);
    slot_bitmaps_refresh(&slot, &cache, &v);
}

static void enter_as_ordinary(struct slot_bitmaps *s)
{
    slot_bitmaps_tell(s, false, false);
    slot_bitmaps_refresh(s, &cache, &v);
}

static const struct merged *merged(void)
{
    return slot.merged[MERGED_MSR];
}

/* No protection at all, and one merge for each time that L1 says so. */
static void test_page_is_not_watched(void **unused)
{
    (void)unused;
    enter(true);
    assert_true(is_merge(merged(), l0_page));
    assert_true(writable(PAGE_A));
    for (unsigned i = 0; i < 10; i++)
        enter(false);
    assert_int_equal(reads, 1);
    assert_int_equal(counted(COUNT_WATCH_ARMED), 0);
    assert_int_equal(counted(COUNT_BITMAP_MERGES_SAVED), 10);
}

/* A store without a word may be seen late, and is with the next word. */
static void test_word_counts_and_not_the_store(void **unused)
{
    (void)unused;
    enter(true);
    memory[PAGE_A + 100] ^= 0xff;
    enter(false);
    assert_int_equal(reads, 1);
    assert_false(is_merge(merged(), l0_page));
    enter(true);
    assert_int_equal(reads, 2);
    assert_true(is_merge(merged(), l0_page));
}

/* L0's half is L0's to change: it counts at the next entry, whatever L1 says. */
static void test_policy_counts_at_once(void **unused)
{
    (void)unused;
    enter(true);
    cache.l0[MERGED_MSR].page = other_l0_page;
    l0_generation = 2;
    enter(false);
    assert_true(is_merge(merged(), other_l0_page));
}

/* The end of the enlightenment: the page is merged and watched from the next entry on. */
static void test_ordinary_again(void **unused)
{
    (void)unused;
    enter(true);
    memory[PAGE_A + 100] ^= 0xff;
    enter_as_ordinary(&slot);
    assert_true(is_merge(merged(), l0_page));
    assert_false(writable(PAGE_A));
    l1_store(PAGE_A + 101, 0x42);
    enter_as_ordinary(&slot);
    assert_true(is_merge(merged(), l0_page));
}

/* The beginning: what was watched is good as long as nobody stores, and one store is told at most. */
static void test_watched_before(void **unused)
{
    (void)unused;
    enter_as_ordinary(&slot);
    assert_false(writable(PAGE_A));
    enter(true);
    assert_int_equal(reads, 1);
    l1_store(PAGE_A + 100, 0x81);
    enter(true);
    assert_true(is_merge(merged(), l0_page));
    assert_true(writable(PAGE_A));
    enter(false);
    assert_int_equal(reads, 2);
}

/* Another processor that names the page goes by what it sees itself. */
static void test_others_do_not_trust_it(void **unused)
{
    (void)unused;
    enter(true);
    memory[PAGE_A + 100] ^= 0xff;
    enter_as_ordinary(&other);
    assert_ptr_not_equal(other.merged[MERGED_MSR], merged());
    assert_true(is_merge(other.merged[MERGED_MSR], l0_page));
    enter(true);
    assert_true(is_merge(merged(), l0_page));
}

/* The pointer is of the same group as the page's content. */
static void test_another_page(void **unused)
{
    (void)unused;
    enter(true);
    v.MSR_BITMAP = PAGE_B;
    enter(true);
    assert_int_equal(merged()->page, PAGE_B);
    assert_true(is_merge(merged(), l0_page));
}

/* With the policies that are compared with tracing nothing is different for the word. */
static void test_other_policies(void **unused)
{
    (void)unused;
    options.bitmap = BITMAP_MERGE;
    enter(true);
    memory[PAGE_A + 100] ^= 0xff;
    enter(false);
    assert_true(is_merge(merged(), l0_page));
}

/* Random stores, words, and entries of both kinds: at an entry after a word, and at each ordinary one, the page that
 * the CPU reads is exact; and always L0's bits are in it. */
static void test_at_random(void **unused)
{
    (void)unused;
    bool said = true, ordinary = false;
    for (unsigned i = 0; i < 5000; i++) {
        uint64_t what = host_random();
        if (what % 4 == 0) {
            l1_store(PAGE_A + what / 16 % PAGE_SIZE, (uint8_t)(what >> 40));
            said |= what % 8 == 0;
        }
        ordinary = what / 32 % 16 == 0;
        if (ordinary)
            enter_as_ordinary(&slot);
        else
            enter(said);
        bool waits = slot.hw == HW_WAITS;
        if (!waits && (ordinary || said))
            assert_true(is_merge(merged(), l0_page));
        for (unsigned byte = 0; !waits && byte < PAGE_SIZE; byte++)
            assert_int_equal(merged()->result[byte] & l0_page[byte], l0_page[byte]);
        said = false;
    }
}

/* An access to an MSR needs the merge at once, also where it takes another of the page's, of which one had waited. */
static void test_access_does_not_wait(void **unused)
{
    struct slot_bitmaps second = {.owner = &processor_a};
    (void)unused;
    for (unsigned i = 0; i < MERGED_EAGER_FIRST - 1; i++) {
        l1_store(PAGE_A, (uint8_t)i);
        enter_as_ordinary(&slot);
        enter_as_ordinary(&slot); /* so that tracing pays */
    }
    l1_store(PAGE_A, 0x10);
    enter_as_ordinary(&other); /* its own, as the first processor names that one */
    enter_as_ordinary(&second);
    enter_as_ordinary(&slot);
    assert_ptr_equal(second.merged[MERGED_MSR], other.merged[MERGED_MSR]);
    slot_bitmaps_put(&slot, &cache);
    l1_store(PAGE_A, 0x20);
    assert_true(slot_bitmaps_suspend(&second, &cache));
    slot_bitmaps_restore(&second, &cache, &v, true);
    assert_ptr_not_equal(second.merged[MERGED_MSR], other.merged[MERGED_MSR]);
    assert_int_equal(slot_bitmaps_hw(&second), HW_MERGED);
    assert_true(is_merge(second.merged[MERGED_MSR], l0_page));
    slot_bitmaps_put(&second, &cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WORD_TEST(test_page_is_not_watched),   WORD_TEST(test_word_counts_and_not_the_store),
        WORD_TEST(test_policy_counts_at_once), WORD_TEST(test_ordinary_again),
        WORD_TEST(test_watched_before),        WORD_TEST(test_others_do_not_trust_it),
        WORD_TEST(test_another_page),          WORD_TEST(test_other_policies),
        WORD_TEST(test_access_does_not_wait),  WORD_TEST(test_at_random),
    };
    return cmocka_run_group_tests_name("merged_by_word", tests, NULL, NULL);
}
