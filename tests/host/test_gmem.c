/* sources: mm/gmem.c mm/ept_watch.c mm/ept.c mm/memmap.c mm/mtrr.c mm/page.c */
#include "tests/host/host.h"

#include <string.h>

#include "boot/bootinfo.h"
#include "mm/gmem.h"
#include "mm/page.h"

#define MEMORY (2 * MIB)
#define POOL_BASE MIB /* the upper half stands for Nestor's memory */

static uint8_t *memory;
static struct ept ept;
static struct memmap map;
static struct ept_watch watch;
static struct gmem gmem;
static struct watcher watcher;
static bool stale;
static uint8_t byte_when_stale;

static void became_stale(struct watcher *w)
{
    stale = true;
    byte_when_stale = memory[w->page];
}

/* RAM: 0-0x10000 and 0x11000-1 MiB; 0x10000 is a hole. */
static int setup(void **state)
{
    (void)state;
    memory = host_memory(MEMORY);
    host_random_fill(memory, POOL_BASE);
    page_init(memory + POOL_BASE, memory + MEMORY);
    memset(&map, 0, sizeof map);
    assert_int_equal(memmap_set(&map, 0, MIB, REGION_RAM), 0);
    assert_int_equal(memmap_set(&map, 0x10000, 0x1000, REGION_RESERVED), 0);
    assert_int_equal(memmap_set(&map, POOL_BASE, MEMORY - POOL_BASE, REGION_RESERVED), 0);
    memset(&ept, 0, sizeof ept);
    ept.features = (struct ept_features){true, true, 40};
    ept.map = &map;
    assert_int_equal(ept_build(&ept), 0);
    watch = (struct ept_watch){.ept01 = &ept};
    gmem_init(&gmem, &map, &watch);
    assert_int_equal(gmem.main_base, 0x11000);
    assert_int_equal(gmem.main_size, MIB - 0x11000);
    watcher = (struct watcher){.stale = became_stale};
    stale = false;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    host_memory_free();
    return 0;
}

static void test_read(void **state)
{
    uint8_t buffer[3 * 4096];

    (void)state;
    assert_true(gmem_read(&gmem, 0x1234, buffer, sizeof buffer));
    assert_memory_equal(buffer, memory + 0x1234, sizeof buffer);
    assert_false(gmem_read(&gmem, 0xf800, buffer, 0x2000));
    assert_memory_equal(buffer, memory + 0xf800, 0x800);
    for (unsigned i = 0x800; i < 0x1800; i++)
        assert_int_equal(buffer[i], 0xff);
    assert_memory_equal(buffer + 0x1800, memory + 0x11000, 0x800);
    assert_false(gmem_read(&gmem, POOL_BASE - 4, buffer, 8));
    assert_memory_equal(buffer, memory + POOL_BASE - 4, 4);
    assert_memory_equal(buffer + 4, "\xff\xff\xff\xff", 4);
    assert_false(gmem_read(&gmem, ~0ull - 3, buffer, 8));
    assert_false(gmem_read(&gmem, BIT(52), buffer, 8));
    assert_true(gmem_read(&gmem, POOL_BASE, buffer, 0));
}

static void test_write(void **state)
{
    static uint8_t before[MEMORY];
    uint8_t buffer[0x2000];

    (void)state;
    host_random_fill(buffer, sizeof buffer);
    memcpy(before, memory, MEMORY);
    assert_false(gmem_write(&gmem, 0xf800, buffer, 0x2000));
    memcpy(before + 0xf800, buffer, 0x800);
    memcpy(before + 0x11000, buffer + 0x1800, 0x800);
    assert_memory_equal(memory, before, MEMORY);
    assert_false(gmem_write(&gmem, POOL_BASE, buffer, 0x2000));
    assert_false(gmem_write(&gmem, ~0ull - 3, buffer, 4));
    assert_memory_equal(memory, before, MEMORY);
    assert_true(gmem_write(&gmem, 0x2ffc, buffer, 8));
    assert_memory_equal(memory + 0x2ffc, buffer, 8);
}

static void test_page(void **state)
{
    (void)state;
    assert_ptr_equal(gmem_page(&gmem, 0x3000), memory + 0x3000);
    assert_null(gmem_page(&gmem, 0x10000));
    assert_null(gmem_page(&gmem, POOL_BASE));
    assert_true(gmem_is_ram(&gmem, 0xffff));
    assert_false(gmem_is_ram(&gmem, 0x10001));
    /* A page that is RAM in part only is none. */
    assert_int_equal(memmap_set(&map, 0x20800, 0x800, REGION_RESERVED), 0);
    gmem_init(&gmem, &map, &watch);
    assert_false(gmem_is_ram(&gmem, 0x20000));
}

static void test_write_hits_after_the_store(void **state)
{
    uint8_t value;

    (void)state;
    assert_int_equal(ept_watch_add(&watch, 0x5000, &watcher), 0);
    value = (uint8_t)~memory[0x5000];
    assert_true(gmem_write(&gmem, 0x4fff, &value, 1));
    assert_false(stale);
    assert_true(gmem_write(&gmem, 0x5000, &value, 1));
    assert_true(stale);
    assert_int_equal(byte_when_stale, value);
    assert_false(watcher.armed);
}

static void test_long_write_hits_each_page(void **state)
{
    uint8_t buffer[0x3000] = {0};

    (void)state;
    assert_int_equal(ept_watch_add(&watch, 0x7000, &watcher), 0);
    assert_true(gmem_write(&gmem, 0x5800, buffer, 0x1800));
    assert_false(stale);
    assert_true(gmem_write(&gmem, 0x5800, buffer, 0x1801));
    assert_true(stale);
}

static void test_read64_and_cas64(void **state)
{
    uint64_t *word = (uint64_t *)(memory + 0x6008), value, old = *word;

    (void)state;
    assert_true(gmem_read64(&gmem, 0x6008, &value));
    assert_int_equal(value, old);
    assert_false(gmem_read64(&gmem, 0x10008, &value));
    assert_int_equal(value, ~0ull);
    assert_int_equal(ept_watch_add(&watch, 0x6000, &watcher), 0);
    assert_false(gmem_cas64(&gmem, 0x6008, old + 1, 5));
    assert_int_equal(*word, old);
    assert_false(stale);
    assert_true(gmem_cas64(&gmem, 0x6008, old, 5));
    assert_int_equal(*word, 5);
    assert_true(stale);
    assert_false(gmem_cas64(&gmem, POOL_BASE, 0, 5));
    expect_assert_failure(gmem_cas64(&gmem, 0x6001, 0, 0));
    expect_assert_failure(gmem_read64(&gmem, 0x6001, &value));
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_read),
        TEST(test_write),
        TEST(test_page),
        TEST(test_write_hits_after_the_store),
        TEST(test_long_write_hits_each_page),
        TEST(test_read64_and_cas64),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
