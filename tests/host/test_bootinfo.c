/* sources: boot/bootinfo.c boot/efi_map.c */
#include "tests/host/host.h"

#include <stdlib.h>
#include <string.h>

#include "boot/bootinfo.h"

#define BLOCK_SIZE 65536u

static uint8_t block[BLOCK_SIZE];
static uint32_t used;
static struct bootinfo info;

static void put32(uint32_t at, uint32_t value)
{
    memcpy(block + at, &value, sizeof value);
}

static void put64(uint32_t at, uint64_t value)
{
    memcpy(block + at, &value, sizeof value);
}

/* Appends a tag with room for a body; returns where the body begins. */
static uint32_t add_tag(uint32_t type, uint32_t body_size)
{
    uint32_t at = used;

    put32(at, type);
    put32(at + 4, 8 + body_size);
    used = (uint32_t)ALIGN_UP(at + 8 + body_size, 8);
    put32(0, used);
    return at + 8;
}

static void add_string_tag(uint32_t type, uint32_t before, const char *text)
{
    uint32_t body = add_tag(type, before + (uint32_t)strlen(text) + 1);
    strcpy((char *)block + body + before, text);
}

static void add_module(uint32_t start, uint32_t end, const char *text)
{
    uint32_t tag = used;

    add_string_tag(3, 8, text);
    put32(tag + 8, start);
    put32(tag + 12, end);
}

static void put_region(uint32_t at, uint64_t base, uint64_t size, uint32_t type)
{
    put64(at, base);
    put64(at + 8, size);
    put32(at + 16, type);
}

static void add_map(void)
{
    uint32_t body = add_tag(6, 8 + 2 * 24);

    put32(body, 24);
    put_region(body + 8, 0, 0x9f000, REGION_RAM);
    put_region(body + 32, 0x100000, 0x3ff00000, REGION_RAM);
}

static void add_end(void)
{
    add_tag(0, 0);
}

/* From a buffer of exactly `size` bytes, so that the sanitizer sees a read beyond it. */
static int parse_size(uint64_t size)
{
    uint8_t *copy = malloc(size ? size : 1);

    memcpy(copy, block, size);
    int result = bootinfo_parse(copy, size, &info);
    free(copy);
    return result;
}

static int parse(void)
{
    return parse_size(used);
}

static void assert_fails(const char *text)
{
    int error = parse();

    assert_true(error < 0);
    assert_string_equal(bootinfo_error(error), text);
}

static int setup(void **state)
{
    (void)state;
    memset(block, 0, sizeof block);
    used = 8;
    return 0;
}

static void test_all_tags(void **state)
{
    (void)state;
    add_string_tag(1, 0, "log=dbg memory=64");
    add_string_tag(2, 0, "a loader"); /* a type that is not used */
    add_module(0x1000000, 0x1000123, "kernel args");
    add_module(0x2000000, 0x2000000, "");
    add_map();
    add_end();
    assert_int_equal(parse(), 0);
    assert_string_equal(info.command_line, "log=dbg memory=64");
    assert_int_equal(info.modules, 2);
    assert_int_equal(info.module[0].start, 0x1000000);
    assert_int_equal(info.module[0].size, 0x123);
    assert_string_equal(info.module[0].string, "kernel args");
    assert_int_equal(info.module[1].size, 0);
    assert_string_equal(info.module[1].string, "");
    assert_int_equal(info.regions, 2);
    assert_int_equal(info.region[1].base, 0x100000);
    assert_int_equal(info.region[1].size, 0x3ff00000);
    assert_int_equal(info.region[1].type, REGION_RAM);
    assert_int_equal(info.rsdp_size, 0);
}

static void test_no_command_line(void **state)
{
    (void)state;
    add_map();
    add_end();
    assert_int_equal(parse(), 0);
    assert_string_equal(info.command_line, "");
    assert_int_equal(info.modules, 0);
}

static void test_newer_rsdp_wins(void **state)
{
    (void)state;
    for (unsigned order = 0; order < 2; order++) {
        setup(state);
        memset(block + add_tag(order ? 15 : 14, order ? 36 : 20), order ? 2 : 1, order ? 36 : 20);
        memset(block + add_tag(order ? 14 : 15, order ? 20 : 36), order ? 1 : 2, order ? 20 : 36);
        add_map();
        add_end();
        assert_int_equal(parse(), 0);
        assert_int_equal(info.rsdp_size, 36);
        assert_int_equal(info.rsdp[35], 2);
    }
}

static void test_long_rsdp_is_cut(void **state)
{
    (void)state;
    add_tag(15, 400);
    add_map();
    add_end();
    assert_int_equal(parse(), 0);
    assert_int_equal(info.rsdp_size, 36);
}

static void test_larger_map_entries(void **state)
{
    uint32_t body = add_tag(6, 8 + 2 * 32);

    (void)state;
    put32(body, 32);
    put_region(body + 8, 0, 0x1000, 1);
    put_region(body + 40, 0x5000, 0x1000, 3);
    add_end();
    assert_int_equal(parse(), 0);
    assert_int_equal(info.regions, 2);
    assert_int_equal(info.region[1].base, 0x5000);
}

