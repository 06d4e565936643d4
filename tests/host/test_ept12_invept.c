/* sources: nested/ept02/ept02.c nested/ept02/ept02_around.c nested/ept02/ept02_fill.c nested/ept02/ept02_setup.c
   nested/ept02/ept02_tree.c nested/ept02/ept12_trace.c nested/ept02/ept02_filter.c nested/ept02/ept12_walk.c
   mm/gmem.c mm/ept_watch.c mm/ept.c mm/memmap.c mm/mtrr.c mm/page.c */
/* cflags: -DEPT12_TRACKERS=16u */
/* INVEPT with EPT12's tables traced: what L1 stored to goes, and the rest stays. */
#include "tests/host/ept12_world.h"

#include "nested/ept02/ept12_trace.h"

/* A store of L1: it faults where EPT01 has no W, and repeats itself. */
static void store(uint64_t *entry, uint64_t value)
{
    gpa_t gpa = (gpa_t)((uint8_t *)entry - memory);

    if (!(ept_translate(&ept01, gpa).permissions & EPT_W))
        assert_true(ept_watch_hit(&watch, gpa));
    assert_true(ept_translate(&ept01, gpa).permissions & EPT_W);
    *entry = value;
}

static int setup_traced(void **state)
{
    int error;

    trace_ept12 = true;
    error = setup(state);
    /* From the first INVEPT on a root is traced. */
    (void)settle();
    invept_and_entry();
    return error;
}

static void test_nothing_stored_nothing_goes(void **state)
{
    (void)state;
    map12(0x1000, 0x5000, RWX_WB);
    map12(GIB, 0x6000, RWX_WB);
    assert_int_equal(fill(0x1000, READ), EPT02_FILLED);
    assert_int_equal(fill(GIB, READ), EPT02_FILLED);
    assert_int_equal(watch.pages, 6); /* PML4 table, PDPT, and two below for each GiB */
    (void)settle();
    assert_false(settle());
    ept02_invept_single(&e, eptp12);
    ept02_invept_all(&e);
    assert_true(settle()); /* the CPU's own caches go in any case */
    assert_int_equal(leaf02(0x1000).hpa, 0x5000);
    assert_int_equal(leaf02(GIB).hpa, 0x6000);
    assert_false(settle());
}

static void test_only_what_was_stored_to_goes(void **state)
{
    uint64_t *entry = map12(0x1000, 0x5000, RWX_WB);

    (void)state;
    map12(0x2000, 0x6000, RWX_WB);
    map12(LARGE_2M, 0x7000, RWX_WB);
    assert_int_equal(fill(0x1000, READ), EPT02_FILLED);
    assert_int_equal(fill(0x2000, READ), EPT02_FILLED);
    assert_int_equal(fill(LARGE_2M, READ), EPT02_FILLED);
    invept_and_entry();
    store(entry, 0x8000 | RWX_WB);
    assert_int_equal(leaf02(0x1000).hpa, 0x5000); /* as the processor's own cache has it */
    assert_false(settle());                       /* an entry without INVEPT */
    assert_int_equal(leaf02(0x1000).hpa, 0x5000);
    invept_and_entry();
    assert_int_equal(leaf02(0x1000).level, 0);
    assert_int_equal(leaf02(0x2000).level, 0);
    assert_int_equal(leaf02(LARGE_2M).hpa, 0x7000);
    assert_int_equal(fill(0x1000, READ), EPT02_FILLED);
    assert_int_equal(leaf02(0x1000).hpa, 0x8000);
}

/* Root operation caches nothing: what L1 stores after its INVEPT and before the entry counts as well. */
static void test_a_store_behind_invept_goes(void **state)
{
    uint64_t *entry = map12(0x1000, 0x5000, RWX_WB);

    (void)state;
    assert_int_equal(fill(0x1000, READ), EPT02_FILLED);
    assert_int_equal(leaf02(0x1000).hpa, 0x5000);
    for (unsigned i = 0; i < 32; i++) { /* traced, and at rest */
        ept02_invept_single(&e, eptp12);
        store(entry, (0x6000 + i * PAGE_SIZE) | RWX_WB);
        assert_true(settle());
        assert_int_equal(leaf02(0x1000).level, 0);
        assert_int_equal(fill(0x1000, READ), EPT02_FILLED);
        assert_int_equal(leaf02(0x1000).hpa, 0x6000 + i * PAGE_SIZE);
        assert_false(settle());
    }
    /* And what an entry looks at early is not looked at again. */
    ept02_invept_all(&e);
    store(entry, 0x8000 | RWX_WB);
    ept02_look(&e, ept02_root(&e, eptp12));
    assert_int_equal(leaf02(0x1000).level, 0);
    assert_int_equal(fill(0x1000, READ), EPT02_FILLED);
    assert_true(settle());
    assert_int_equal(leaf02(0x1000).hpa, 0x8000);
}

