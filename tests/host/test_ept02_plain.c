/* sources: nested/ept02/ept02.c nested/ept02/ept02_around.c nested/ept02/ept02_fill.c nested/ept02/ept02_plain.c
   nested/ept02/ept02_setup.c nested/ept02/ept02_tree.c nested/ept02/ept12_trace.c nested/ept02/ept02_filter.c
   nested/ept02/ept12_walk.c mm/gmem.c mm/ept_watch.c mm/ept.c mm/memmap.c mm/mtrr.c mm/page.c */
/* cflags: -DMUTANTS */
/* The short fill does what the long one does, or nothing. Tables at random, flags, tracing, protected pages. */
#include "tests/host/host.h"

/* Before the world, whose names its functions have, too. */
#include "nested/ept02/ept02_plain.h"

#include "kernel/cmdline.h"
#include "tests/host/ept12_world.h"

#define PAGE (4 * MIB)
#define BESIDE (2 * LARGE_2M) /* a gpa2 of another table */

static enum ept02_plain_result plain(gpa_t gpa2, uint64_t access)
{
    return ept02_plain_fill(&e, ept02_root(&e, eptp12), eptp12, gpa2, access);
}

/* EPT02 has the table for gpa2, of which the last place alone is taken. */
static void make_table(gpa_t gpa2)
{
    gpa_t last = ALIGN_DOWN(gpa2, LARGE_2M) + LARGE_2M - PAGE_SIZE;

    map12(last, PAGE, RWX_WB);
    assert_int_equal(fill(last, READ), EPT02_FILLED);
}

static void test_one_page(void **state)
{
    (void)state;
    assert_int_equal(plain(0, READ), PLAIN_ABSENT);
    map12(0, PAGE, RWX_WB);
    assert_int_equal(plain(0, READ), PLAIN_OTHER); /* EPT02 has no table yet */
    make_table(0);
    assert_int_equal(plain(0, WRITE), PLAIN_FILLED);
    assert_int_equal(leaf02(0).hpa, PAGE);
    assert_int_equal(leaf02(0).permissions, EPT_RWX);
    assert_int_equal(plain(0, WRITE), PLAIN_OTHER); /* it is there */
    assert_int_equal(plain(PAGE_SIZE, READ), PLAIN_ABSENT);
    assert_false(settle_of(eptp12) && settle()); /* nothing was taken away: one INVEPT for the new root */
}

static void test_beyond(void **state)
{
    (void)state;
    make_table(0);
    assert_int_equal(plain(BIT(48), READ), PLAIN_OTHER);
    map12(0, CARVEOUT, RWX_WB);
    map12(PAGE_SIZE, FAR, RWX_WB);
    assert_int_equal(plain(0, READ), PLAIN_OTHER);
    assert_int_equal(plain(PAGE_SIZE, READ), PLAIN_OTHER);
    eptp12 = FAR | 0x1e; /* tables that are no RAM */
    assert_int_equal(plain(0, READ), PLAIN_OTHER);
}

static void test_rights(void **state)
{
    (void)state;
    make_table(0);
    map12(0, PAGE, RWX_WB & ~EPT_W);
    assert_int_equal(plain(0, WRITE), PLAIN_OTHER);
    assert_int_equal(plain(0, FETCH), PLAIN_FILLED);
    assert_int_equal(leaf02(0).permissions, EPT_R | EPT_X);
    assert_int_equal(ept_watch_add(&watch, PAGE, &watcher), 0);
    map12(PAGE_SIZE, PAGE, RWX_WB);
    assert_int_equal(plain(PAGE_SIZE, WRITE), PLAIN_OTHER);
    assert_int_equal(plain(PAGE_SIZE, READ), PLAIN_FILLED);
    assert_int_equal(leaf02(PAGE_SIZE).permissions, EPT_R | EPT_X);
    ept_watch_remove(&watch, &watcher);
}

/* With A/D flags on, EPT12 is as L2's access would leave it, or the long fill sets them. */
static void test_flags(void **state)
{
    uint64_t *entry;

    (void)state;
    eptp12 |= EPTP_AD;
    make_table(0);
    entry = map12(0, PAGE, RWX_WB);
    assert_int_equal(plain(0, READ), PLAIN_OTHER);
    assert_int_equal(*entry, PAGE | RWX_WB);
    *entry |= EPT_A;
    assert_int_equal(plain(0, WRITE), PLAIN_OTHER);
    assert_int_equal(plain(0, READ), PLAIN_FILLED);
    assert_int_equal(leaf02(0).permissions, EPT_R | EPT_X); /* the first store must come by */
    entry = map12(PAGE_SIZE, PAGE, RWX_WB | EPT_A | EPT_D);
    assert_int_equal(plain(PAGE_SIZE, WRITE), PLAIN_FILLED);
    assert_int_equal(leaf02(PAGE_SIZE).permissions, EPT_RWX);
    *map12_at(0, 2, *map12_at(0, 2, 0, 0), 0) = 0;
}

