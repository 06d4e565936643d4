/* sources: l1/l1_plan.c l1/l1_image.c l1/l1_stash.c l1/l1_linux.c l1/l1_elf.c l1/l1_multiboot.c
   l1/l1_disk.c l1/l1_multiboot_info.c l1/l1_load.c mm/memmap.c */
#include "l1/l1_plan.h"
#include "tests/host/l1_world.h"

static void test_linux_plain(void **state)
{
    hpa_t params;

    (void)state;
    make_linux();
    plan_and_load(L1_LINUX);
    params = plan.start.esi;
    assert_int_equal(plan.start.rip, 0x1000000);
    assert_memory_equal(memory + 0x1000000, image + LINUX_SETUP, LINUX_CODE);
    assert_true(params < 0xa0000 && IS_ALIGNED(params, PAGE_SIZE));
    assert_int_equal(word_at(params + 0x202), 0x53726448);
    assert_int_equal(memory[params + 0x210], 0xff);
    assert_int_equal(word_at(params + 0x214), 0x1000000);
    assert_int_equal(word_at(params + 0x218), 0);
    assert_int_equal(word_at(params + 0x21c), 0);
    assert_string_equal((char *)memory + word_at(params + 0x228), "l1 first=1 second");
    assert_int_equal(quad_at(params + 0x70), 0);
    assert_int_equal(memory[params], 0);
}

static void test_linux_e820(void **state)
{
    hpa_t params;
    unsigned count;

    (void)state;
    make_linux();
    plan_and_load(L1_LINUX);
    params = plan.start.esi;
    count = memory[params + 0x1e8];
    assert_int_equal(count, map.count);
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(quad_at(params + 0x2d0 + i * 20), map.region[i].base);
        assert_int_equal(quad_at(params + 0x2d0 + i * 20 + 8), map.region[i].size);
        assert_int_equal(word_at(params + 0x2d0 + i * 20 + 16), map.region[i].type);
    }
}

static void test_linux_initrd_stays(void **state)
{
    (void)state;
    make_linux();
    module[1] = (struct boot_module){40 * MIB, 12345, "initrd"};
    in.modules = 2;
    plan_and_load(L1_LINUX);
    assert_int_equal(word_at(plan.start.esi + 0x218), 40 * MIB);
    assert_int_equal(word_at(plan.start.esi + 0x21c), 12345);
}

static void test_linux_initrd_moves_where_the_kernel_reaches(void **state)
{
    uint32_t base;

    (void)state;
    make_linux();
    put32(0x22c, 32 * MIB - 1);
    module[1] = (struct boot_module){40 * MIB, 123456, "initrd"};
    in.modules = 2;
    host_random_fill(memory + 40 * MIB, 123456);
    plan_and_load(L1_LINUX);
    base = word_at(plan.start.esi + 0x218);
    assert_true(base + 123456 <= 32 * MIB && IS_ALIGNED(base, PAGE_SIZE));
    assert_memory_equal(memory + base, memory + 40 * MIB, 123456);
}

static void test_linux_several_initrds_become_one(void **state)
{
    uint32_t base;

    (void)state;
    make_linux();
    module[1] = (struct boot_module){40 * MIB, 4097, "a"};
    module[2] = (struct boot_module){44 * MIB, 5000, "b"};
    in.modules = 3;
    host_random_fill(memory + 40 * MIB, 8 * MIB);
    plan_and_load(L1_LINUX);
    base = word_at(plan.start.esi + 0x218);
    assert_int_equal(word_at(plan.start.esi + 0x21c), 4100 + 5000);
    assert_memory_equal(memory + base, memory + 40 * MIB, 4097);
    assert_memory_equal(memory + base + 4097, "\0\0\0", 3);
    assert_memory_equal(memory + base + 4100, memory + 44 * MIB, 5000);
}

static void test_linux_avoids_the_stash(void **state)
{
    (void)state;
    make_linux();
    module[1] = (struct boot_module){18 * MIB, 1 * MIB, "initrd"};
    in.modules = 2;
    plan_and_load(L1_LINUX);
    assert_int_equal(plan.start.rip, 20 * MIB);
    assert_int_equal(word_at(plan.start.esi + 0x214), 20 * MIB);
}

