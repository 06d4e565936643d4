/* A cache of merged bitmaps over real write tracing on host memory. L1's memory is read through a fake gmem, which can
 * store to the page just before it is read.
 * setup() before and teardown() after each test. tests/host/ only; one file of a program includes it. */
#ifndef TESTS_HOST_MERGED_WORLD_H
#define TESTS_HOST_MERGED_WORLD_H

#include "tests/host/host.h"

#include <string.h>

#include "boot/bootinfo.h"
#include "kernel/cmdline.h"
#include "kernel/percpu.h"
#include "mm/page.h"
#include "nested/bitmap/merged_cache.h"
#include "nested/bitmap/merged_wrong.h"

#define MEMORY (4 * MIB)
#define POOL_BASE MIB
#define PAGE_A 0x5000ull
#define PAGE_B 0x6000ull
#define MMIO 0xfee00000ull

static uint8_t *memory;
static struct ept ept;
static struct memmap map;
static struct ept_watch watch;
static struct gmem gmem = {.map = &map, .watch = &watch};
static struct merged_cache cache;
static uint8_t l0_page[PAGE_SIZE] __attribute__((aligned(8))), other_l0_page[PAGE_SIZE] __attribute__((aligned(8)));
static const struct merged_policy l0 = {l0_page, 1}, next_l0 = {other_l0_page, 2};
static uint64_t free_at_start, l0_generation;
static unsigned reads;
static struct merged entries[64];
static uint64_t saved[ARRAY_SIZE(entries)]; /* entries without a merge, of each */
static struct merged_owner processor_a, processor_b;

static enum { NO_STORE, STORE_BEFORE_PROTECTION, STORE_BEFORE_READ } store_when;
static bool writable_at_read;

/* A store of another processor of L1: a write fault first where the page is protected. */
static inline void l1_store(gpa_t gpa, uint8_t value)
{
    if (!(ept_translate(&ept, gpa).permissions & EPT_W))
        assert_true(ept_watch_hit(&watch, gpa));
    assert_true(ept_translate(&ept, gpa).permissions & EPT_W);
    memory[gpa] = value;
    ept_retire_done(&ept, ept.generation); /* the INVEPT before the guest goes on */
}

static inline void before_ept02_is_protected(void *context, gpa_t page)
{
    (void)context;
    if (store_when == STORE_BEFORE_PROTECTION)
        memory[page + 7] = 0x55; /* allowed by a TLB entry that is not flushed yet */
}

bool gmem_search_ram(const struct gmem *g, gpa_t gpa)
{
    return memmap_is(g->map, ALIGN_DOWN(gpa, PAGE_SIZE), PAGE_SIZE, REGION_RAM);
}

bool gmem_read(const struct gmem *g, gpa_t gpa, void *buffer, uint64_t len)
{
    reads++;
    assert_int_equal(len, PAGE_SIZE);
    if (!gmem_is_ram(g, gpa)) {
        memset(buffer, 0xff, len);
        return false;
    }
    writable_at_read = ept_translate(&ept, gpa).permissions & EPT_W;
    if (store_when == STORE_BEFORE_READ)
        l1_store(gpa + 7, 0x55);
    memcpy(buffer, memory + gpa, len);
    return true;
}

const void *gmem_page(const struct gmem *g, gpa_t gpa)
{
    return gmem_is_ram(g, gpa) ? memory + gpa : NULL;
}

static inline uint64_t counted(enum counter counter)
{
    return this_cpu()->counters[counter];
}

static inline void start_cache(unsigned room)
{
    memset(&cache, 0, sizeof cache);
    memset(entries, 0, sizeof entries);
    memset(saved, 0, sizeof saved);
    memset(&processor_a, 0, sizeof processor_a);
    memset(&processor_b, 0, sizeof processor_b);
    for (unsigned kind = 0; kind < MERGED_KINDS; kind++)
        cache.l0[kind] = (struct merged_l0){l0_page, &l0_generation};
    l0_generation = 1;
    merged_cache_init(&cache, &gmem, &watch);
    merged_cache_add(&cache, entries, room);
}

static inline int setup(void **unused)
{
    (void)unused;
    memory = host_memory(MEMORY);
    host_random_fill(memory, 0x20000);
    page_init(memory + POOL_BASE, memory + MEMORY);
    memset(&map, 0, sizeof map);
    assert_int_equal(memmap_set(&map, 0, MIB, REGION_RAM), 0);
    assert_int_equal(memmap_set(&map, POOL_BASE, MEMORY - POOL_BASE, REGION_RESERVED), 0);
    memset(&ept, 0, sizeof ept);
    ept.features = (struct ept_features){true, true, 40};
    ept.map = &map;
    assert_int_equal(ept_build(&ept), 0);
    watch = (struct ept_watch){.ept01 = &ept, .protect_ept02 = before_ept02_is_protected};
    start_cache(ARRAY_SIZE(entries));
    memset(this_cpu()->counters, 0, sizeof this_cpu()->counters);
    memset(l0_page, 0, sizeof l0_page);
    memset(other_l0_page, 0, sizeof other_l0_page);
    l0_page[3] = 0xf0;
    other_l0_page[3] = 0x0f;
    options.bitmap = 0;
    options.fault = 0;
    options.bitmap_check = 1;
    store_when = NO_STORE;
    reads = 0;
    free_at_start = page_count_free();
    return 0;
}

static inline int teardown(void **unused)
{
    (void)unused;
    merged_cache_release(&cache, &processor_a);
    merged_cache_release(&cache, &processor_b);
    ept_retire_done(&ept, ept.generation);
    assert_int_equal(watch.pages, 0);
    assert_int_equal(page_count_free(), free_at_start);
    assert_int_equal(ept_translate(&ept, PAGE_A).permissions & EPT_RWX, EPT_RWX);
    host_memory_free();
    options.bitmap = options.fault = 0;
    return 0;
}

static inline bool writable(gpa_t gpa)
{
    return ept_translate(&ept, gpa).permissions & EPT_W;
}

/* The invariant: what the hardware reads is L1's page as it is now, OR L0's. */
static inline bool is_merge(const struct merged *m, const uint8_t *l0_bits)
{
    for (unsigned i = 0; i < PAGE_SIZE; i++) {
        uint8_t l1 = gmem_is_ram(&gmem, m->page) ? memory[m->page + i] : 0xff;
        if (m->result[i] != (l1 | l0_bits[i]) || m->snapshot[i] != l1)
            return false;
    }
    return true;
}

static inline struct merged *get(gpa_t page)
{
    struct merged *m = merged_cache_get(&cache, MERGED_MSR, page, &processor_a);
    assert_non_null(m);
    return m;
}

static inline void put(struct merged *m)
{
    merged_cache_put(&cache, m, &processor_a, 0);
}

/* An entry of a vmcs12 that names `m` alone, with L0's page as `policy` says. */
static inline void refresh(struct merged *m, struct merged_policy policy)
{
    uint64_t *counts = &saved[m - entries];
    l0_generation = policy.generation;
    cache.l0[m->kind].page = policy.page;
    assert_true(merged_cache_keep(&cache, m, &processor_a));
    *counts = merged_refresh(m, policy, *counts) ? 0 : *counts + 1;
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

#endif