/* A page that begins to be watched loses W where the short fill gave it; left out, the mark is missed. */
static void test_marked(void **state)
{
    (void)state;
    for (unsigned left_out = 0; left_out < 2; left_out++) {
        gpa_t gpa2 = left_out * PAGE_SIZE, gpa1 = PAGE + MIB + left_out * PAGE_SIZE;
        make_table(0);
        map12(gpa2, gpa1, RWX_WB);
        options.quiet_fault = left_out ? QUIET_FAULT_UNMARKED : QUIET_FAULT_NONE;
        assert_int_equal(plain(gpa2, WRITE), PLAIN_FILLED);
        options.quiet_fault = QUIET_FAULT_NONE;
        assert_int_equal(ept_watch_add(&watch, gpa1, &watcher), 0);
        assert_int_equal(leaf02(gpa2).permissions & EPT_W, left_out ? EPT_W : 0);
        ept_watch_remove(&watch, &watcher);
    }
}

/* Below a table that is not traced nothing is filled: the long fill traces it. */
static void test_traced(void **state)
{
    uint64_t *entry;

    (void)state;
    make_table(0);
    make_table(BESIDE);
    (void)settle();
    invept_and_entry(); /* from here on tables are traced */
    make_table(BESIDE);
    make_table(0);
    make_table(0); /* the first has traced the table, this one finds it so */
    map12(PAGE_SIZE, PAGE, RWX_WB);
    assert_int_equal(plain(PAGE_SIZE, READ), PLAIN_FILLED);
    map12(BESIDE, PAGE, RWX_WB);
    assert_int_equal(plain(BESIDE, READ), PLAIN_FILLED);
    /* L1 hangs another table in the place. */
    map12_at(BESIDE, 2, new_table() | EPT_RWX, EPT_RWX);
    entry = map12(BESIDE + PAGE_SIZE, PAGE, RWX_WB);
    assert_int_equal(plain(BESIDE + PAGE_SIZE, READ), PLAIN_OTHER);
    assert_int_equal(fill(BESIDE + PAGE_SIZE, READ), EPT02_FILLED);
    map12(BESIDE + 2 * PAGE_SIZE, PAGE, RWX_WB);
    assert_int_equal(plain(BESIDE + 2 * PAGE_SIZE, READ), PLAIN_FILLED);
    gmem_write64(&gmem, (gpa_t)((uint8_t *)entry - memory), 0);
    invept_and_entry();
    assert_int_equal(leaf02(BESIDE + PAGE_SIZE).level, 0);
}

static uint64_t random_entry(void)
{
    uint64_t entry = host_random() % (2 * L1_RAM / PAGE_SIZE) * PAGE_SIZE;

    entry |= host_random() % 4 ? EPT_RWX : host_random() % 8;
    entry |= PUT(host_random() % 8 ? MEMTYPE_WB : host_random() % 8, EPT_MEMTYPE);
    entry |= host_random() % 4 ? EPT_A : host_random() % BIT(12) & ~EPT_MEMTYPE & ~EPT_RWX;
    return host_random() % 40 ? entry : entry ^ BIT(host_random() % 64);
}

/* All that the SDM says, of entries at random. Each leaf is compared with what the long fill makes of the same. */
static void test_random(void **state)
{
    static const uint64_t accesses[] = {READ, WRITE, FETCH, READ | WRITE};
    unsigned seen[PLAIN_FILLED + 1] = {0};

    (void)state;
    host_random_seed(1);
    for (unsigned i = 0; i < 400000; i++) {
        gpa_t gpa2 = host_random() % 2 * GIB + host_random() % (4 * EPT_ENTRIES) * PAGE_SIZE;
        unsigned level = host_random() % 5000 ? 1 : 2 + host_random() % 2;
        uint64_t access = accesses[host_random() % ARRAY_SIZE(accesses)];
        eptp12 ^= host_random() % 1000 ? 0 : EPTP_AD;
        *map12_at(gpa2, level, 0, EPT_RWX | EPT_A) = level > 1 ? 0 : random_entry();
        ept02_forget(&e, eptp12, gpa2);
        struct expectation x = reference_walk(gpa2, (unsigned)access);
        enum ept02_plain_result result = plain(gpa2, access);
        struct ept_leaf after = leaf02(gpa2);
        seen[result]++;
        if (result == PLAIN_ABSENT)
            assert_true(x.kind == EPT12_WALK_VIOLATION && !x.permissions);
        assert_int_equal(after.level != 0, result == PLAIN_FILLED);
        if (result == PLAIN_FILLED) {
            assert_int_equal(x.kind, EPT12_WALK_OK);
            assert_int_equal(after.hpa, x.gpa1);
        } else {
            (void)fill(gpa2, access);
        }
    }
    assert_true(seen[PLAIN_ABSENT] > 1000 && seen[PLAIN_FILLED] > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_one_page), TEST(test_beyond), TEST(test_rights), TEST(test_flags),
        TEST(test_marked),   TEST(test_traced), TEST(test_random),
    };

    trace_ept12 = true;
    gmem.main_size = L1_RAM;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