static void test_a_table_above(void **state)
{
    gpa_t other = new_table();

    (void)state;
    map12(0x1000, 0x5000, RWX_WB);
    map12(GIB, 0x6000, RWX_WB);
    assert_int_equal(fill(0x1000, READ), EPT02_FILLED);
    assert_int_equal(fill(GIB, READ), EPT02_FILLED);
    /* The table of GiB 0 becomes another, in which the page is elsewhere. */
    uint64_t *pd = entry_at(*entry_at(*entry_at(eptp12 & EP4TA, 0, 4) & EPT_ADDRESS, 0, 3) & EPT_ADDRESS, 0, 2);
    *entry_at(other, 0x1000, 1) = 0x9000 | RWX_WB;
    store(pd, other | EPT_RWX);
    invept_and_entry();
    assert_int_equal(leaf02(0x1000).level, 0);
    assert_int_equal(leaf02(GIB).hpa, 0x6000);
    assert_int_equal(fill(0x1000, READ), EPT02_FILLED);
    assert_int_equal(leaf02(0x1000).hpa, 0x9000);
    /* The new table is traced as the old one was. */
    store(entry_at(other, 0x1000, 1), 0);
    invept_and_entry();
    assert_int_equal(leaf02(0x1000).level, 0);
}

/* L1 changes a table between all INVEPTs: soon its stores fault no more, and what it is behind goes each time. */
static void test_a_busy_table_rests(void **state)
{
    uint64_t *entry = map12(0x1000, 0x5000, RWX_WB);
    unsigned faults = 0;

    (void)state;
    for (unsigned i = 0; i < 64; i++) {
        gpa_t gpa1 = 0x5000 + i % 2 * PAGE_SIZE;
        faults += !(ept_translate(&ept01, (gpa_t)((uint8_t *)entry - memory)).permissions & EPT_W);
        store(entry, gpa1 | RWX_WB);
        invept_and_entry();
        assert_int_equal(fill(0x1000, READ), EPT02_FILLED);
        assert_int_equal(leaf02(0x1000).hpa, gpa1);
    }
    assert_true(faults < 16);
    /* Left alone, it is traced again, and stays. */
    for (unsigned i = 0; i < 16; i++) {
        invept_and_entry();
        assert_int_equal(fill(0x1000, READ), EPT02_FILLED);
    }
    invept_and_entry();
    assert_int_equal(leaf02(0x1000).level, 1);
}

/* Its subtree would go at each INVEPT: a table above the last level is traced again at once. */
static void test_a_table_above_never_rests(void **state)
{
    gpa_t other = new_table();

    (void)state;
    map12(0x1000, 0x5000, RWX_WB);
    map12(LARGE_2M, 0x6000, RWX_WB);
    uint64_t *pd = entry_at(*entry_at(*entry_at(eptp12 & EP4TA, 0, 4) & EPT_ADDRESS, 0, 3) & EPT_ADDRESS, 0, 2);
    for (unsigned i = 0; i < 8; i++) {
        assert_int_equal(fill(LARGE_2M, READ), EPT02_FILLED);
        store(pd, *pd ^ (gpa_t)(i % 2 ? 0 : other));
        invept_and_entry();
        assert_int_equal(fill(LARGE_2M, READ), EPT02_FILLED);
        invept_and_entry(); /* nothing was stored: nothing goes */
        assert_int_equal(leaf02(LARGE_2M).hpa, 0x6000);
    }
}

static void test_flags_are_no_stores(void **state)
{
    uint64_t *entry;

    (void)state;
    eptp12 |= EPTP_AD;
    (void)settle();
    invept_and_entry();
    entry = map12(0x1000, 0x5000, RWX_WB);
    assert_int_equal(fill(0x1000, WRITE), EPT02_FILLED);
    assert_true(*entry & EPT_D);
    invept_and_entry();
    assert_int_equal(leaf02(0x1000).permissions, EPT_RWX);
    /* L1 takes the flag back: the next store must set it again. */
    store(entry, *entry & ~EPT_D);
    invept_and_entry();
    assert_int_equal(fill(0x1000, READ), EPT02_FILLED);
    assert_int_equal(leaf02(0x1000).permissions, EPT_R | EPT_X);
    /* Somebody else watches the page, to whom a flag is a store. */
    assert_int_equal(ept_watch_add(&watch, (gpa_t)((uint8_t *)entry - memory) & ~PAGE_MASK, &watcher), 0);
    assert_int_equal(fill(0x1000, WRITE), EPT02_FILLED);
    assert_false(watcher.armed);
}