static void test_linux_rsdp(void **state)
{
    static const uint8_t rsdp[36] = "RSD PTR ";
    hpa_t where, params;
    bool found = false;

    (void)state;
    make_linux();
    in.rsdp = rsdp;
    in.rsdp_size = sizeof rsdp;
    plan_and_load(L1_LINUX);
    params = plan.start.esi;
    where = quad_at(params + 0x70);
    assert_memory_equal(memory + where, rsdp, sizeof rsdp);
    /* L1 must not take the page for free memory. */
    for (unsigned i = 0; i < memory[params + 0x1e8]; i++)
        found |= quad_at(params + 0x2d0 + i * 20) == where && quad_at(params + 0x2d0 + i * 20 + 8) == PAGE_SIZE &&
                 word_at(params + 0x2d0 + i * 20 + 16) == REGION_ACPI;
    assert_true(found);
    put16(0x206, 0x20d);
    plan_and_load(L1_LINUX);
    assert_int_equal(quad_at(plan.start.esi + 0x70), 0);
}

static void test_linux_firmware_rsdp(void **state)
{
    static const uint8_t rsdp[36] = "RSD PTR ";

    (void)state;
    make_linux();
    in.rsdp = rsdp;
    in.rsdp_size = sizeof rsdp;
    in.rsdp_place = 0x3f00123;
    plan_and_load(L1_LINUX);
    assert_int_equal(quad_at(plan.start.esi + 0x70), 0x3f00123);
    assert_int_equal(memory[plan.start.esi + 0x1e8], map.count); /* no page of our own for it */
}

/* 128 regions in the zero page, the others behind setup_data. */
static void test_linux_many_regions(void **state)
{
    hpa_t params, data;

    (void)state;
    make_linux();
    for (unsigned i = 0; map.count < 200; i++)
        assert_int_equal(memmap_set(&map, 4 * GIB + i * 2 * PAGE_SIZE, PAGE_SIZE, REGION_RESERVED), 0);
    plan_and_load(L1_LINUX);
    params = plan.start.esi;
    assert_int_equal(memory[params + 0x1e8], 128);
    assert_int_equal(quad_at(params + 0x2d0 + 127 * 20), map.region[127].base);
    data = quad_at(params + 0x250);
    assert_true(data != 0);
    assert_int_equal(quad_at(data), 0);
    assert_int_equal(word_at(data + 8), 1);
    assert_int_equal(word_at(data + 12), 72 * 20);
    for (unsigned i = 0; i < 72; i++) {
        assert_int_equal(quad_at(data + 16 + i * 20), map.region[128 + i].base);
        assert_int_equal(quad_at(data + 24 + i * 20), map.region[128 + i].size);
        assert_int_equal(word_at(data + 32 + i * 20), map.region[128 + i].type);
    }
}

static void test_linux_efi(void **state)
{
    static struct efi_map efi = {.size = 96, .descriptor_size = 48, .version = 1};
    static const struct boot_framebuffer screen = {SCREEN_RGB, 0x40c0000000, 3200,   800,   600,
                                                   32,         {16, 8},      {8, 8}, {0, 8}};
    hpa_t params, where;

    (void)state;
    host_random_fill(efi.bytes, efi.size);
    make_linux();
    in.screen = &screen;
    in.efi_map = &efi;
    in.efi_system_table = 0x13f0a1018;
    plan_and_load(L1_LINUX);
    params = plan.start.esi;
    assert_memory_equal(memory + params + 0x1c0, "EL64", 4);
    assert_int_equal(word_at(params + 0x1c4), 0x3f0a1018);
    assert_int_equal(word_at(params + 0x1c8), 48);
    assert_int_equal(word_at(params + 0x1cc), 1);
    where = word_at(params + 0x1d0);
    assert_memory_equal(memory + where, efi.bytes, 96);
    assert_int_equal(word_at(params + 0x1d4), 96);
    assert_int_equal(word_at(params + 0x1d8), 1);
    assert_int_equal(word_at(params + 0x1dc), 0);
    assert_int_equal(memory[params + 0x0f], 0x70);
    assert_int_equal(word_at(params + 0x12), 600 << 16 | 800);
    assert_int_equal(word_at(params + 0x16) & 0xffff, 32);
    assert_int_equal(word_at(params + 0x18), 0xc0000000);
    assert_int_equal(word_at(params + 0x1c), 3200 * 600);
    assert_int_equal(word_at(params + 0x24) & 0xffff, 3200);
    assert_memory_equal(memory + params + 0x26, "\x08\x10\x08\x08\x08\x00", 6);
    assert_int_equal(word_at(params + 0x36), 2);
    assert_int_equal(word_at(params + 0x3a), 0x40);
}