static void test_regions_at_the_edge(void **state)
{
    uint32_t body = add_tag(6, 8 + 2 * 24);

    (void)state;
    put32(body, 24);
    put_region(body + 8, 0x7000, 0, 1); /* empty: left out */
    put_region(body + 32, UINT64_MAX - 0xfff, 0x1000, 2);
    add_end();
    assert_int_equal(parse(), 0);
    assert_int_equal(info.regions, 1);
    put_region(body + 32, UINT64_MAX - 0xfff, 0x1001, 2);
    assert_fails("a memory region reaches beyond the address space");
}

static void test_every_truncation_fails(void **state)
{
    (void)state;
    add_string_tag(1, 0, "options");
    add_module(0x1000, 0x2000, "module");
    add_map();
    add_end();
    for (uint32_t size = 0; size < used; size++)
        assert_true(parse_size(size) < 0);
    for (uint32_t size = 0; size < used; size++) {
        put32(0, size); /* the block itself says less */
        assert_true(parse() < 0);
    }
}

static void test_header_lies(void **state)
{
    (void)state;
    add_map();
    add_end();
    put32(0, used + 1);
    assert_fails("the boot information block is shorter than it says");
    put32(0, UINT32_MAX);
    assert_fails("the boot information block is shorter than it says");
}

static void test_tag_sizes(void **state)
{
    static const uint32_t sizes[] = {0, 7, 0x10000, UINT32_MAX, UINT32_MAX - 6};

    (void)state;
    add_tag(9, 8);
    add_map();
    add_end();
    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
        put32(12, sizes[i]);
        assert_fails("a tag of the boot information does not fit in the block");
    }
}

static void test_short_tags(void **state)
{
    (void)state;
    add_tag(3, 7);
    add_end();
    assert_fails("a tag of the boot information is too short for its type");
    setup(state);
    add_tag(6, 7);
    add_end();
    assert_fails("a tag of the boot information is too short for its type");
    setup(state);
    add_tag(1, 0);
    add_end();
    assert_fails("a string of the boot information is not terminated");
}

static void test_open_strings(void **state)
{
    uint32_t body = add_tag(1, 16);

    (void)state;
    memset(block + body, 'x', 16);
    add_end();
    assert_fails("a string of the boot information is not terminated");
    setup(state);
    add_module(0, 1, "open");
    block[8 + 8 + 8 + 4] = 'x';
    add_end();
    assert_fails("a string of the boot information is not terminated");
}

static void test_strings_fill_up(void **state)
{
    static char text[BOOTINFO_STRINGS + 1];

    (void)state;
    memset(text, 'x', BOOTINFO_STRINGS - 1);
    add_string_tag(1, 0, text);
    add_map();
    add_end();
    assert_int_equal(parse(), 0);
    assert_int_equal(strlen(info.command_line), BOOTINFO_STRINGS - 1);
    setup(state);
    text[BOOTINFO_STRINGS - 1] = 'x';
    add_string_tag(1, 0, text);
    add_end();
    assert_fails("the boot command lines are too long");
}

static void test_too_many_modules(void **state)
{
    (void)state;
    for (unsigned i = 0; i < BOOTINFO_MAX_MODULES; i++)
        add_module(i, i + 1, "m");
    uint32_t full = used;
    add_map();
    add_end();
    assert_int_equal(parse(), 0);
    assert_int_equal(info.modules, BOOTINFO_MAX_MODULES);
    used = full;
    add_module(0, 1, "m");
    add_end();
    assert_fails("too many boot modules");
}

static void test_module_backwards(void **state)
{
    (void)state;
    add_module(0x2000, 0x1fff, "m");
    add_end();
    assert_fails("a boot module ends before it starts");
}

static void test_map_entry_sizes(void **state)
{
    uint32_t body = add_tag(6, 8 + 24);

    (void)state;
    put_region(body + 8, 0, 0x1000, 1);
    add_end();
    put32(body, 0); /* must not loop for ever */
    assert_fails("the memory map's entries have an impossible size");
    put32(body, 23);
    assert_fails("the memory map's entries have an impossible size");
    put32(body, UINT32_MAX);
    assert_fails("the boot loader gave no memory map");
}

static void test_too_many_regions(void **state)
{
    uint32_t body = add_tag(6, 8 + (BOOTINFO_MAX_REGIONS + 1) * 24);

    (void)state;
    put32(body, 24);
    for (uint32_t i = 0; i < BOOTINFO_MAX_REGIONS; i++)
        put_region(body + 8 + i * 24, i * 0x2000, 0x1000, 1);
    add_end();
    assert_int_equal(parse(), 0);
    assert_int_equal(info.regions, BOOTINFO_MAX_REGIONS);
    put_region(body + 8 + BOOTINFO_MAX_REGIONS * 24, 0xf0000000, 0x1000, 1);
    assert_fails("the memory map has too many entries");
}

