/* sources: l1/l1_plan.c l1/l1_image.c l1/l1_stash.c l1/l1_linux.c l1/l1_elf.c l1/l1_multiboot.c l1/l1_multiboot_info.c l1/l1_load.c mm/memmap.c */
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
        TEST(test_linux_fixed_address),
        TEST(test_linux_errors),
    };

    return cmocka_run_group_tests_name("l1_linux", tests, NULL, NULL);
}