static void test_linux_screens_of_a_bios(void **state)
{
    static const struct boot_framebuffer text = {.type = SCREEN_TEXT, .base = 0xb8000, .width = 80, .height = 25};
    static const struct boot_framebuffer vesa = {SCREEN_RGB, 0xe0000000, 4096, 1024, 768, 32, {16, 8}, {8, 8}, {0, 8}};

    (void)state;
    make_linux();
    in.screen = &text;
    plan_and_load(L1_LINUX);
    assert_int_equal(memory[plan.start.esi + 0x0f], 1);
    assert_int_equal(memory[plan.start.esi + 6], 3);
    assert_int_equal(memory[plan.start.esi + 7], 80);
    assert_int_equal(memory[plan.start.esi + 0x0e], 25);
    assert_int_equal(word_at(plan.start.esi + 0x1c0), 0); /* no UEFI */
    in.screen = &vesa;
    plan_and_load(L1_LINUX);
    assert_int_equal(memory[plan.start.esi + 0x0f], 0x23);
    assert_int_equal(word_at(plan.start.esi + 0x1c), 4096 * 768 / 65536);
    assert_int_equal(word_at(plan.start.esi + 0x36), 0);
}

static void test_linux_fixed_address(void **state)
{
    (void)state;
    make_linux();
    image[0x234] = 0;
    put64(0x258, 0x100000);
    plan_and_load(L1_LINUX);
    assert_int_equal(plan.start.rip, 0x100000);
    module[1] = (struct boot_module){2 * MIB, PAGE_SIZE, "initrd"};
    in.modules = 2;
    expect_error("does not fit into RAM");
}

static void test_linux_errors(void **state)
{
    static char line[3000];

    (void)state;
    make_linux();
    put16(0x206, 0x209);
    expect_error("too old boot protocol");
    make_linux();
    image[0x211] = 0;
    expect_error("zImage");
    image[0x211] = 1;
    put32(0x1f4, 0);
    expect_error("no protected-mode code");
    put32(0x1f4, LINUX_CODE / 16 + 1);
    expect_error("truncated bzImage");
    put32(0x1f4, UINT32_MAX);
    expect_error("truncated bzImage");
    make_linux();
    for (uint64_t size = 0x1f1; size < LINUX_SETUP + LINUX_CODE; size += 577) {
        module[0].size = size;
        assert_non_null(l1_plan(&in, &plan));
    }
    module[0].size = LINUX_SETUP;
    expect_error("truncated bzImage");
    make_linux();
    put32(0x260, 60 * MIB);
    expect_error("too little memory");
    put32(0x260, UINT32_MAX);
    expect_error("too little memory");
    make_linux();
    memset(line, 'x', sizeof line - 1);
    module[0].string = line;
    expect_error("command line is longer");
    module[0].string = "";
    module[1] = (struct boot_module){40 * MIB, 30 * MIB, "initrd"};
    in.modules = 2;
    put32(0x22c, 32 * MIB - 1);
    expect_error("too little memory for the initrd");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_linux_plain),
        TEST(test_linux_e820),
        TEST(test_linux_initrd_stays),
        TEST(test_linux_initrd_moves_where_the_kernel_reaches),
        TEST(test_linux_several_initrds_become_one),
        TEST(test_linux_avoids_the_stash),
        TEST(test_linux_rsdp),
        TEST(test_linux_firmware_rsdp),
        TEST(test_linux_many_regions),
        TEST(test_linux_efi),
        TEST(test_linux_screens_of_a_bios),
        TEST(test_linux_fixed_address),
        TEST(test_linux_errors),
    };

    return cmocka_run_group_tests_name("l1_linux", tests, NULL, NULL);
}
