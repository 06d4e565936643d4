/* sources: mm/memmap.c */
#include "tests/host/host.h"

#include <string.h>

#include "boot/bootinfo.h"
#include "mm/memmap.h"

/* The reference: one type per 4 KiB page of a small space. */
#define CELLS 256u
static uint32_t cell[CELLS];
static struct memmap map;

static void check_invariants(void)
{
    for (unsigned i = 0; i < map.count; i++) {
        assert_true(map.region[i].size > 0);
        if (i == 0)
            continue;
        hpa_t previous_end = map.region[i - 1].base + map.region[i - 1].size;
        assert_true(previous_end <= map.region[i].base);
        assert_false(previous_end == map.region[i].base && map.region[i - 1].type == map.region[i].type);
    }
}

static void check_against_cells(void)
{
    uint64_t ram = 0, end = 0;

    for (unsigned i = 0; i < CELLS; i++) {
        assert_int_equal(memmap_type(&map, i * PAGE_SIZE), cell[i]);
        assert_int_equal(memmap_type(&map, i * PAGE_SIZE + PAGE_MASK), cell[i]);
        if (cell[i] == REGION_RAM) {
            ram += PAGE_SIZE;
            end = (i + 1) * PAGE_SIZE;
        }
    }
    assert_int_equal(memmap_ram_size(&map), ram);
    assert_int_equal(memmap_ram_end(&map), end);
}

static void test_random_sets(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 200; round++) {
        memset(&map, 0, sizeof map);
        memset(cell, 0, sizeof cell);
        for (unsigned step = 0; step < 60; step++) {
            unsigned base = (unsigned)(host_random() % CELLS), count = (unsigned)(host_random() % (CELLS - base)) % 40;
            uint32_t type = (uint32_t)(host_random() % 4) + 1;
            assert_int_equal(memmap_set(&map, base * PAGE_SIZE, count * PAGE_SIZE, type), 0);
            for (unsigned i = 0; i < count; i++)
                cell[base + i] = type;
            check_invariants();
        }
        check_against_cells();
    }
}

static void test_is_whole_range(void **state)
{
    (void)state;
    memset(&map, 0, sizeof map);
    assert_int_equal(memmap_set(&map, 0, 0x9f000, REGION_RAM), 0);
    assert_int_equal(memmap_set(&map, 0x100000, 0x700000, REGION_RAM), 0);
    assert_true(memmap_is(&map, 0, 0x9f000, REGION_RAM));
    assert_false(memmap_is(&map, 0, 0x9f001, REGION_RAM));
    assert_false(memmap_is(&map, 0x9e000, 0x100000, REGION_RAM));
    assert_true(memmap_is(&map, 0x7ff000, 0x1000, REGION_RAM));
    assert_false(memmap_is(&map, 0x7ff000, 0x1001, REGION_RAM));
    assert_false(memmap_is(&map, 0xa0000, 1, REGION_RAM));
    assert_false(memmap_is(&map, 0x1000, ~0ull, REGION_RAM));
    assert_int_equal(memmap_type(&map, 0xa0000), 0);
}

static void test_full_list_is_an_error(void **state)
{
    struct memmap before;

    (void)state;
    memset(&map, 0, sizeof map);
    for (unsigned i = 0; i < MEMMAP_MAX; i++)
        assert_int_equal(memmap_set(&map, i * 0x2000ull, 0x1000, REGION_RAM), 0);
    before = map;
    assert_int_equal(memmap_set(&map, 0x10000000, 0x1000, REGION_RAM), -1);
    assert_int_equal(memmap_set(&map, 0x400, 0x10, REGION_RESERVED), -1);
    assert_memory_equal(&before, &map, sizeof map);
    /* Filling a gap joins three regions and so still fits. */
    assert_int_equal(memmap_set(&map, 0x1000, 0x1000, REGION_RAM), 0);
    assert_int_equal(map.count, MEMMAP_MAX - 1);
}

static void test_wrapping_region_is_cut(void **state)
{
    (void)state;
    memset(&map, 0, sizeof map);
    assert_int_equal(memmap_set(&map, 0x100000, 0x100000, REGION_RAM), 0);
    assert_int_equal(memmap_set(&map, 0xfffffffffffff000ull, 0x2000, REGION_RESERVED), 0);
    check_invariants();
    assert_int_equal(memmap_type(&map, 0xfffffffffffff800ull), REGION_RESERVED);
    assert_int_equal(memmap_type(&map, 0), 0);
    assert_int_equal(memmap_set(&map, 0x5000, 0, REGION_BAD), 0);
    assert_int_equal(memmap_type(&map, 0x5000), 0);
}

static void test_find_top(void **state)
{
    const struct memmap_region busy[] = {{0x7f0000, 0x10000, 0}, {0x700000, 0xe8000, 0}, {0x10, 0, 0}};

    (void)state;
    memset(&map, 0, sizeof map);
    assert_int_equal(memmap_set(&map, 0x1000, 0x9e000, REGION_RAM), 0);
    assert_int_equal(memmap_set(&map, 0x100000, 0x700000, REGION_RAM), 0);
    assert_int_equal(memmap_set(&map, 0x100000000ull, 0x100000, REGION_RAM), 0);
    assert_int_equal(memmap_find_top(&map, 0x1000, 0x1000, ~0ull, NULL, 0), 0x1000ff000ull);
    assert_int_equal(memmap_find_top(&map, 0x1000, 0x1000, 0x100000000ull, NULL, 0), 0x7ff000);
    assert_int_equal(memmap_find_top(&map, 0x1000, 0x1000, 0x100000000ull, busy, 1), 0x7ef000);
    assert_int_equal(memmap_find_top(&map, 0x8000, 0x1000, 0x100000000ull, busy, 3), 0x7e8000);
    assert_int_equal(memmap_find_top(&map, 0x8001, 0x1000, 0x100000000ull, busy, 3), 0x6f7000);
    assert_int_equal(memmap_find_top(&map, 0x1000, 0x100000, 0x100000000ull, busy, 3), 0x600000);
    assert_int_equal(memmap_find_top(&map, 0x9e000, 0x1000, 0x100000, NULL, 0), 0x1000);
    assert_int_equal(memmap_find_top(&map, 0x9e001, 0x1000, 0x100000, NULL, 0), 0);
    assert_int_equal(memmap_find_top(&map, 0x800000, 0x1000, ~0ull, NULL, 0), 0);
    assert_int_equal(memmap_find_top(&map, 0x1000, 0x1000, 0x150800, NULL, 0), 0x14f000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_sets),
        cmocka_unit_test(test_is_whole_range),
        cmocka_unit_test(test_full_list_is_an_error),
        cmocka_unit_test(test_wrapping_region_is_cut),
        cmocka_unit_test(test_find_top),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
