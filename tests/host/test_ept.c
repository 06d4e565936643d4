/* sources: mm/ept.c mm/memmap.c mm/mtrr.c mm/page.c */
#include "tests/host/host.h"

#include <string.h>

#include "boot/bootinfo.h"
#include "kernel/layout.h"
#include "kernel/msr.h"
#include "mm/ept.h"
#include "mm/page.h"

#define POOL_PAGES 1024
#define RAM_END (2 * GIB)
#define CARVEOUT_BASE (RAM_END - 64 * MIB)
#define CARVEOUT_SIZE (64 * MIB)

static struct ept ept;
static struct memmap map;
static uint64_t free_at_start;

static void set_memory(uint64_t pool_pages)
{
    uint8_t *memory = host_memory(pool_pages * PAGE_SIZE);

    page_init(memory, memory + pool_pages * PAGE_SIZE);
    memset(&map, 0, sizeof map);
    assert_int_equal(memmap_set(&map, 0, 0x9f000, REGION_RAM), 0);
    assert_int_equal(memmap_set(&map, MIB, RAM_END - MIB, REGION_RAM), 0);
    assert_int_equal(memmap_set(&map, CARVEOUT_BASE, CARVEOUT_SIZE, REGION_RESERVED), 0);
}

static void set_features(bool pages_1g)
{
    memset(&ept, 0, sizeof ept);
    ept.features = (struct ept_features){pages_1g, true, 40};
    ept.map = &map;
    ept.carveout_base = CARVEOUT_BASE;
    ept.carveout_size = CARVEOUT_SIZE;
    ept.mtrr.default_type = MTRR_DEF_TYPE_E | MTRR_DEF_TYPE_FE | MEMTYPE_WB;
    ept.mtrr.fixed_supported = true;
    memset(ept.mtrr.fixed, MEMTYPE_WB, sizeof ept.mtrr.fixed);
    ept.mtrr.fixed[2] = 0;
    ept.mtrr.address_mask = BITS(39, 12);
    ept.mtrr.variable_count = 2;
    ept.mtrr.variable[0].base = 0xe0000000 | MEMTYPE_UC;
    ept.mtrr.variable[0].mask = BITS(39, 29) | MTRR_PHYSMASK_VALID;
    ept.mtrr.variable[1].base = 0xc0300000 | MEMTYPE_WC; /* 64 KiB inside a 2 MiB page */
    ept.mtrr.variable[1].mask = BITS(39, 16) | MTRR_PHYSMASK_VALID;
}

static int setup(void **state)
{
    (void)state;
    set_memory(POOL_PAGES);
    set_features(true);
    assert_int_equal(ept_build(&ept), 0);
    free_at_start = page_count_free();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    host_memory_free();
    return 0;
}

static void check_translation(gpa_t gpa, uint64_t permissions)
{
    struct ept_leaf leaf = ept_translate(&ept, gpa);

    assert_true(leaf.level >= 1 && leaf.level <= 3);
    assert_int_equal(leaf.permissions & EPT_RWX, permissions);
    if (ept_is_carveout(&ept, gpa)) {
        assert_int_equal(leaf.hpa, ept.ones_page | (gpa & PAGE_MASK));
        assert_int_equal(leaf.memtype, MEMTYPE_WB);
        assert_int_equal(*(uint8_t *)hpa_to_va(leaf.hpa), 0xff);
        return;
    }
    assert_int_equal(leaf.hpa, gpa);
    assert_int_equal(leaf.memtype, mtrr_type(&ept.mtrr, gpa));
}

static void check_identity(void)
{
    for (unsigned i = 0; i < 20000; i++) {
        gpa_t gpa = host_random() % (4 * GIB);
        check_translation(gpa, ept_is_carveout(&ept, gpa) ? EPT_R | EPT_X : EPT_RWX);
    }
    for (gpa_t gpa = 0; gpa < 4 * MIB; gpa += PAGE_SIZE)
        check_translation(gpa, EPT_RWX);
}

