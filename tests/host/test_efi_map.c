/* sources: boot/efi_map.c */
#include "tests/host/host.h"

#include <string.h>

#include "boot/bootinfo.h"
#include "boot/efi_map.h"

#define STEP 48u
#define PAGES 256u /* of the random maps */

static struct efi_map map;

static void add(uint32_t type, hpa_t base, uint64_t pages)
{
    uint8_t *at = map.bytes + map.size;

    memset(at, 0x5a, STEP); /* what is not looked at stays as it is */
    memcpy(at, &type, sizeof type);
    memcpy(at + 8, &base, sizeof base);
    memcpy(at + 24, &pages, sizeof pages);
    map.size += STEP;
}

static int setup(void **state)
{
    (void)state;
    memset(&map, 0, sizeof map);
    map.descriptor_size = STEP;
    return 0;
}

static void expect(unsigned index, uint32_t type, hpa_t base, uint64_t size)
{
    struct efi_descriptor d = efi_map_get(&map, index);

    assert_int_equal(d.type, type);
    assert_int_equal(d.base, base);
    assert_int_equal(d.size, size);
    assert_int_equal(map.bytes[index * STEP + 32], 0x5a); /* the attributes */
}

static void test_cuts_one_in_three(void **state)
{
    (void)state;
    add(EFI_CONVENTIONAL, 0, 16);
    add(EFI_CONVENTIONAL, 0x100000, 0x1000);
    add(EFI_RUNTIME_SERVICES_DATA, 0x2000000, 16);
    assert_true(efi_map_reserve(&map, 0x400000, 0x200000));
    assert_int_equal(efi_map_count(&map), 5);
    expect(0, EFI_CONVENTIONAL, 0, 0x10000);
    expect(1, EFI_CONVENTIONAL, 0x100000, 0x300000);
    expect(2, EFI_RESERVED, 0x400000, 0x200000);
    expect(3, EFI_CONVENTIONAL, 0x600000, 0xb00000);
    expect(4, EFI_RUNTIME_SERVICES_DATA, 0x2000000, 0x10000);
}

static void test_cuts_over_borders(void **state)
{
    (void)state;
    add(EFI_CONVENTIONAL, 0x100000, 16);
    add(EFI_LOADER_DATA, 0x110000, 16);
    add(EFI_LOADER_CODE, 0x120000, 16);
    assert_true(efi_map_reserve(&map, 0x108000, 0x20000));
    assert_int_equal(efi_map_count(&map), 5);
    expect(0, EFI_CONVENTIONAL, 0x100000, 0x8000);
    expect(1, EFI_RESERVED, 0x108000, 0x8000);
    expect(2, EFI_RESERVED, 0x110000, 0x10000);
    expect(3, EFI_RESERVED, 0x120000, 0x8000);
    expect(4, EFI_LOADER_CODE, 0x128000, 0x8000);
}

static void test_full(void **state)
{
    (void)state;
    while (map.size + STEP <= sizeof map.bytes)
        add(EFI_CONVENTIONAL, map.size * 0x1000ull, 16);
    uint32_t size = map.size;
    assert_false(efi_map_reserve(&map, 0x5000, 0x1000));
    assert_int_equal(map.size, size);
    map.size = 0;
    assert_false(efi_map_reserve(&map, 0x5000, 0x1000));
}

/* A list of page types says what must come out. */
static void test_random(void **state)
{
    (void)state;
    host_random_seed(14);
    for (unsigned round = 0; round < 2000; round++) {
        uint32_t type[PAGES], base = (uint32_t)host_random() % PAGES,
                              size = 1 + (uint32_t)host_random() % (PAGES - base);
        setup(state);
        for (uint32_t at = 0; at < PAGES;) {
            uint32_t kind = (uint32_t)host_random() % 12, run = 1 + (uint32_t)host_random() % 64;
            run = MIN(run, PAGES - at);
            if (kind < 10)
                add(kind + 1, at * EFI_PAGE, run);
            for (uint32_t i = at; i < at + run; i++)
                type[i] = kind < 10 ? kind + 1 : 99; /* a hole stays one */
            at += run;
        }
        assert_true(efi_map_reserve(&map, base * EFI_PAGE, size * EFI_PAGE) || !map.size);
        for (uint32_t i = base; i < base + size; i++)
            type[i] = type[i] == 99 ? 99 : EFI_RESERVED;
        for (unsigned d = 0; d < efi_map_count(&map); d++) {
            struct efi_descriptor got = efi_map_get(&map, d);
            assert_true(got.size > 0);
            for (hpa_t at = got.base; at < got.base + got.size; at += EFI_PAGE) {
                assert_int_equal(type[at / EFI_PAGE], got.type);
                type[at / EFI_PAGE] = 98; /* no page twice */
            }
        }
        for (uint32_t i = 0; i < PAGES; i++)
            assert_true(type[i] >= 98);
    }
}

static void test_types(void **state)
{
    (void)state;
    for (uint32_t type = 0; type < 20; type++) {
        bool ram = type >= EFI_LOADER_CODE && type <= EFI_CONVENTIONAL && type != EFI_RUNTIME_SERVICES_CODE &&
                   type != EFI_RUNTIME_SERVICES_DATA;
        assert_int_equal(efi_region_type(type) == REGION_RAM, ram);
        assert_int_equal(efi_is_free(type), ram && type != EFI_BOOT_SERVICES_CODE && type != EFI_BOOT_SERVICES_DATA);
    }
    assert_int_equal(efi_region_type(EFI_ACPI_NVS), REGION_NVS);
    assert_int_equal(efi_region_type(EFI_UNUSABLE), REGION_BAD);
    assert_int_equal(efi_region_type(0x80000000), REGION_RESERVED);
}

static void test_set(void **state)
{
    uint8_t body[8 + 3 * 40] = {40, 0, 0, 0, 7};

    (void)state;
    assert_true(efi_map_set(&map, body, sizeof body));
    assert_int_equal(efi_map_count(&map), 3);
    assert_int_equal(map.version, 7);
    assert_true(efi_map_set(&map, body, sizeof body - 1)); /* what is left of a descriptor does not count */
    assert_int_equal(efi_map_count(&map), 2);
    assert_false(efi_map_set(&map, body, 7));
    body[0] = 32;
    assert_false(efi_map_set(&map, body, sizeof body));
    body[0] = 44;
    assert_false(efi_map_set(&map, body, sizeof body));
    body[1] = 8;
    assert_false(efi_map_set(&map, body, sizeof body));
}

#define TEST(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_cuts_one_in_three),
        TEST(test_cuts_over_borders),
        TEST(test_full),
        TEST(test_random),
        TEST(test_types),
        TEST(test_set),
    };
    return cmocka_run_group_tests_name("efi_map", tests, NULL, NULL);
}
