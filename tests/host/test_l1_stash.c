/* sources: l1/l1_plan.c l1/l1_image.c l1/l1_stash.c l1/l1_linux.c l1/l1_elf.c l1/l1_multiboot.c
   l1/l1_disk.c l1/l1_multiboot_info.c l1/l1_load.c mm/memmap.c */
#include "l1/l1_stash.h"
#include "tests/host/l1_world.h"

static void check_stash(unsigned count, const struct memmap_region *keep, unsigned keep_count)
{
    static uint8_t before[BOOTINFO_MAX_MODULES][256 * KIB], kept[64 * KIB];
    struct l1_move move[BOOTINFO_MAX_MODULES];
    const char *error;

    for (unsigned i = 0; i < count; i++) {
        host_random_fill(memory + module[i].start, module[i].size);
        memcpy(before[i], memory + module[i].start, module[i].size);
    }
    if (keep_count)
        memcpy(kept, memory + keep->base, keep->size);
    error = l1_stash_plan(&map, L1_STASH_LIMIT, module, count, keep, keep_count, move);
    assert_null(error);
    l1_stash(move, count, module);
    for (unsigned i = 0; i < count; i++) {
        assert_memory_equal(memory + module[i].start, before[i], module[i].size);
        assert_true(IS_ALIGNED(module[i].start, PAGE_SIZE));
        assert_true(memmap_is(&map, module[i].start, module[i].size, REGION_RAM));
    }
    if (keep_count)
        assert_memory_equal(memory + keep->base, kept, keep->size);
}

static void test_stash_goes_to_the_top(void **state)
{
    (void)state;
    module[0] = (struct boot_module){3 * MIB, 100000, ""};
    module[1] = (struct boot_module){4 * MIB, 200000, ""};
    module[2] = (struct boot_module){2 * MIB, 4096, ""};
    check_stash(3, NULL, 0);
    assert_int_equal(module[1].start, CARVEOUT - 200704);
    assert_int_equal(module[0].start, CARVEOUT - 200704 - 102400);
    assert_int_equal(module[2].start, CARVEOUT - 200704 - 102400 - 4096);
}

/* Modules in the carve-out, at the top of RAM, over each other's destinations: nothing may be lost. */
static void test_stash_random(void **state)
{
    const struct memmap_region keep = {CARVEOUT - 200 * KIB, 50 * KIB, REGION_RAM};

    (void)state;
    for (unsigned round = 0; round < 300; round++) {
        unsigned count = 1 + (unsigned)(host_random() % 12);
        hpa_t at = CARVEOUT - 2 * MIB + host_random() % (2 * MIB);
        for (unsigned i = 0; i < count; i++) {
            uint64_t size = 1 + host_random() % (256 * KIB - 1);
            if (at < keep.base + keep.size && keep.base < at + size)
                at = keep.base + keep.size;
            at = round % 2 ? ALIGN_UP(at, PAGE_SIZE) : at;
            module[i] = (struct boot_module){at, size, ""};
            at += size + (host_random() % 3 ? 0 : host_random() % MIB);
        }
        check_stash(count, &keep, round % 3 == 0);
    }
}

static void test_stash_without_room(void **state)
{
    struct l1_move move[2];

    (void)state;
    module[0] = (struct boot_module){3 * MIB, 30 * MIB, ""};
    module[1] = (struct boot_module){40 * MIB, 30 * MIB, ""};
    assert_non_null(l1_stash_plan(&map, L1_STASH_LIMIT, module, 2, NULL, 0, move));
    module[1].size = 10 * MIB;
    assert_null(l1_stash_plan(&map, L1_STASH_LIMIT, module, 2, NULL, 0, move));
    assert_non_null(l1_stash_plan(&map, 16 * MIB, module, 2, NULL, 0, move));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_stash_goes_to_the_top),
        TEST(test_stash_random),
        TEST(test_stash_without_room),
    };

    return cmocka_run_group_tests_name("l1_stash", tests, NULL, NULL);
}