static void test_identity_with_1g(void **state)
{
    (void)state;
    check_identity();
    assert_int_equal(ept_translate(&ept, GIB / 2).level, 2); /* the first gigabyte holds the fixed ranges */
    assert_int_equal(ept_translate(&ept, 0xa0000).level, 1);
    assert_int_equal(ept_translate(&ept, 2 * GIB).level, 3);
    assert_int_equal(ept_translate(&ept, 0xc0300000).level, 1);
    assert_int_equal(ept_translate(&ept, 0xfee00000).level, 2);
    assert_int_equal(ept_translate(&ept, CARVEOUT_BASE - 1).level, 2);
    assert_int_equal(ept_translate(&ept, CARVEOUT_BASE).level, 1);
}

static void test_identity_without_1g(void **state)
{
    (void)state;
    set_memory(POOL_PAGES);
    set_features(false);
    assert_int_equal(ept_build(&ept), 0);
    check_identity();
    assert_int_equal(ept_translate(&ept, 2 * GIB).level, 2);
}

/* Walks all tables: nothing but the ones page may lie in Nestor's memory. */
static void check_tables(const uint64_t *table, unsigned level)
{
    for (unsigned i = 0; i < EPT_ENTRIES; i++) {
        hpa_t hpa = table[i] & EPT_ADDRESS;
        if (!table[i])
            continue;
        assert_true(table[i] & EPT_A);
        assert_false(!(table[i] & EPT_R) && (table[i] & (EPT_W | EPT_X)));
        if (!ept_is_leaf(table[i], level)) {
            check_tables(hpa_to_va(hpa), level - 1);
            continue;
        }
        assert_true(IS_ALIGNED(hpa, ept_level_size(level)));
        assert_true(hpa >= CARVEOUT_BASE + CARVEOUT_SIZE || hpa + ept_level_size(level) <= CARVEOUT_BASE);
    }
}

static void test_nothing_maps_the_carveout(void **state)
{
    (void)state;
    check_tables(ept.root, 4);
    assert_true(ept_is_carveout(&ept, CARVEOUT_BASE));
    assert_true(ept_is_carveout(&ept, CARVEOUT_BASE + CARVEOUT_SIZE - 1));
    assert_false(ept_is_carveout(&ept, CARVEOUT_BASE - 1));
    assert_false(ept_is_carveout(&ept, CARVEOUT_BASE + CARVEOUT_SIZE));
    for (gpa_t gpa = CARVEOUT_BASE; gpa < CARVEOUT_BASE + CARVEOUT_SIZE; gpa += PAGE_SIZE)
        check_translation(gpa, EPT_R | EPT_X);
    assert_null(ept_carveout_entry(&ept, CARVEOUT_BASE - 1));
    *ept_carveout_entry(&ept, CARVEOUT_BASE + 0x5008) |= EPT_W;
    check_translation(CARVEOUT_BASE + 0x5000, EPT_RWX);
    check_translation(CARVEOUT_BASE + 0x6000, EPT_R | EPT_X);
}

static void test_pointer(void **state)
{
    (void)state;
    assert_int_equal(ept_pointer(&ept), va_to_hpa(ept.root) | 0x5e);
    ept.features.access_dirty = false;
    assert_int_equal(ept_pointer(&ept), va_to_hpa(ept.root) | 0x1e);
}

static void test_protect_touches_one_page(void **state)
{
    gpa_t page = 0x23456000;
    uint64_t generation = ept.generation;

    (void)state;
    assert_int_equal(ept_write_protect(&ept, page + 8), 0);
    assert_int_equal(ept.generation, generation); /* that is ept_revoke()'s */
    check_translation(page, EPT_R | EPT_X);
    check_translation(page + PAGE_MASK, EPT_R | EPT_X);
    check_translation(page - 1, EPT_RWX);
    check_translation(page + PAGE_SIZE, EPT_RWX);
    generation = ept.generation;
    assert_int_equal(ept_write_protect(&ept, page), 0);
    assert_int_equal(ept.generation, generation);
    ept_write_allow(&ept, page);
    check_identity();
    assert_int_equal(ept_translate(&ept, page).level, 2);
    ept_retire_done(&ept, ept.generation);
    assert_int_equal(page_count_free(), free_at_start);
}