static void put_descriptor(uint32_t at, uint32_t type, uint64_t base, uint64_t pages)
{
    put32(at, type);
    put64(at + 8, base);
    put64(at + 24, pages);
}

static void test_screen(void **state)
{
    uint32_t body = add_tag(8, 30);

    (void)state;
    add_map();
    add_end();
    put64(body, 0x4000000000);
    put32(body + 8, 4096);
    put32(body + 12, 1024);
    put32(body + 16, 768);
    block[body + 20] = 32;
    block[body + 21] = 1;
    memcpy(block + body + 24, "\x10\x08\x08\x07\x01\x06", 6);
    assert_int_equal(parse(), 0);
    assert_int_equal(info.screen.type, SCREEN_RGB);
    assert_true(info.screen.base == 0x4000000000 && info.screen.pitch == 4096 && info.screen.bits == 32);
    assert_true(info.screen.width == 1024 && info.screen.height == 768);
    assert_true(info.screen.red.position == 16 && info.screen.green.size == 7 && info.screen.blue.position == 1);
    block[body + 21] = 2;
    assert_int_equal(parse(), 0);
    assert_int_equal(info.screen.type, SCREEN_TEXT);
    block[body + 21] = 3; /* unknown */
    assert_int_equal(parse(), 0);
    assert_int_equal(info.screen.type, SCREEN_NONE);
}

static void test_short_screen(void **state)
{
    (void)state;
    add_tag(8, 21);
    add_map();
    add_end();
    assert_fails("a tag of the boot information is too short for its type");
}

/* UEFI's map is the one that counts. */
static void test_efi(void **state)
{
    uint32_t table = add_tag(12, 8), body;

    (void)state;
    put64(table, 0x123456789a);
    add_map();
    body = add_tag(17, 8 + 5 * 48);
    put32(body, 48);
    put32(body + 4, 1);
    put_descriptor(body + 8, EFI_CONVENTIONAL, 0, 0x80);
    put_descriptor(body + 8 + 48, EFI_BOOT_SERVICES_DATA, 0x80000, 0x20); /* L1's RAM, too */
    put_descriptor(body + 8 + 96, EFI_RUNTIME_SERVICES_CODE, 0xa0000, 0x10);
    put_descriptor(body + 8 + 144, EFI_ACPI_RECLAIM, 0xb0000, 0x10);
    put_descriptor(body + 8 + 192, 0x80000000, 0x100000, 0x10);
    add_end();
    assert_int_equal(parse(), 0);
    assert_true(info.efi_system_table == 0x123456789a);
    assert_int_equal(efi_map_count(&info.efi_map), 5);
    assert_int_equal(info.regions, 4);
    assert_true(info.region[0].size == 0xa0000 && info.region[0].type == REGION_RAM);
    assert_true(info.region[1].type == REGION_RESERVED && info.region[2].type == REGION_ACPI);
    assert_true(info.region[3].base == 0x100000 && info.region[3].type == REGION_RESERVED);
    put32(body, 39);
    assert_fails("UEFI's memory map contradicts itself or has too many entries");
}

static void test_no_end_tag(void **state)
{
    (void)state;
    add_map();
    assert_fails("the boot information has no end tag");
}

static void test_error_texts(void **state)
{
    (void)state;
    assert_string_equal(bootinfo_error(0), "no error");
    assert_string_equal(bootinfo_error(1), "unknown error");
    assert_string_equal(bootinfo_error(-1000), "unknown error");
}

static void test_random_damage(void **state)
{
    (void)state;
    host_random_seed(3);
    for (unsigned round = 0; round < 20000; round++) {
        setup(state);
        add_string_tag(1, 0, "options");
        add_module(0x1000, 0x2000, "module");
        add_map();
        add_end();
        for (unsigned i = 0; i < 3; i++)
            put32((uint32_t)(host_random() % (used / 4)) * 4, (uint32_t)(host_random() >> (host_random() % 64)));
        int error = parse();
        assert_true(error == 0 || strcmp(bootinfo_error(error), "unknown error") != 0);
    }
}

#define TEST(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_all_tags),
        TEST(test_no_command_line),
        TEST(test_newer_rsdp_wins),
        TEST(test_long_rsdp_is_cut),
        TEST(test_larger_map_entries),
        TEST(test_regions_at_the_edge),
        TEST(test_every_truncation_fails),
        TEST(test_header_lies),
        TEST(test_tag_sizes),
        TEST(test_short_tags),
        TEST(test_open_strings),
        TEST(test_strings_fill_up),
        TEST(test_too_many_modules),
        TEST(test_module_backwards),
        TEST(test_map_entry_sizes),
        TEST(test_too_many_regions),
        TEST(test_screen),
        TEST(test_short_screen),
        TEST(test_efi),
        TEST(test_no_end_tag),
        TEST(test_error_texts),
        TEST(test_random_damage),
    };
    return cmocka_run_group_tests_name("bootinfo", tests, NULL, NULL);
}