static void test_more_tables_than_trackers(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < EPT12_TRACKERS + 8; i++) {
        map12(i * LARGE_2M, 0x5000, RWX_WB);
        assert_int_equal(fill(i * LARGE_2M, READ), EPT02_FILLED);
    }
    assert_int_equal(leaf02((EPT12_TRACKERS + 7) * LARGE_2M).level, 1);
    for (unsigned looks = 1; e.trace->short_looks < 63; looks++) {
        (void)map12((EPT12_TRACKERS + 7) * LARGE_2M, looks % 2 ? 0x6000 : 0x5000, RWX_WB);
        invept_and_entry();
        assert_int_equal(leaf02(0).level, 1); /* the first ones have trackers, and stay */
        assert_int_equal(leaf02((EPT12_TRACKERS + 7) * LARGE_2M).level, 0);
        assert_int_equal(fill((EPT12_TRACKERS + 7) * LARGE_2M, READ), EPT02_FILLED);
        assert_int_equal(leaf02((EPT12_TRACKERS + 7) * LARGE_2M).hpa, looks % 2 ? 0x6000 : 0x5000);
    }
    /* Now trackers are for those who ask first. */
    invept_and_entry();
    assert_int_equal(leaf02(0).level, 0);
    assert_int_equal(watch.pages, 0);
    assert_int_equal(fill((EPT12_TRACKERS + 7) * LARGE_2M, READ), EPT02_FILLED);
    invept_and_entry();
    assert_int_equal(leaf02((EPT12_TRACKERS + 7) * LARGE_2M).level, 1);
    assert_true(watch.pages > 0);
}

static void test_vmxoff_gives_all_back(void **state)
{
    (void)state;
    map12(0x1000, 0x5000, RWX_WB);
    assert_int_equal(fill(0x1000, READ), EPT02_FILLED);
    ept02_forget_all(&e);
    assert_int_equal(watch.pages, 0);
    assert_int_equal(leaf02(0x1000).level, 0);
    assert_int_equal(ept_translate(&ept01, eptp12 & EP4TA).permissions & EPT_RWX, EPT_RWX);
}

/* --- Random stores, fills and INVEPTs: at the entry after INVEPT, EPT02 has nothing that EPT12 has not --- */

#define PLACES 12u
#define TABLES 10u

/* Few pages in two tables of each of three levels, so that all meet often. */
static gpa_t place(unsigned i)
{
    return (i % 3) * PAGE_SIZE + (i / 3 % 2) * LARGE_2M + (i / 6) * GIB;
}

static uint64_t random_entry(const gpa_t *table, unsigned level)
{
    static const uint64_t rights[] = {0, EPT_R, EPT_R | EPT_W, EPT_R | EPT_X, EPT_RWX, EPT_RWX};
    uint64_t right = rights[host_random() % 6];

    if (level == 1)
        return (0x5000 + host_random() % 4 * PAGE_SIZE) | right | PUT(MEMTYPE_WB, EPT_MEMTYPE);
    if (level < 4 && host_random() % 8 == 0)
        return EPT_LARGE | right | PUT(MEMTYPE_WB, EPT_MEMTYPE);
    return table[(4 - level) * 3 + host_random() % 3 + 1] | right;
}

static void check_all(void)
{
    for (unsigned i = 0; i < PLACES; i++) {
        struct ept_leaf leaf = leaf02(place(i));
        struct ept12_walk walk = ept12_walk(&gmem, ept02_rules(&e, eptp12), eptp12, place(i), 0, false);
        if (leaf.level == 0)
            continue;
        assert_int_equal(walk.kind, EPT12_WALK_OK);
        assert_int_equal(leaf.hpa, walk.gpa1);
        assert_int_equal(leaf.permissions & ~walk.permissions, 0);
    }
}

static void test_random(void **state)
{
    gpa_t table[TABLES] = {eptp12 & EP4TA};
    bool invept = false; /* L1 executed one since L2 ran */

    (void)state;
    for (unsigned i = 1; i < TABLES; i++)
        table[i] = new_table();
    for (unsigned i = 0; i < 60000; i++) {
        unsigned which = (unsigned)(host_random() % TABLES), level = which ? 4 - (which + 2) / 3 : 4;
        gpa_t gpa2 = place((unsigned)(host_random() % PLACES));
        unsigned what = (unsigned)(host_random() % 16);
        if (what < 4) {
            store(entry_at(table[which], gpa2, level), random_entry(table, level));
        } else if (what < 14) { /* L2 runs */
            bool executed = settle();
            assert_true(executed || !invept);
            if (invept)
                check_all();
            invept = false;
            (void)fill(gpa2, host_random() % 3 ? READ : WRITE);
        } else {
            ept02_invept_single(&e, eptp12);
            invept = true;
        }
        ept_retire_done(&ept01, ept01.generation); /* as before each entry */
    }
}

#define TRACED(test) cmocka_unit_test_setup_teardown(test, setup_traced, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TRACED(test_nothing_stored_nothing_goes), TRACED(test_only_what_was_stored_to_goes),
        TRACED(test_a_store_behind_invept_goes),  TRACED(test_a_table_above),
        TRACED(test_a_busy_table_rests),          TRACED(test_a_table_above_never_rests),
        TRACED(test_flags_are_no_stores),         TRACED(test_more_tables_than_trackers),
        TRACED(test_vmxoff_gives_all_back),       TRACED(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