/* The gigabyte page is split twice and joined twice. */
static void test_split_and_join_of_1g(void **state)
{
    gpa_t page = 0x40000000ull + 5 * LARGE_2M + 7 * PAGE_SIZE;

    (void)state;
    set_memory(POOL_PAGES);
    set_features(true);
    assert_int_equal(memmap_set(&map, RAM_END, 2 * GIB, REGION_RAM), 0);
    assert_int_equal(ept_build(&ept), 0);
    free_at_start = page_count_free();
    page += GIB;
    assert_int_equal(ept_translate(&ept, page).level, 3);
    assert_int_equal(ept_write_protect(&ept, page), 0);
    assert_int_equal(ept_translate(&ept, page).level, 1);
    assert_int_equal(ept_translate(&ept, page + LARGE_2M).level, 2);
    assert_int_equal(page_count_free(), free_at_start - 2);
    ept_write_allow(&ept, page);
    assert_int_equal(ept_translate(&ept, page).level, 3);
    check_translation(page, EPT_RWX);
    assert_int_equal(ept.retired_count, 2);
    ept_retire_done(&ept, ept.generation);
    assert_int_equal(page_count_free(), free_at_start);
}

static void check_alike(const struct ept_leaf *before, gpa_t base)
{
    for (unsigned i = 0; i < EPT_ENTRIES; i++) {
        struct ept_leaf now = ept_translate(&ept, base + i * PAGE_SIZE);
        assert_int_equal(now.hpa, before[i].hpa);
        assert_int_equal(now.memtype, before[i].memtype);
        assert_int_equal(now.permissions & EPT_X, before[i].permissions & EPT_X);
    }
}

/* Of a page that is executed nothing else changes with its size: neither address nor memory type. docs/SILICON.md */
static void test_only_the_size_changes(void **state)
{
    static const gpa_t bases[] = {0, LARGE_2M, 0x40000000ull, 0xc0000000ull - LARGE_2M};
    struct ept_leaf before[EPT_ENTRIES];

    (void)state;
    for (unsigned n = 0; n < ARRAY_SIZE(bases); n++) {
        gpa_t page = bases[n] + 9 * PAGE_SIZE;
        for (unsigned i = 0; i < EPT_ENTRIES; i++)
            before[i] = ept_translate(&ept, bases[n] + i * PAGE_SIZE);
        if (ept_write_protect(&ept, page))
            continue; /* no RAM */
        assert_int_equal(ept_translate(&ept, page + PAGE_SIZE).level, 1);
        check_alike(before, bases[n]);
        ept_write_allow(&ept, page);
        assert_int_equal(ept_translate(&ept, page).level, before[9].level);
        check_alike(before, bases[n]);
    }
}

static void test_join_waits_for_the_last(void **state)
{
    gpa_t base = 0x10000000;

    (void)state;
    for (unsigned i = 0; i < EPT_ENTRIES; i++)
        assert_int_equal(ept_write_protect(&ept, base + i * PAGE_SIZE), 0);
    for (unsigned i = 0; i < EPT_ENTRIES; i++) {
        assert_int_equal(ept_translate(&ept, base).level, 1);
        ept_write_allow(&ept, base + i * PAGE_SIZE);
    }
    assert_int_equal(ept_translate(&ept, base).level, 2);
    ept_retire_done(&ept, ept.generation);
    assert_int_equal(page_count_free(), free_at_start);
}

/* A pinned page keeps the large page around it split, until the last pin has gone. */
static void test_pinned_page_stays_small(void **state)
{
    gpa_t page = 0x10003000;
    struct ept_pin pin[2] = {{0}};

    (void)state;
    assert_int_equal(ept_pin(&ept, page, &pin[0]), 0);
    assert_int_equal(ept_pin(&ept, page, &pin[1]), 0);
    assert_int_equal(ept_translate(&ept, page).level, 1);
    check_translation(page, EPT_RWX);
    assert_int_equal(ept_write_protect(&ept, page + PAGE_SIZE), 0);
    ept_write_allow(&ept, page + PAGE_SIZE);
    assert_int_equal(ept_translate(&ept, page).level, 1);
    ept_unpin(&ept, &pin[0]);
    assert_int_equal(ept_translate(&ept, page).level, 1);
    ept_unpin(&ept, &pin[1]);
    ept_unpin(&ept, &pin[1]);
    assert_int_equal(ept_translate(&ept, page).level, 2);
    assert_int_equal(ept_pin(&ept, BIT(38), &pin[0]), -1); /* nothing is mapped there */
    ept_retire_done(&ept, ept.generation);
    assert_int_equal(page_count_free(), free_at_start);
}

