/* sources: l1/l1_plan.c l1/l1_image.c l1/l1_stash.c l1/l1_linux.c l1/l1_elf.c l1/l1_multiboot.c
   l1/l1_disk.c l1/l1_multiboot_info.c l1/l1_load.c mm/memmap.c */
#include "l1/l1_plan.h"
#include "tests/host/l1_world.h"

#include <stdlib.h>

static void test_detect(void **state)
{
    (void)state;
    module[0].size = PAGE_SIZE;
    expect_error("no kernel");
    assert_int_equal(l1_detect(image, 0), L1_UNKNOWN);
    put_multiboot1(8188, 0);
    assert_int_equal(l1_detect(image, 8200), L1_MULTIBOOT1);
    assert_int_equal(l1_detect(image, 8199), L1_UNKNOWN);
    put32(8188, 0);
    put_multiboot1(8192, 0);
    assert_int_equal(l1_detect(image, IMAGE_MAX), L1_UNKNOWN);
    put_multiboot1(4096 + 2, 0);
    assert_int_equal(l1_detect(image, IMAGE_MAX), L1_UNKNOWN);
    put_multiboot2(32760, 16);
    assert_int_equal(l1_detect(image, IMAGE_MAX), L1_MULTIBOOT2);
    put_multiboot1(4096, 0);
    assert_int_equal(l1_detect(image, IMAGE_MAX), L1_MULTIBOOT1);
    put32(4096, 0);
    put32(32760 + 12, 0);
    assert_int_equal(l1_detect(image, IMAGE_MAX), L1_UNKNOWN);
}

/* The code that asks the BIOS is all that is put into memory, where a start-up IPI could lead. */
static void test_disk(void **state)
{
    (void)state;
    in.modules = 0;
    expect_error("no module, and no BIOS");
    in.has_bios = true;
    in.boot_disk = 2;
    in.end_port = 0xf4;
    assert_null(l1_plan(&in, &plan));
    assert_int_equal(plan.kind, L1_DISK);
    assert_int_equal(plan.copies, 1);
    assert_int_equal(plan.copy[0].to, plan.start.real_page);
    assert_true(IS_ALIGNED(plan.start.real_page, PAGE_SIZE) && plan.start.real_page < MIB);
    assert_int_equal(plan.start.ebx, 2);
    assert_int_equal(plan.start.ecx, 0xf4);
    assert_int_equal(memmap_set(&map, 0, 64 * KIB, REGION_RESERVED), 0);
    expect_error("does not fit");
}

/* As on a machine whose firmware uses all of it: what L1 is told goes elsewhere. */
static void test_no_low_memory(void **state)
{
    (void)state;
    assert_int_equal(memmap_set(&map, PAGE_SIZE, MIB - PAGE_SIZE, REGION_RESERVED), 0);
    make_linux();
    plan_and_load(L1_LINUX);
    assert_true(plan.start.esi > MIB);
    assert_int_equal(memmap_set(&map, MIB, CARVEOUT - MIB, REGION_RESERVED), 0);
    assert_int_equal(memmap_set(&map, 16 * MIB, 4 * MIB, REGION_RAM), 0); /* the kernel's own */
    expect_error("too little memory below 4 GiB for the boot information");
}

/* RAM with the firmware's tables in it is RAM for L1, but nothing is put there by choice. */
static void test_firmware_memory_is_left_alone(void **state)
{
    static struct memmap all;

    (void)state;
    all = map;
    assert_int_equal(memmap_set(&map, 16 * MIB, 8 * MIB, REGION_RESERVED), 0);
    assert_int_equal(memmap_set(&map, 0x80000, 0x1f000, REGION_RESERVED), 0);
    in.map = &all;
    in.free = &map;
    make_linux();
    plan_and_load(L1_LINUX); /* check_plan(): every copy is in `map` */
    assert_int_equal(plan.start.rip, 24 * MIB);
    assert_int_equal(word_at(plan.start.esi + 0x2d0 + 20 * 2), 0xf0000);
    assert_true(memory[plan.start.esi + 0x1e8] == all.count);
}

/* Damaged images must give an error or a sound plan, never a wild access. */
static void test_damaged_images(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 3000; round++) {
        memset(image, 0, 0x8000);
        if (round % 3 == 0)
            make_linux();
        else if (round % 3 == 1)
            make_elf32();
        else
            make_multiboot2();
        for (unsigned i = 0; i < 1 + round % 5; i++) {
            unsigned at =
                (unsigned)(host_random() % (round % 3 ? 0x80 : 0x300)) + (host_random() % 4 ? 0 : ELF_CODE_OFFSET);
            image[at] = (uint8_t)host_random();
        }
        if (host_random() % 4 == 0)
            module[0].size = host_random() % module[0].size;
        /* The plan may only name bytes of a buffer of exactly the file's size. */
        uint8_t *exact = malloc(module[0].size + 1);
        memcpy(exact, image, module[0].size);
        in.image = exact;
        if (!l1_plan(&in, &plan)) {
            check_plan();
            l1_load(&plan);
        }
        free(exact);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_detect),         TEST(test_disk), TEST(test_no_low_memory), TEST(test_firmware_memory_is_left_alone),
        TEST(test_damaged_images),
    };

    return cmocka_run_group_tests_name("l1_image", tests, NULL, NULL);
}
