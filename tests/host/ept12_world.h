/* The world of the tests of EPT02: L1 with some RAM and its own allocator for the tables of EPT12, EPT01 above Nestor's
 * memory. A test includes it first, and lists its tests with TEST().
 * tests/host/test_ept12*.c */
#ifndef TESTS_HOST_EPT12_WORLD_H
#define TESTS_HOST_EPT12_WORLD_H

#include "tests/host/host.h"

#include <pthread.h>
#include <string.h>

#include "boot/bootinfo.h"
#include "kernel/layout.h"
#include "kernel/msr.h"
#include "kernel/percpu.h"
#include "mm/page.h"
#include "nested/ept02/ept02.h"
#include "vmx/vmx_bits.h"

/* L1 has 8 MiB, Nestor lies above. FAR is mapped by EPT01 in pages of 1 GiB, HOLE is uncached; neither is RAM. */
#define L1_RAM (8 * MIB)
#define CARVEOUT L1_RAM
#define CARVEOUT_SIZE (8 * MIB)
#define FAR (2 * GIB)
#define HOLE 0xd0000000ull
#define READ EPT_QUAL_READ
#define WRITE EPT_QUAL_WRITE
#define FETCH EPT_QUAL_FETCH
#define RWX_WB (EPT_RWX | PUT(MEMTYPE_WB, EPT_MEMTYPE))
#define PAGE_LIMIT 64u

static bool trace_ept12; /* a test file may set it before setup() */
static uint8_t *memory;
static struct memmap map;
static struct ept ept01;
static struct ept_watch watch;
static struct gmem gmem = {.map = &map, .watch = &watch};
static struct ept02_shared shared;
static struct ept02s e;
static struct vmx_caps caps;
static struct watcher watcher;
static uint64_t free_before_vm;
static gpa_t next_table; /* L1's own allocator for EPT12 tables */
static gpa_t eptp12;

static inline void became_stale(struct watcher *w)
{
    (void)w;
}

static inline gpa_t new_table(void)
{
    gpa_t table = next_table;

    next_table += PAGE_SIZE;
    assert_true(next_table <= L1_RAM);
    memset(memory + table, 0, PAGE_SIZE);
    return table;
}

static inline int setup(void **state)
{
    (void)state;
    memory = host_memory(CARVEOUT + CARVEOUT_SIZE);
    page_init(memory + CARVEOUT, memory + CARVEOUT + CARVEOUT_SIZE);
    memset(&map, 0, sizeof map);
    assert_int_equal(memmap_set(&map, 0, L1_RAM, REGION_RAM), 0);
    assert_int_equal(memmap_set(&map, CARVEOUT, CARVEOUT_SIZE, REGION_RESERVED), 0);
    memset(&ept01, 0, sizeof ept01);
    ept01.features = (struct ept_features){true, true, 40};
    ept01.map = &map;
    ept01.carveout_base = CARVEOUT;
    ept01.carveout_size = CARVEOUT_SIZE;
    ept01.mtrr.default_type = MTRR_DEF_TYPE_E | MEMTYPE_WB;
    ept01.mtrr.address_mask = BITS(39, 12);
    ept01.mtrr.variable_count = 1;
    ept01.mtrr.variable[0].base = 0xc0000000 | MEMTYPE_UC;
    ept01.mtrr.variable[0].mask = BITS(39, 30) | MTRR_PHYSMASK_VALID;
    assert_int_equal(ept_build(&ept01), 0);
    /* EPT01 needs no more pages for what it maps on demand from here on. */
    assert_true(ept_map_on_demand(&ept01, 600 * GIB));
    watch = (struct ept_watch){.ept01 = &ept01};
    watcher = (struct watcher){.stale = became_stale};
    caps = (struct vmx_caps){.ept_vpid = EPT_CAP_EXEC_ONLY | EPT_CAP_2M | EPT_CAP_1G, .address_bits = 40};
    free_before_vm = page_count_free();
    assert_int_equal(ept02_shared_init(&shared, &gmem, &ept01, &watch), 0);
    shared.trace = trace_ept12;
    assert_int_equal(ept02_init(&e, &shared, &caps, PAGE_LIMIT), 0);
    next_table = MIB;
    eptp12 = new_table() | 0x1e;
    memset(this_cpu()->counters, 0, sizeof this_cpu()->counters);
    return 0;
}

static inline int teardown(void **state)
{
    (void)state;
    ept02_forget_all(&e);
    ept02_release(&e);
    ept02_shared_release(&shared, &watch);
    ept_retire_done(&ept01, ept01.generation);
    assert_int_equal(page_count_free(), free_before_vm);
    host_memory_free();
    return 0;
}

static inline uint64_t *entry_at(gpa_t table, gpa_t gpa2, unsigned level)
{
    return (uint64_t *)(memory + table) + ept_index(gpa2, level);
}

/* L1 maps gpa2 by an entry at `level`; tables on the way get `path` as permissions. */
static inline uint64_t *map12_at(gpa_t gpa2, unsigned level, uint64_t entry, uint64_t path)
{
    gpa_t table = eptp12 & EP4TA;

    for (unsigned at = 4; at > level; at--) {
        uint64_t *up = entry_at(table, gpa2, at);
        if (!(*up & EPT_RWX))
            *up = new_table() | path;
        table = *up & EPT_ADDRESS;
    }
    *entry_at(table, gpa2, level) = entry;
    return entry_at(table, gpa2, level);
}