static void test_retired_tables_stay_until_all_passed(void **state)
{
    gpa_t page = 0x10003000;
    uint64_t generation;
    unsigned level_1_entry;
    uint64_t *old;

    (void)state;
    assert_int_equal(ept_write_protect(&ept, page), 0);
    ept_write_allow(&ept, page);
    generation = ept.generation;
    assert_int_equal(ept.retired_count, 1);
    old = ept.retired[0].table;
    level_1_entry = ept_index(page, 1);
    ept_retire_done(&ept, generation - 1);
    assert_int_equal(ept.retired_count, 1);
    assert_int_equal(old[level_1_entry] & EPT_ADDRESS, page);
    assert_int_equal(old[level_1_entry] & EPT_RWX, EPT_RWX);
    ept_retire_done(&ept, generation);
    assert_int_equal(page_count_free(), free_at_start);
}

static void test_full_retired_list_leaves_pages_split(void **state)
{
    (void)state;
    for (unsigned i = 0; i <= EPT_RETIRED_MAX; i++) {
        gpa_t page = 0x10000000 + i * LARGE_2M;
        assert_int_equal(ept_write_protect(&ept, page), 0);
        ept_write_allow(&ept, page);
        assert_int_equal(ept_translate(&ept, page).level, i < EPT_RETIRED_MAX ? 2 : 1);
        check_translation(page, EPT_RWX);
    }
    ept_retire_done(&ept, ept.generation);
    ept_write_allow(&ept, 0x10000000 + EPT_RETIRED_MAX * LARGE_2M);
    ept_retire_done(&ept, ept.generation);
    assert_int_equal(page_count_free(), free_at_start);
}

static void test_only_ram_is_protected(void **state)
{
    (void)state;
    assert_int_equal(ept_write_protect(&ept, 0xa0000), -1);
    assert_int_equal(ept_write_protect(&ept, 0x9f000), -1);
    assert_int_equal(ept_write_protect(&ept, CARVEOUT_BASE), -1);
    assert_int_equal(ept_write_protect(&ept, 0xfee00000), -1);
    assert_int_equal(ept_write_protect(&ept, BIT(47)), -1);
    ept_write_allow(&ept, CARVEOUT_BASE);
    check_identity();
    assert_int_equal(page_count_free(), free_at_start);
}

static void test_protect_without_pages(void **state)
{
    void *held[POOL_PAGES];
    unsigned count = 0;

    (void)state;
    set_memory(POOL_PAGES);
    set_features(true);
    assert_int_equal(memmap_set(&map, RAM_END, 2 * GIB, REGION_RAM), 0);
    assert_int_equal(ept_build(&ept), 0);
    free_at_start = page_count_free();
    while (page_count_free() > 1)
        held[count++] = page_alloc();
    assert_int_equal(ept_write_protect(&ept, RAM_END), -1);
    assert_int_equal(ept_translate(&ept, RAM_END).level, 3);
    ept_retire_done(&ept, ept.generation);
    assert_int_equal(page_count_free(), 1);
    while (count > 0)
        page_free(held[--count]);
    assert_int_equal(ept_write_protect(&ept, RAM_END), 0);
    check_translation(RAM_END, EPT_R | EPT_X);
}

static void test_build_without_pages(void **state)
{
    (void)state;
    /* One page of states, and 10 are needed: 3 for all, 1 for level 3, 4 for level 2, 2 for level 1. */
    for (uint64_t pages = 2; pages < 11; pages++) {
        set_memory(pages);
        set_features(false);
        assert_int_equal(ept_build(&ept), -1);
    }
}

