/* sources: l1/l1_bios.c mm/memmap.c */
#include "tests/host/host.h"

#include <string.h>

#include "boot/bootinfo.h"
#include "kernel/layout.h"
#include "l1/l1_bios.h"

#define MEMORY (1 * MIB)
#define BIOS_VECTOR 0xf000f859u

const uint8_t bios15_code[L1_BIOS_TABLE_OFFSET] = "in place of l1/bios15.asm";

static uint8_t memory[MEMORY];
static struct memmap map;

static void put_vector(uint32_t vector)
{
    memcpy(memory + 0x15 * 4, &vector, sizeof vector);
}

static int set_up(void **state)
{
    (void)state;
    layout_host_memory = memory;
    memset(memory, 0, sizeof memory);
    memset(&map, 0, sizeof map);
    put_vector(BIOS_VECTOR);
    assert_int_equal(memmap_set(&map, 0, 0x9f000, REGION_RAM), 0);
    assert_int_equal(memmap_set(&map, 0x9f000, 0x1000, REGION_RESERVED), 0);
    assert_int_equal(memmap_set(&map, MIB, 255 * MIB, REGION_RAM), 0);
    return 0;
}

static void test_finds_the_top_of_low_memory(void **state)
{
    (void)state;
    assert_int_equal(l1_bios_find(&map), 0x9e000);
}

static void test_no_bios(void **state)
{
    (void)state;
    assert_true(l1_bios_present());
    put_vector(0);
    assert_false(l1_bios_present());
    assert_int_equal(memmap_set(&map, 0, 0xa0000, REGION_RESERVED), 0);
    assert_int_equal(l1_bios_find(&map), 0);
}

static void test_more_regions_than_the_page_has_room_for(void **state)
{
    static struct {
        struct l1_bios_table table;
        uint8_t behind;
    } page = {.behind = 0x5a};

    (void)state;
    for (uint64_t i = 0; map.count < MEMMAP_MAX; i++)
        assert_int_equal(memmap_set(&map, GIB + i * 2 * PAGE_SIZE, PAGE_SIZE, REGION_RESERVED), 0);
    l1_bios_fill(&map, BIOS_VECTOR, &page.table);
    assert_int_equal(page.table.count, L1_BIOS_REGIONS);
    assert_int_equal(page.table.region[L1_BIOS_REGIONS - 1].base, map.region[L1_BIOS_REGIONS - 1].base);
    assert_int_equal(page.behind, 0x5a);
}

static void test_table(void **state)
{
    static struct l1_bios_table table;

    (void)state;
    l1_bios_fill(&map, BIOS_VECTOR, &table);
    assert_int_equal(table.bios_vector, BIOS_VECTOR);
    assert_int_equal(table.count, 3);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(table.region[i].base, map.region[i].base);
        assert_int_equal(table.region[i].size, map.region[i].size);
        assert_int_equal(table.region[i].type, map.region[i].type);
    }
    assert_int_equal(table.kib_from_1m, 15 * 1024);
    assert_int_equal(table.blocks_from_16m, 240 * 16);
    assert_int_equal(table.kib_from_1m_all, 65535);
}

/* Memory with holes counts up to the first one. */
static void test_sizes_stop_at_a_hole(void **state)
{
    static struct l1_bios_table table;

    (void)state;
    assert_int_equal(memmap_set(&map, 8 * MIB, 16 * MIB, REGION_RESERVED), 0);
    l1_bios_fill(&map, BIOS_VECTOR, &table);
    assert_int_equal(table.kib_from_1m, 7 * 1024);
    assert_int_equal(table.blocks_from_16m, 0);
    assert_int_equal(table.kib_from_1m_all, 7 * 1024);
    assert_int_equal(memmap_set(&map, 16 * MIB, 6 * GIB, REGION_RAM), 0);
    l1_bios_fill(&map, BIOS_VECTOR, &table);
    assert_int_equal(table.blocks_from_16m, 65535);
}

static void test_install(void **state)
{
    struct l1_bios_table *table = (struct l1_bios_table *)(memory + 0x9e000 + L1_BIOS_TABLE_OFFSET);
    hpa_t page = l1_bios_find(&map);
    uint32_t vector;

    (void)state;
    l1_bios_install(&map, page);
    memcpy(&vector, memory + 0x54, sizeof vector);
    assert_int_equal(vector, 0x9e000000);
    assert_int_equal(memory[0x413] | memory[0x414] << 8, 0x9e000 / 1024);
    assert_memory_equal(memory + page, bios15_code, L1_BIOS_TABLE_OFFSET);
    assert_int_equal(table->bios_vector, BIOS_VECTOR);
    assert_int_equal(table->count, map.count);
}

static uint32_t vector_at(unsigned n)
{
    uint32_t vector;

    memcpy(&vector, memory + n * 4, sizeof vector);
    return vector;
}

/* On UEFI, where page 0 holds anything. */
static void test_stand_in(void **state)
{
    static const uint8_t root[36] = "RSD PTR and its checksums";
    struct l1_bios_table *table = (struct l1_bios_table *)(memory + 0x9e000 + L1_BIOS_TABLE_OFFSET);

    (void)state;
    memset(memory, 0xa5, PAGE_SIZE);
    l1_bios_install(&map, 0x9e000);
    l1_bios_stand_in(0x9e000, root, sizeof root);
    assert_int_equal(vector_at(0x15), 0x9e000000);
    assert_int_equal(table->bios_vector, 0x9e000000 + L1_BIOS_REFUSE);
    assert_int_equal(table->count, map.count);
    assert_int_equal(vector_at(0x12), 0x9e000000 + L1_BIOS_SIZE);
    for (unsigned n = 0; n < 256; n++)
        if (n != 0x12 && n != 0x15)
            assert_int_equal(vector_at(n), 0x9e000000 + (n / 16 == 1 ? L1_BIOS_REFUSE : L1_BIOS_RETURN));
    assert_int_equal(memory[0x40e] | memory[0x40f] << 8, 0x9e00);
    assert_memory_equal(memory + 0x9e000 + L1_BIOS_ROOT, root, sizeof root);
    /* An older root is shorter; a larger one than there may be does no harm. */
    l1_bios_stand_in(0x9e000, (const uint8_t[400]){0}, 400);
    assert_int_equal(table->count, map.count);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_finds_the_top_of_low_memory, set_up),
        cmocka_unit_test_setup(test_no_bios, set_up),
        cmocka_unit_test_setup(test_more_regions_than_the_page_has_room_for, set_up),
        cmocka_unit_test_setup(test_table, set_up),
        cmocka_unit_test_setup(test_sizes_stop_at_a_hole, set_up),
        cmocka_unit_test_setup(test_install, set_up),
        cmocka_unit_test_setup(test_stand_in, set_up),
    };
    return cmocka_run_group_tests_name("l1_bios", tests, NULL, NULL);
}