static inline uint64_t *map12(gpa_t gpa2, gpa_t gpa1, uint64_t flags)
{
    return map12_at(gpa2, 1, gpa1 | flags, EPT_RWX);
}

static inline enum ept02_result fill(gpa_t gpa2, uint64_t access)
{
    struct ept02_exit out;

    return ept02_fill(&e, eptp12, gpa2, access, access, false, &out);
}

static inline struct ept_leaf leaf02(gpa_t gpa2)
{
    return ept02_translate(&e, eptp12, gpa2);
}

static inline uint64_t eptp02_of(uint64_t eptp)
{
    return ept02_eptp(ept02_root(&e, eptp));
}

/* Prepares an entry with the EPT02 of eptp. True if an INVEPT is executed. */
static inline bool settle_of(uint64_t eptp)
{
    return ept02_settle(&e, ept02_root(&e, eptp));
}

static inline bool settle(void)
{
    return settle_of(eptp12);
}

/* L1 executes INVEPT, and enters L2. */
static inline void invept_and_entry(void)
{
    ept02_invept_single(&e, eptp12);
    assert_true(settle());
}

/* The result that a walk must give, told once more in other words; and trees at random. */
struct expectation {
    enum ept12_walk_kind kind;
    unsigned level;
    uint64_t permissions;
    gpa_t gpa1;
};

static inline bool reference_misconfigured(uint64_t x, unsigned level, bool leaf)
{
    unsigned type = (x >> 3) & 7;
    unsigned rwx = x & 7;
    bool user_x = eptp12 >> 63 && (x & 0x400);

    if (rwx == 2 || rwx == 6)
        return true;
    if (!(rwx & 1) && (rwx == 4 || user_x) && !(caps.ept_vpid & 1))
        return true;
    for (unsigned bit = caps.address_bits; bit <= 51; bit++)
        if ((x >> bit) & 1)
            return true;
    if (!leaf)
        return (x >> 3) & 0x1f;
    if (type != 0 && type != 1 && type != 4 && type != 5 && type != 6)
        return true;
    return (level == 2 && ((x >> 12) & 0x1ff)) || (level == 3 && ((x >> 12) & 0x3ffff));
}

/* The same rules again, level by level from the SDM's tables, over plain memory. */
static inline struct expectation reference_walk(gpa_t gpa2, unsigned access)
{
    uint64_t table = eptp12 & ~0xfffull & BITS(51, 0);
    uint64_t rights = eptp12 >> 63 ? 0x407 : 7;
    struct expectation x = {.permissions = rights};

    for (x.level = 4; x.level >= 1; x.level--) {
        unsigned shift = 12 + 9 * (x.level - 1);
        uint64_t entry = ~0ull;
        bool leaf;
        if (table < L1_RAM)
            memcpy(&entry, memory + table + 8 * ((gpa2 >> shift) & 511), 8);
        leaf = x.level == 1 || (((entry >> 7) & 1) && ((x.level == 2 && (caps.ept_vpid & EPT_CAP_2M)) ||
                                                       (x.level == 3 && (caps.ept_vpid & EPT_CAP_1G))));
        x.permissions &= entry & rights;
        x.kind = EPT12_WALK_VIOLATION;
        if ((entry & rights) == 0)
            return x;
        x.kind = EPT12_WALK_MISCONFIG;
        if (reference_misconfigured(entry, x.level, leaf))
            return x;
        if (leaf) {
            uint64_t low = (1ull << shift) - 1;
            x.kind = (access & ~x.permissions) ? EPT12_WALK_VIOLATION : EPT12_WALK_OK;
            x.gpa1 = (entry & BITS(51, 12) & ~low) | (gpa2 & low);
            return x;
        }
        table = entry & BITS(51, 12);
    }
    return x;
}

/* Tables that point to each other and to pages at random, with every kind of mistake now and then. */
static inline void random_tree(unsigned tables)
{
    gpa_t first = next_table;

    for (unsigned i = 0; i < tables; i++)
        (void)new_table();
    for (gpa_t table = first - PAGE_SIZE; table < next_table; table += PAGE_SIZE)
        for (unsigned i = 0; i < EPT_ENTRIES; i += 63) {
            uint64_t entry = first + host_random() % tables * PAGE_SIZE;
            entry |= host_random() % 4 ? EPT_RWX : host_random() % 8;
            if (host_random() % 3 == 0)
                entry = (entry & EPT_RWX) | PUT(host_random() % 8 < 6 ? 6 : host_random() % 8, EPT_MEMTYPE) |
                        EPT_LARGE | (host_random() % 4 * GIB);
            if (host_random() % 3 == 0)
                entry |= PUT(6, EPT_MEMTYPE) * (host_random() % 2);
            if (host_random() % 4)
                entry |= EPT_XU;
            if (host_random() % 30 == 0)
                entry |= BIT(host_random() % 64);
            if (host_random() % 40 == 0)
                entry ^= CARVEOUT;
            ((uint64_t *)(memory + table))[i] = entry;
        }
}

static inline gpa_t random_gpa2(void)
{
    gpa_t gpa2 = host_random() % PAGE_SIZE;

    for (unsigned level = 1; level <= 4; level++)
        gpa2 |= host_random() % 9 * 63 * ept_level_size(level);
    return gpa2;
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

#endif