/* With KeyIDs in the upper address bits each byte of Nestor's has more addresses: none of them gets a mapping. */
static void test_aliases_are_never_mapped(void **state)
{
    (void)state;
    ept.features.address_bits = 37;
    for (uint64_t key = 1; key < 8; key++) {
        gpa_t alias = CARVEOUT_BASE | key << 37;
        assert_int_equal(ept_translate(&ept, alias).level, 0);
        assert_false(ept_map_on_demand(&ept, alias));
        assert_int_equal(ept_translate(&ept, alias).level, 0);
    }
    assert_true(ept_map_on_demand(&ept, BIT(37) - 1));
}

static void test_map_on_demand(void **state)
{
    (void)state;
    assert_int_equal(ept_translate(&ept, 5 * GIB).level, 0);
    assert_false(ept_map_on_demand(&ept, 4 * GIB - 1));
    assert_true(ept_map_on_demand(&ept, 5 * GIB + 12345));
    check_translation(5 * GIB, EPT_RWX);
    check_translation(6 * GIB - 1, EPT_RWX);
    assert_int_equal(ept_translate(&ept, 6 * GIB).level, 0);
    assert_true(ept_map_on_demand(&ept, 5 * GIB));
    assert_true(ept_map_on_demand(&ept, BIT(40) - 1));
    check_translation(BIT(40) - 1, EPT_RWX);
    assert_false(ept_map_on_demand(&ept, BIT(40)));
    assert_int_equal(ept_translate(&ept, BIT(40)).level, 0);
    assert_int_equal(ept_translate(&ept, BIT(63)).level, 0);
}

static void test_far_addresses_cannot_take_all_pages(void **state)
{
    unsigned mapped = 0;

    (void)state;
    set_memory(POOL_PAGES);
    set_features(false);
    assert_int_equal(ept_build(&ept), 0);
    for (gpa_t gpa = 4 * GIB; gpa < BIT(40); gpa += GIB)
        mapped += ept_map_on_demand(&ept, gpa);
    assert_between(mapped, 900, 1019);
    assert_between(page_count_free(), 50, 64);
    assert_int_equal(ept_write_protect(&ept, 0x10000000), 0);
}

static void test_random_protection(void **state)
{
    enum { PAGES = 64 };
    gpa_t page[PAGES];
    bool protected[PAGES] = {0};

    (void)state;
    /* Few large pages, so that they are shared. */
    for (unsigned i = 0; i < PAGES; i++)
        page[i] = 0x10000000 + (i % 4) * LARGE_2M + i * PAGE_SIZE;
    for (unsigned step = 0; step < 20000; step++) {
        unsigned i = (unsigned)(host_random() % PAGES);
        if (host_random() % 2) {
            assert_int_equal(ept_write_protect(&ept, page[i]), 0);
            protected[i] = true;
        } else {
            ept_write_allow(&ept, page[i]);
            protected[i] = false;
        }
        for (unsigned k = 0; k < PAGES; k++)
            assert_int_equal(ept_translate(&ept, page[k]).permissions & EPT_RWX,
                             protected[k] ? EPT_R | EPT_X : EPT_RWX);
        if (step % 16 == 0)
            ept_retire_done(&ept, ept.generation);
    }
    for (unsigned i = 0; i < PAGES; i++)
        ept_write_allow(&ept, page[i]);
    ept_retire_done(&ept, ept.generation);
    for (unsigned i = 0; i < 4; i++)
        ept_write_allow(&ept, 0x10000000 + i * LARGE_2M);
    ept_retire_done(&ept, ept.generation);
    check_identity();
    assert_int_equal(page_count_free(), free_at_start);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_identity_with_1g),          TEST(test_identity_without_1g),
        TEST(test_nothing_maps_the_carveout), TEST(test_pointer),
        TEST(test_protect_touches_one_page),  TEST(test_split_and_join_of_1g),
        TEST(test_join_waits_for_the_last),   TEST(test_retired_tables_stay_until_all_passed),
        TEST(test_pinned_page_stays_small),   TEST(test_full_retired_list_leaves_pages_split),
        TEST(test_only_ram_is_protected),     TEST(test_protect_without_pages),
        TEST(test_build_without_pages),       TEST(test_map_on_demand),
        TEST(test_aliases_are_never_mapped),  TEST(test_far_addresses_cannot_take_all_pages),
        TEST(test_random_protection),         TEST(test_only_the_size_changes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
