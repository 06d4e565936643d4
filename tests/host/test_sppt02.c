/* sources: nested/ept02/ept02.c nested/ept02/ept02_around.c nested/ept02/ept02_fill.c nested/ept02/ept02_setup.c
   nested/ept02/ept02_tree.c nested/ept02/ept12_trace.c nested/ept02/ept02_filter.c nested/ept02/ept12_walk.c
   nested/ept02/sppt02.c mm/gmem.c mm/ept_watch.c mm/ept.c mm/memmap.c mm/mtrr.c mm/page.c */
/* Sub-page write permissions: L1's table, Nestor's, and what EPT02 has of a page with them. */
#include "tests/host/ept12_world.h"

#include "nested/ept02/sppt02.h"

#define WINDOW (3 * GIB + 5 * LARGE_2M)
#define PERMITS(n) BIT(2 * (n))
#define STORE (WRITE | EPT_QUAL_GLA_VALID | EPT_QUAL_NOT_WALK)

static gpa_t spptp;

/* EPT02's leaf as it is; 0: none. */
static uint64_t raw02(gpa_t gpa2)
{
    const uint64_t *table = ept02_root(&e, eptp12)->table;
    uint64_t entry = 0;

    for (unsigned level = 4; level && table; level--) {
        entry = table[ept_index(gpa2, level)];
        table = entry && !ept_is_leaf(entry, level) ? hpa_to_va(entry & EPT_ADDRESS) : NULL;
    }
    return entry;
}

/* L1's entry for gpa2 at `level`, with the tables above it. */
static uint64_t *sppt_entry(gpa_t gpa2, unsigned level)
{
    gpa_t table = spptp;

    for (unsigned at = 4; at > level; at--) {
        uint64_t *entry = entry_at(table, gpa2, at);
        if (!*entry)
            *entry = new_table() | 1;
        table = *entry & EPT_ADDRESS;
    }
    return entry_at(table, gpa2, level);
}

static enum sppt12_result look(gpa_t gpa2, uint64_t *vector)
{
    return sppt12_look(&gmem, caps.address_bits, spptp, gpa2, vector);
}

/* The vector that the CPU would find in SPPT02; false where it exits. */
static bool found(const struct sppt02 *s, gpa_t gpa2, uint64_t *vector)
{
    const uint64_t *table = s->page[0];

    for (unsigned level = 4; level > 1; level--) {
        uint64_t entry = table[ept_index(gpa2, level)];
        if (!entry)
            return false;
        assert_int_equal(entry & ~EPT_ADDRESS, 1);
        table = hpa_to_va(entry & EPT_ADDRESS);
    }
    *vector = table[ept_index(gpa2, 1)];
    return true;
}

static void test_look(void **state)
{
    static const uint64_t reserved[] = {BIT(1), BIT(11), BIT(40), BIT(51), BIT(52), BIT(63)};
    uint64_t vector;

    (void)state;
    spptp = new_table();
    assert_int_equal(look(WINDOW, &vector), SPPT12_MISS);
    *sppt_entry(WINDOW, 1) = PERMITS(0) | PERMITS(31);
    assert_int_equal(look(WINDOW + 77, &vector), SPPT12_VECTOR);
    assert_int_equal(vector, PERMITS(0) | PERMITS(31));
    assert_true(sppt12_permits(vector, WINDOW + 127));
    assert_false(sppt12_permits(vector, WINDOW + 128));
    assert_true(sppt12_permits(vector, WINDOW + PAGE_SIZE - 1));
    assert_int_equal(look(WINDOW + PAGE_SIZE, &vector), SPPT12_VECTOR);
    assert_int_equal(vector, 0);
    for (unsigned level = 2; level <= 4; level++) {
        uint64_t *entry = sppt_entry(WINDOW, level), good = *entry;
        for (unsigned i = 0; i < ARRAY_SIZE(reserved); i++) {
            *entry = good | reserved[i];
            assert_int_equal(look(WINDOW, &vector), SPPT12_MISCONFIG);
            *entry = reserved[i];
            assert_int_equal(look(WINDOW, &vector), SPPT12_MISS); /* asked first */
        }
        *entry = (CARVEOUT + 5 * PAGE_SIZE) | 1; /* no RAM of L1's: ones */
        assert_int_equal(look(WINDOW, &vector), SPPT12_MISCONFIG);
        *entry = good;
    }
    for (unsigned bit = 1; bit < 64; bit += 2) {
        *sppt_entry(WINDOW, 1) = BIT(bit);
        assert_int_equal(look(WINDOW, &vector), SPPT12_MISCONFIG);
    }
}

/* A vector that was set is found until L1's INVEPT or another table; pages that run out cost what was set before. */
static void test_set(void **state)
{
    struct sppt02 s;
    uint64_t vector;
    unsigned emptied = 0;

    (void)state;
    assert_int_equal(sppt02_init(&s), 0);
    assert_false(sppt02_use(&s, 0x5000));
    assert_false(found(&s, WINDOW, &vector));
    assert_true(sppt02_set(&s, WINDOW, PERMITS(3)));
    assert_false(sppt02_set(&s, WINDOW + 5, PERMITS(3)));
    assert_true(found(&s, WINDOW, &vector));
    assert_int_equal(vector, PERMITS(3));
    assert_true(sppt02_set(&s, WINDOW, PERMITS(4)));
    assert_false(sppt02_use(&s, 0x5000));
    sppt02_invept(&s);
    assert_true(sppt02_use(&s, 0x5000));
    assert_false(found(&s, WINDOW, &vector));
    assert_false(sppt02_use(&s, 0x5000));
    assert_true(sppt02_set(&s, WINDOW, PERMITS(3)));
    assert_true(sppt02_use(&s, 0x6000));
    assert_false(found(&s, WINDOW, &vector));
    for (unsigned i = 0; i < 40; i++) {
        gpa_t gpa2 = i * 512 * GIB % BIT(48) + i * GIB % (512 * GIB);
        (void)!sppt02_set(&s, WINDOW, PERMITS(1));
        (void)!sppt02_set(&s, gpa2, PERMITS(2));
        assert_true(found(&s, gpa2, &vector));
        assert_int_equal(vector, PERMITS(2));
        emptied += !found(&s, WINDOW, &vector);
    }
    assert_true(emptied > 2);
    sppt02_release(&s);
}

/* Bit 61 in EPT02 only where a store may be done without an exit. */
static void test_leaf(void **state)
{
    struct ept02_exit out;
    uint64_t *entry = map12(WINDOW, 0x5000, (RWX_WB & ~EPT_W) | EPT_SUB_PAGE);

    (void)state;
    assert_int_equal(ept02_fill(&e, eptp12, WINDOW, WRITE, STORE, false, &out), EPT02_VIOLATION);
    assert_true(out.sub_page);
    assert_int_equal(out.qualification & EPT_RWX, WRITE);
    assert_int_equal(ept02_fill(&e, eptp12, WINDOW, EPT_SUB_PAGE, STORE, false, &out), EPT02_FILLED);
    assert_int_equal(raw02(WINDOW) & (EPT_RWX | EPT_SUB_PAGE), EPT_R | EPT_X | EPT_SUB_PAGE);
    /* A watch takes it as it takes W, and a store comes by it. */
    assert_int_equal(ept_watch_add(&watch, 0x5000, &watcher), 0);
    assert_int_equal(raw02(WINDOW) & (EPT_RWX | EPT_SUB_PAGE), EPT_R | EPT_X);
    assert_true(ept02_settle(&e, ept02_root(&e, eptp12)));
    assert_int_equal(ept02_fill(&e, eptp12, WINDOW, EPT_SUB_PAGE, STORE, false, &out), EPT02_WATCH);
    assert_int_equal(out.gpa1, 0x5000);
    assert_true(ept_watch_hit(&watch, 0x5000));
    assert_int_equal(ept02_fill(&e, eptp12, WINDOW, EPT_SUB_PAGE, STORE, false, &out), EPT02_FILLED);
    assert_int_equal(raw02(WINDOW) & (EPT_RWX | EPT_SUB_PAGE), EPT_R | EPT_X | EPT_SUB_PAGE);
    /* L1 has changed its mind between the two questions. */
    *entry &= ~EPT_SUB_PAGE;
    assert_int_equal(ept02_fill(&e, eptp12, WINDOW, EPT_SUB_PAGE, STORE, false, &out), EPT02_VIOLATION);
    assert_int_equal(out.qualification & (EPT_RWX | EPT_SUB_PAGE), WRITE);
    assert_false(out.sub_page);
    *entry = (*entry & ~EPT_R) | EPT_SUB_PAGE;
    assert_int_equal(ept02_fill(&e, eptp12, WINDOW, WRITE, STORE, false, &out), EPT02_VIOLATION);
    assert_false(out.sub_page);
}

static void test_dirty(void **state)
{
    struct ept02_exit out;
    uint64_t *entry = map12(WINDOW, 0x5000, (RWX_WB & ~EPT_W) | EPT_SUB_PAGE);

    (void)state;
    eptp12 |= EPTP_AD;
    assert_int_equal(ept02_fill(&e, eptp12, WINDOW, READ, READ, false, &out), EPT02_FILLED);
    assert_int_equal(raw02(WINDOW) & EPT_SUB_PAGE, 0);
    assert_int_equal(ept02_fill(&e, eptp12, WINDOW, EPT_SUB_PAGE, STORE, true, &out), EPT02_LOG_FULL);
    assert_int_equal(*entry & EPT_D, 0);
    assert_int_equal(ept02_fill(&e, eptp12, WINDOW, EPT_SUB_PAGE, STORE, false, &out), EPT02_FILLED);
    assert_true(out.dirtied);
    assert_int_equal(*entry & EPT_D, EPT_D);
    assert_int_equal(raw02(WINDOW) & EPT_SUB_PAGE, EPT_SUB_PAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(test_look), TEST(test_set), TEST(test_leaf), TEST(test_dirty)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
