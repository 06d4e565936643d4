/* sources: nested/ept12.c nested/ept12_filter.c nested/ept12_walk.c mm/gmem.c mm/ept_watch.c mm/ept.c mm/memmap.c mm/mtrr.c mm/page.c */
#include "tests/host/host.h"

#include <pthread.h>
#include <string.h>

#include "boot/bootinfo.h"
#include "kernel/layout.h"
#include "kernel/msr.h"
#include "kernel/percpu.h"
#include "mm/page.h"
#include "nested/ept12.h"
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

static uint8_t *memory;
static struct memmap map;
static struct ept ept01;
static struct ept_watch watch;
static struct gmem gmem = {.map = &map, .watch = &watch};
static struct ept12_shared shared;
static struct ept12 e;
static struct vmx_caps caps;
static struct watcher watcher;
static uint64_t free_before_vm;
static gpa_t next_table; /* L1's own allocator for EPT12 tables */
static gpa_t eptp12;

static void became_stale(struct watcher *w)
{
    (void)w;
}

static gpa_t new_table(void)
{
    gpa_t table = next_table;

    next_table += PAGE_SIZE;
    assert_true(next_table <= L1_RAM);
    memset(memory + table, 0, PAGE_SIZE);
    return table;
}

static int setup(void **state)
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
    /* What EPT01 maps on demand from here on needs no more pages. */
    assert_true(ept_map_on_demand(&ept01, 600 * GIB));
    watch = (struct ept_watch){.ept01 = &ept01};
    watcher = (struct watcher){.stale = became_stale};
    caps = (struct vmx_caps){.ept_vpid = EPT_CAP_EXEC_ONLY | EPT_CAP_2M | EPT_CAP_1G, .address_bits = 40};
    free_before_vm = page_count_free();
    assert_int_equal(ept12_shared_init(&shared, &gmem, &ept01, &watch), 0);
    assert_int_equal(ept12_init(&e, &shared, &caps, PAGE_LIMIT), 0);
    next_table = MIB;
    eptp12 = new_table() | 0x1e;
    memset(this_cpu()->counters, 0, sizeof this_cpu()->counters);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    ept12_invept_all(&e);
    ept12_release(&e);
    ept12_shared_release(&shared, &watch);
    ept_retire_done(&ept01, ept01.generation);
    assert_int_equal(page_count_free(), free_before_vm);
    host_memory_free();
    return 0;
}

static uint64_t *entry_at(gpa_t table, gpa_t gpa2, unsigned level)
{
    return (uint64_t *)(memory + table) + ept_index(gpa2, level);
}

/* L1 maps gpa2 by an entry at `level`; tables on the way get `path` as permissions. */
static uint64_t *map12_at(gpa_t gpa2, unsigned level, uint64_t entry, uint64_t path)
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

static uint64_t *map12(gpa_t gpa2, gpa_t gpa1, uint64_t flags)
{
    return map12_at(gpa2, 1, gpa1 | flags, EPT_RWX);
}

static enum ept12_result fill(gpa_t gpa2, uint64_t access)
{
    struct ept12_exit out;

    return ept12_fill(&e, eptp12, gpa2, access, access, false, &out);
}

static struct ept_leaf leaf02(gpa_t gpa2)
{
    return ept12_translate(&e, eptp12, gpa2);
}

static uint64_t eptp02_of(uint64_t eptp)
{
    return ept12_eptp(ept12_root(&e, eptp));
}

static bool take_invept_of(uint64_t eptp)
{
    return ept12_take_invept(ept12_root(&e, eptp));
}

static bool take_invept(void)
{
    return take_invept_of(eptp12);
}

/* --- The walk --- */

struct expectation {
    enum ept12_walk_kind kind;
    unsigned level;
    uint64_t permissions;
    gpa_t gpa1;
};

static bool reference_misconfigured(uint64_t x, unsigned level, bool leaf)
{
    unsigned type = (x >> 3) & 7;
    unsigned rwx = x & 7;

    if (rwx == 2 || rwx == 6)
        return true;
    if (rwx == 4 && !(caps.ept_vpid & 1))
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
static struct expectation reference_walk(gpa_t gpa2, unsigned access)
{
    uint64_t table = eptp12 & ~0xfffull & BITS(51, 0);
    struct expectation x = {.permissions = 7};

    for (x.level = 4; x.level >= 1; x.level--) {
        unsigned shift = 12 + 9 * (x.level - 1);
        uint64_t entry = ~0ull;
        bool leaf;
        if (table < L1_RAM)
            memcpy(&entry, memory + table + 8 * ((gpa2 >> shift) & 511), 8);
        leaf = x.level == 1 || (((entry >> 7) & 1) && ((x.level == 2 && (caps.ept_vpid & EPT_CAP_2M)) ||
                                                       (x.level == 3 && (caps.ept_vpid & EPT_CAP_1G))));
        x.permissions &= entry & 7;
        x.kind = EPT12_WALK_VIOLATION;
        if ((entry & 7) == 0)
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
static void random_tree(unsigned tables)
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
            if (host_random() % 30 == 0)
                entry |= BIT(host_random() % 64);
            if (host_random() % 40 == 0)
                entry ^= CARVEOUT;
            ((uint64_t *)(memory + table))[i] = entry;
        }
}

static gpa_t random_gpa2(void)
{
    gpa_t gpa2 = host_random() % PAGE_SIZE;

    for (unsigned level = 1; level <= 4; level++)
        gpa2 |= host_random() % 9 * 63 * ept_level_size(level);
    return gpa2;
}

static void test_walk_against_reference(void **state)
{
    unsigned seen[3] = {0};

    (void)state;
    for (unsigned round = 0; round < 60; round++) {
        struct ept12_rules rules;
        next_table = (eptp12 & EP4TA) + PAGE_SIZE;
        random_tree(8);
        caps.ept_vpid = host_random() & (EPT_CAP_EXEC_ONLY | EPT_CAP_2M | EPT_CAP_1G);
        caps.address_bits = 36 + (unsigned)(host_random() % 17);
        rules = ept12_rules_from(&caps);
        for (unsigned i = 0; i < 2000; i++) {
            gpa_t gpa2 = random_gpa2();
            unsigned access = (unsigned)(host_random() % 8);
            struct expectation x = reference_walk(gpa2, access);
            struct ept12_walk walk = ept12_walk(&gmem, &rules, eptp12, gpa2, access, false);
            assert_int_equal(walk.kind, x.kind);
            assert_int_equal(walk.level, x.level);
            seen[x.kind]++;
            if (x.kind == EPT12_WALK_MISCONFIG)
                continue;
            assert_int_equal(walk.permissions, x.permissions);
            if (x.kind == EPT12_WALK_OK)
                assert_int_equal(walk.gpa1, x.gpa1);
        }
    }
    /* The generator reaches everything often. */
    for (unsigned kind = 0; kind < 3; kind++)
        assert_true(seen[kind] > 2000);
}

static void test_misconfigurations(void **state)
{
    static const struct {
        unsigned level;
        uint64_t entry;
        bool bad;
    } row[] = {
        {1, 0x5000 | EPT_W | PUT(6, EPT_MEMTYPE), true},
        {1, 0x5000 | EPT_W | EPT_X | PUT(6, EPT_MEMTYPE), true},
        {1, 0x5000 | EPT_X | PUT(6, EPT_MEMTYPE), false},
        {1, 0x5000 | EPT_R | PUT(2, EPT_MEMTYPE), true},
        {1, 0x5000 | EPT_R | PUT(3, EPT_MEMTYPE), true},
        {1, 0x5000 | EPT_R | PUT(7, EPT_MEMTYPE), true},
        {1, 0x5000 | EPT_R | PUT(0, EPT_MEMTYPE), false},
        {1, 0x5000 | EPT_R | PUT(1, EPT_MEMTYPE), false},
        {1, 0x5000 | EPT_R | PUT(4, EPT_MEMTYPE), false},
        {1, 0x5000 | EPT_R | PUT(5, EPT_MEMTYPE), false},
        {1, 0x5000 | RWX_WB | EPT_LARGE, false},    /* bit 7 is ignored in a page-table entry */
        {1, 0x5000 | RWX_WB | BITS(11, 8), false},  /* A, D, ignored */
        {1, 0x5000 | RWX_WB | BITS(63, 52), false}, /* ignored while their controls are off */
        {1, 0x5000 | RWX_WB | BIT(40), true},       /* beyond MAXPHYADDR */
        {1, 0x5000 | RWX_WB | BIT(39), false},
        {2, 0x200000 | RWX_WB | EPT_LARGE, false},
        {2, 0x200000 | RWX_WB | EPT_LARGE | BIT(12), true},
        {2, 0x200000 | RWX_WB | EPT_LARGE | BIT(20), true},
        {2, 0x200000 | PUT(2, EPT_MEMTYPE) | EPT_RWX | EPT_LARGE, true},
        {2, MIB | EPT_RWX | BIT(3), true}, /* a memory type in an entry that leads to a table */
        {2, MIB | EPT_RWX | BIT(6), true},
        {3, RWX_WB | EPT_LARGE, false},
        {3, RWX_WB | EPT_LARGE | BIT(29), true},
        {3, RWX_WB | EPT_LARGE | BIT(12), true},
        {4, MIB | EPT_RWX | EPT_LARGE, true},
        {4, MIB | EPT_RWX | BIT(3), true},
        {4, MIB | EPT_W, true},
    };

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(row); i++) {
        gpa_t gpa2 = (gpa_t)(i + 1) * (512 * GIB);
        map12_at(gpa2, row[i].level, row[i].entry, EPT_RWX);
        if (fill(gpa2, row[i].entry & EPT_R ? READ : FETCH) != (row[i].bad ? EPT12_MISCONFIG : EPT12_FILLED))
            fail_msg("row %u", i);
    }
}

static void test_exec_only_and_page_sizes_as_offered(void **state)
{
    (void)state;
    map12(0x1000, 0x5000, EPT_X | PUT(6, EPT_MEMTYPE));
    map12_at(GIB, 2, 0x200000 | RWX_WB | EPT_LARGE, EPT_RWX);
    map12_at(2 * GIB, 3, FAR | RWX_WB | EPT_LARGE, EPT_RWX);
    assert_int_equal(fill(0x1000, FETCH), EPT12_FILLED);
    assert_int_equal(leaf02(0x1000).permissions, EPT_X);
    assert_int_equal(fill(0x1000, READ), EPT12_VIOLATION);
    e.rules.exec_only = false;
    assert_int_equal(fill(0x1000, FETCH), EPT12_MISCONFIG);
    assert_int_equal(fill(GIB, READ), EPT12_FILLED);
    e.rules.pages_2m = false;
    assert_int_equal(fill(GIB, READ), EPT12_MISCONFIG);
    assert_int_equal(fill(2 * GIB, READ), EPT12_FILLED);
    e.rules.pages_1g = false;
    assert_int_equal(fill(2 * GIB, READ), EPT12_MISCONFIG);
}

static void test_tables_that_are_no_ram(void **state)
{
    (void)state;
    map12_at(0, 4, HOLE | EPT_RWX, EPT_RWX);
    assert_int_equal(fill(0, READ), EPT12_MISCONFIG);
    map12_at(512 * GIB, 3, CARVEOUT | EPT_RWX, EPT_RWX);
    assert_int_equal(fill(512 * GIB, READ), EPT12_MISCONFIG);
    eptp12 = HOLE | 0x1e;
    assert_int_equal(fill(0, READ), EPT12_MISCONFIG);
    eptp12 = CARVEOUT | 0x1e;
    assert_int_equal(fill(0, READ), EPT12_MISCONFIG);
}

static void test_violation_qualification(void **state)
{
    struct ept12_exit out;
    uint64_t kept = EPT_QUAL_GLA_VALID | EPT_QUAL_NOT_WALK | EPT_QUAL_NMI_UNBLOCKING;

    (void)state;
    /* Nothing there: no permission at all. */
    assert_int_equal(ept12_fill(&e, eptp12, 0x1000, READ, READ | kept | 0x38, false, &out), EPT12_VIOLATION);
    assert_int_equal(out.qualification, READ | kept);
    /* The AND along the walk, not the leaf alone. */
    map12_at(0x1000, 1, 0x5000 | RWX_WB, EPT_R | EPT_X);
    assert_int_equal(ept12_fill(&e, eptp12, 0x1000, WRITE, WRITE | EPT_QUAL_GLA_VALID, false, &out), EPT12_VIOLATION);
    assert_int_equal(out.qualification, WRITE | EPT_QUAL_GLA_VALID | EPT_QUAL_ALLOWED_READ | EPT_QUAL_ALLOWED_EXEC);
    map12(0x200000000, 0x6000, EPT_R | PUT(6, EPT_MEMTYPE));
    assert_int_equal(ept12_fill(&e, eptp12, 0x200000000, READ | WRITE, READ | WRITE | BITS(11, 9), false, &out),
                     EPT12_VIOLATION);
    assert_int_equal(out.qualification, READ | WRITE | EPT_QUAL_ALLOWED_READ);
    /* A page walk counts as read and write if L1 has A/D flags on. */
    assert_int_equal(ept12_fill(&e, eptp12, 0x9000, WRITE, WRITE | EPT_QUAL_GLA_VALID, false, &out), EPT12_VIOLATION);
    assert_int_equal(out.qualification, WRITE | EPT_QUAL_GLA_VALID);
    eptp12 |= EPTP_AD;
    assert_int_equal(ept12_fill(&e, eptp12, 0x9000, WRITE, WRITE | EPT_QUAL_GLA_VALID, false, &out), EPT12_VIOLATION);
    assert_int_equal(out.qualification, READ | WRITE | EPT_QUAL_GLA_VALID);
    assert_int_equal(ept12_fill(&e, eptp12, 0x9000, WRITE, WRITE | EPT_QUAL_GLA_VALID | EPT_QUAL_NOT_WALK, false, &out),
                     EPT12_VIOLATION);
    assert_int_equal(out.qualification, WRITE | EPT_QUAL_GLA_VALID | EPT_QUAL_NOT_WALK);
    eptp12 &= ~EPTP_AD;
    assert_int_equal(fill(BIT(48), READ), EPT12_VIOLATION);
    assert_int_equal(fill(~0ull, READ), EPT12_VIOLATION);
}

/* --- A/D flags --- */

static void test_accessed_and_dirty(void **state)
{
    uint64_t *entry = map12(0x1000, 0x5000, RWX_WB), *top = entry_at(eptp12 & EP4TA, 0x1000, 4);

    (void)state;
    assert_int_equal(fill(0x1000, WRITE), EPT12_FILLED);
    assert_false((*entry | *top) & (EPT_A | EPT_D));
    eptp12 |= EPTP_AD;
    assert_int_equal(fill(0x1000, READ), EPT12_FILLED);
    assert_int_equal(*entry & (EPT_A | EPT_D), EPT_A);
    assert_int_equal(*top & (EPT_A | EPT_D), EPT_A);
    /* W waits for the first write, which sets D. */
    assert_int_equal(leaf02(0x1000).permissions, EPT_R | EPT_X);
    assert_int_equal(fill(0x1000, WRITE), EPT12_FILLED);
    assert_int_equal(*entry & (EPT_A | EPT_D), EPT_A | EPT_D);
    assert_int_equal(*top & EPT_D, 0);
    assert_int_equal(leaf02(0x1000).permissions, EPT_RWX);
    /* D already set: W at once. */
    map12(0x2000, 0x6000, RWX_WB | EPT_D);
    assert_int_equal(fill(0x2000, READ), EPT12_FILLED);
    assert_int_equal(leaf02(0x2000).permissions, EPT_RWX);
}

static void test_no_flags_for_what_is_refused(void **state)
{
    uint64_t *entry = map12(0x1000, 0x5000, EPT_R | PUT(6, EPT_MEMTYPE));

    (void)state;
    eptp12 |= EPTP_AD;
    assert_int_equal(fill(0x1000, WRITE), EPT12_VIOLATION);
    assert_false(*entry & (EPT_A | EPT_D));
}

static void test_flags_of_a_large_page(void **state)
{
    uint64_t *entry = map12_at(GIB, 2, 0x200000 | RWX_WB | EPT_LARGE, EPT_RWX);

    (void)state;
    eptp12 |= EPTP_AD;
    assert_int_equal(fill(GIB + 0x12345, WRITE), EPT12_FILLED);
    assert_int_equal(*entry, 0x200000 | RWX_WB | EPT_LARGE | EPT_A | EPT_D);
    assert_int_equal(leaf02(GIB).level, 2);
}

/* EPT12 in a traced page: setting A is a store. */
static void test_flags_hit_the_watch(void **state)
{
    uint64_t *entry = map12(0x1000, 0x5000, RWX_WB);
    gpa_t page = ALIGN_DOWN(va_to_hpa(entry), PAGE_SIZE);

    (void)state;
    eptp12 |= EPTP_AD;
    assert_int_equal(ept_watch_add(&watch, page, &watcher), 0);
    assert_int_equal(fill(0x1000, READ), EPT12_FILLED);
    assert_false(watcher.armed);
}

/* --- What EPT02 holds --- */

static void test_permissions_are_the_and(void **state)
{
    (void)state;
    for (unsigned permissions = 1; permissions < 8; permissions++) {
        gpa_t gpa2 = permissions * PAGE_SIZE;
        if ((permissions & 3) == 2)
            continue;
        map12(gpa2, 0x10000 + gpa2, permissions | PUT(6, EPT_MEMTYPE));
        assert_int_equal(fill(gpa2, permissions & EPT_R ? READ : FETCH), EPT12_FILLED);
        assert_int_equal(leaf02(gpa2 + 5).permissions, permissions);
        assert_int_equal(leaf02(gpa2 + 5).hpa, 0x10000 + gpa2 + 5);
        assert_int_equal(leaf02(gpa2).level, 1);
    }
}

static void test_leaf_size_is_the_smaller(void **state)
{
    (void)state;
    /* EPT01 has 1 GiB at FAR, 2 MiB and less below. */
    map12_at(0, 3, FAR | RWX_WB | EPT_LARGE, EPT_RWX);
    assert_int_equal(fill(0x123456, READ), EPT12_FILLED);
    assert_int_equal(leaf02(0x123456).level, 3);
    assert_int_equal(leaf02(0x123456).hpa, FAR + 0x123456);
    map12_at(GIB, 3, 0 | RWX_WB | EPT_LARGE, EPT_RWX);
    assert_int_equal(fill(GIB + 0x234567, READ), EPT12_FILLED);
    assert_int_equal(leaf02(GIB + 0x234567).level, 2);
    assert_int_equal(leaf02(GIB + 0x234567).hpa, 0x234567);
    map12_at(2 * GIB, 1, (FAR + 0x7000) | RWX_WB, EPT_RWX);
    assert_int_equal(fill(2 * GIB, READ), EPT12_FILLED);
    assert_int_equal(leaf02(2 * GIB).level, 1);
    assert_int_equal(leaf02(2 * GIB).hpa, FAR + 0x7000);
}

static void test_memory_types(void **state)
{
    static const unsigned row[][3] = {
        /* EPT12, EPT01, both */
        {MEMTYPE_WB, MEMTYPE_WB, MEMTYPE_WB}, {MEMTYPE_UC, MEMTYPE_WB, MEMTYPE_UC},
        {MEMTYPE_WC, MEMTYPE_WB, MEMTYPE_WC}, {MEMTYPE_WT, MEMTYPE_WB, MEMTYPE_WT},
        {MEMTYPE_WP, MEMTYPE_WB, MEMTYPE_WP}, {MEMTYPE_WB, MEMTYPE_UC, MEMTYPE_UC},
        {MEMTYPE_UC, MEMTYPE_UC, MEMTYPE_UC}, {MEMTYPE_WC, MEMTYPE_UC, MEMTYPE_UC},
        {MEMTYPE_WT, MEMTYPE_UC, MEMTYPE_UC},
    };

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(row); i++) {
        gpa_t gpa2 = i * PAGE_SIZE;
        map12(gpa2, row[i][1] == MEMTYPE_UC ? HOLE : 0x5000, EPT_R | PUT(row[i][0], EPT_MEMTYPE));
        assert_int_equal(fill(gpa2, READ), EPT12_FILLED);
        assert_int_equal(leaf02(gpa2).memtype, row[i][2]);
    }
}

static void test_mmio_passes_through(void **state)
{
    (void)state;
    map12(0x1000, 0xfee00000, RWX_WB);
    assert_int_equal(fill(0x1000, WRITE), EPT12_FILLED);
    assert_int_equal(leaf02(0x1000).hpa, 0xfee00000);
    /* Addresses that EPT01 maps on demand only. */
    map12(0x2000, 100 * GIB, RWX_WB);
    assert_int_equal(fill(0x2000, WRITE), EPT12_FILLED);
    assert_int_equal(leaf02(0x2000).hpa, 100 * GIB);
    assert_int_equal(leaf02(0x2000).permissions, EPT_RWX);
}

static void test_carveout(void **state)
{
    struct ept12_exit out;

    (void)state;
    map12(0x1000, CARVEOUT + 0x3000, RWX_WB);
    assert_int_equal(fill(0x1000, READ), EPT12_FILLED);
    assert_int_equal(leaf02(0x1234).hpa, ept01.ones_page + 0x234);
    assert_int_equal(leaf02(0x1000).permissions, EPT_R | EPT_X);
    assert_int_equal(ept12_fill(&e, eptp12, 0x1008, WRITE, WRITE, false, &out), EPT12_CARVEOUT);
    assert_int_equal(out.gpa1, CARVEOUT + 0x3008);
    assert_int_equal(*out.entry & (EPT_ADDRESS | EPT_RWX), ept01.ones_page | EPT_R | EPT_X);
    *out.entry |= EPT_W;
    assert_int_equal(leaf02(0x1000).permissions, EPT_RWX);
    *out.entry &= ~EPT_W;
    /* Inside a large page of L1's, and as a write from the start. */
    map12_at(GIB, 2, CARVEOUT | RWX_WB | EPT_LARGE, EPT_RWX);
    assert_int_equal(fill(GIB + 0x5000, WRITE), EPT12_CARVEOUT);
    assert_int_equal(leaf02(GIB + 0x5000).hpa, ept01.ones_page);
    assert_int_equal(leaf02(GIB + 0x5000).level, 1);
    assert_int_equal(leaf02(GIB + 0x6000).level, 0);
    /* Where L1 itself refuses the write, the violation is L1's. */
    map12(0x2000, CARVEOUT, EPT_R | PUT(6, EPT_MEMTYPE));
    assert_int_equal(fill(0x2000, WRITE), EPT12_VIOLATION);
}

/* --- Changes of EPT12, and INVEPT --- */

static void test_invept_is_asked_for_when_something_goes(void **state)
{
    uint64_t *entry = map12(0x1000, 0x5000, EPT_R | PUT(6, EPT_MEMTYPE));

    (void)state;
    (void)eptp02_of(eptp12);
    assert_true(take_invept());
    assert_false(take_invept());
    assert_int_equal(fill(0x1000, READ), EPT12_FILLED);
    *entry |= EPT_W;
    assert_int_equal(fill(0x1000, WRITE), EPT12_FILLED);
    assert_false(take_invept()); /* more is allowed: the violation itself made the processor forget */
    *entry = 0x6000 | EPT_R | PUT(6, EPT_MEMTYPE);
    assert_int_equal(fill(0x1000, READ), EPT12_FILLED);
    assert_true(take_invept());
    assert_int_equal(leaf02(0x1000).hpa, 0x6000);
    ept12_invept_single(&e, eptp12);
    assert_true(take_invept());
    assert_int_equal(leaf02(0x1000).level, 0);
}

/* L1 makes a table of a large page and a large page of a table, without INVEPT, while L2 runs on. */
static void test_large_page_toggles(void **state)
{
    uint64_t *entry = map12_at(GIB, 2, 0x200000 | RWX_WB | EPT_LARGE, EPT_RWX), large = *entry;
    gpa_t table = new_table();

    (void)state;
    for (unsigned i = 0; i < EPT_ENTRIES; i++)
        ((uint64_t *)(memory + table))[i] = (0x400000 + i * PAGE_SIZE) | RWX_WB;
    for (unsigned round = 0; round < 50; round++) {
        gpa_t gpa2 = GIB + host_random() % LARGE_2M;
        *entry = round % 2 ? table | EPT_RWX : large;
        assert_int_equal(fill(gpa2, WRITE), EPT12_FILLED);
        assert_int_equal(leaf02(gpa2).level, round % 2 ? 1 : 2);
        assert_int_equal(leaf02(gpa2).hpa, (round % 2 ? 0x400000 : 0x200000) + (gpa2 - GIB));
        assert_true(take_invept());
    }
    ept12_invept_all(&e);
    assert_int_equal(e.pages_used - e.reserved, 1); /* the root alone */
}

static void test_roots_by_ep4ta_and_ad(void **state)
{
    uint64_t a = eptp12, b = new_table() | 0x1e;
    uint64_t a02 = eptp02_of(a), b02 = eptp02_of(b), a_ad = eptp02_of(a | EPTP_AD);

    (void)state;
    assert_int_equal(a02 & 0xfff, 0x1e);
    assert_int_equal(a_ad & 0xfff, 0x5e);
    assert_true((a02 & EP4TA) != (b02 & EP4TA) && (a02 & EP4TA) != (a_ad & EP4TA));
    /* The memory type of L1's EPTP is of no matter to the tables. */
    assert_int_equal(eptp02_of((a & ~7ull) | 0), a02);
    assert_int_equal(eptp02_of(b), b02);
    map12(0x1000, 0x5000, RWX_WB);
    assert_int_equal(fill(0x1000, READ), EPT12_FILLED);
    assert_int_equal(ept12_translate(&e, b, 0x1000).level, 0);
    /* INVEPT goes by EP4TA alone. */
    eptp12 = a | EPTP_AD;
    assert_int_equal(fill(0x1000, READ), EPT12_FILLED);
    ept12_invept_single(&e, b);
    assert_int_equal(ept12_translate(&e, a, 0x1000).level, 1);
    ept12_invept_single(&e, a | 0x41);
    assert_int_equal(ept12_translate(&e, a, 0x1000).level, 0);
    assert_int_equal(ept12_translate(&e, a | EPTP_AD, 0x1000).level, 0);
    assert_int_equal(this_cpu()->counters[COUNT_EPT02_FLUSHES], 3);
    assert_int_equal(eptp02_of(a), a02);
}

static void test_least_recently_used_root_goes(void **state)
{
    uint64_t first = eptp12;

    (void)state;
    map12(0x1000, 0x5000, RWX_WB);
    assert_int_equal(fill(0x1000, READ), EPT12_FILLED);
    for (unsigned i = 1; i < EPT12_ROOTS; i++)
        (void)eptp02_of(0x100000000 + i * PAGE_SIZE);
    assert_int_equal(ept12_translate(&e, first, 0x1000).level, 1);
    (void)eptp02_of(first);
    (void)eptp02_of(0x200000000); /* evicts number 1 */
    assert_int_equal(ept12_translate(&e, first, 0x1000).level, 1);
    for (unsigned i = 0; i < EPT12_ROOTS; i++)
        (void)eptp02_of(0x300000000 + i * PAGE_SIZE);
    assert_int_equal(ept12_translate(&e, first, 0x1000).level, 0);
    assert_int_equal(e.pages_used, EPT12_ROOTS + (e.reserved));
}

/* --- Want of pages --- */

static void test_recycling_keeps_the_root(void **state)
{
    uint64_t eptp02 = eptp02_of(eptp12);

    (void)state;
    /* One table of EPT02 for each 2 MiB: far more than the limit. */
    for (unsigned i = 0; i < 300; i++) {
        gpa_t gpa2 = i * LARGE_2M;
        map12(gpa2, 0x5000, RWX_WB);
        assert_int_equal(fill(gpa2, WRITE), EPT12_FILLED);
        assert_int_equal(leaf02(gpa2).hpa, 0x5000);
        assert_true(e.pages_used <= PAGE_LIMIT);
        assert_int_equal(eptp02_of(eptp12), eptp02);
    }
    assert_true(this_cpu()->counters[COUNT_EPT02_RECYCLED] > 2);
    assert_true(take_invept());
}

static void test_nobody_else_leaves_pages(void **state)
{
    void *held[4096];
    unsigned count = 0;

    (void)state;
    while ((held[count] = page_alloc()))
        count++;
    for (unsigned i = 0; i < 20; i++) {
        gpa_t gpa2 = i * 512 * GIB / 4;
        map12(gpa2, 0x5000, RWX_WB);
        assert_int_equal(fill(gpa2, READ), EPT12_FILLED);
        assert_int_equal(leaf02(gpa2).hpa, 0x5000);
        (void)eptp02_of(0x300000000 + i * PAGE_SIZE);
    }
    while (count > 0)
        page_free(held[--count]);
}

static void test_init_without_pages(void **state)
{
    static struct ept12 other;
    void *held[4096];
    unsigned count = 0;

    (void)state;
    while (page_count_free() > EPT12_RESERVE - 1)
        held[count++] = page_alloc();
    assert_int_equal(ept12_init(&other, &shared, &caps, PAGE_LIMIT), -1);
    assert_int_equal(page_count_free(), EPT12_RESERVE - 1);
    while (count > 0)
        page_free(held[--count]);
}

/* --- Traced pages --- */

static void test_traced_page_has_no_w(void **state)
{
    struct ept12_exit out;

    (void)state;
    map12(0x1000, 0x5000, RWX_WB);
    assert_int_equal(ept_watch_add(&watch, 0x5000, &watcher), 0);
    assert_int_equal(fill(0x1000, READ), EPT12_FILLED);
    assert_int_equal(leaf02(0x1000).permissions, EPT_R | EPT_X);
    assert_int_equal(ept12_fill(&e, eptp12, 0x1abc, WRITE, WRITE, false, &out), EPT12_WATCH);
    assert_int_equal(out.gpa1, 0x5abc);
    assert_true(ept_watch_hit(&watch, out.gpa1));
    assert_int_equal(fill(0x1abc, WRITE), EPT12_FILLED);
    assert_int_equal(leaf02(0x1000).permissions, EPT_RWX);
}

static void test_tracing_takes_w_from_all_leaves(void **state)
{
    uint64_t other = new_table() | 0x1e, first = eptp12;

    (void)state;
    map12(0x1000, 0x5000, RWX_WB);
    map12(0x7000000, 0x5000, RWX_WB);
    map12(0x2000, 0x6000, RWX_WB);
    map12_at(GIB, 2, 0 | RWX_WB | EPT_LARGE, EPT_RWX);
    assert_int_equal(fill(0x1000, WRITE), EPT12_FILLED);
    assert_int_equal(fill(0x2000, WRITE), EPT12_FILLED);
    assert_int_equal(fill(0x7000000, WRITE), EPT12_FILLED);
    assert_int_equal(fill(GIB + 0x9000, WRITE), EPT12_FILLED);
    eptp12 = other;
    map12(0x3000, 0x5000, RWX_WB);
    assert_int_equal(fill(0x3000, WRITE), EPT12_FILLED);
    (void)take_invept_of(first);
    (void)take_invept_of(other);
    assert_int_equal(ept_watch_add(&watch, 0x5000, &watcher), 0);
    assert_int_equal(leaf02(0x3000).permissions, EPT_R | EPT_X);
    assert_true(take_invept_of(first));
    assert_true(take_invept_of(other));
    eptp12 = first;
    assert_int_equal(leaf02(0x1000).permissions, EPT_R | EPT_X);
    assert_int_equal(leaf02(0x7000000).permissions, EPT_R | EPT_X);
    assert_int_equal(leaf02(0x2000).permissions, EPT_RWX);
    assert_int_equal(leaf02(GIB).permissions, EPT_R | EPT_X);
    /* A store elsewhere in the large page works: the leaf becomes smaller. */
    assert_int_equal(fill(GIB + 0x9000, WRITE), EPT12_FILLED);
    assert_int_equal(leaf02(GIB + 0x9000).level, 1);
    assert_int_equal(fill(GIB + 0x5000, WRITE), EPT12_WATCH);
    ept_watch_remove(&watch, &watcher);
}

static void test_filter_saves_the_scan(void **state)
{
    (void)state;
    map12(0x1000, 0x5000, EPT_R | PUT(6, EPT_MEMTYPE));
    assert_int_equal(fill(0x1000, READ), EPT12_FILLED);
    (void)take_invept();
    assert_int_equal(shared.writable[0], 0);
    assert_int_equal(ept_watch_add(&watch, 0x5000, &watcher), 0);
    assert_false(take_invept());
    ept_watch_remove(&watch, &watcher);
    map12(0x2000, 0x5000, RWX_WB);
    assert_int_equal(fill(0x2000, WRITE), EPT12_FILLED);
    assert_int_equal(shared.writable[0], BIT(5));
    assert_int_equal(ept_watch_add(&watch, 0x5000, &watcher), 0);
    assert_int_equal(shared.writable[0], 0);
    assert_true(take_invept());
    ept_watch_remove(&watch, &watcher);
    /* A large leaf marks all its pages. */
    map12_at(GIB, 2, 0x200000 | RWX_WB | EPT_LARGE, EPT_RWX);
    assert_int_equal(fill(GIB, WRITE), EPT12_FILLED);
    for (unsigned word = 8; word < 16; word++)
        assert_int_equal(shared.writable[word], ~0ull);
    assert_int_equal(shared.writable[7] | shared.writable[16], 0);
    assert_int_equal(ept_watch_add(&watch, 0x2ff000, &watcher), 0);
    assert_int_equal(leaf02(GIB).permissions, EPT_R | EPT_X);
    ept_watch_remove(&watch, &watcher);
}

/* --- Everything at once --- */

/* No EPT02 leaf may allow what EPT01 does not, nor reach Nestor. */
static void check_tables(const uint64_t *table, unsigned level)
{
    for (unsigned i = 0; i < EPT_ENTRIES; i++) {
        struct ept_leaf leaf02_part, leaf01;
        if (!table[i])
            continue;
        if (!ept_is_leaf(table[i], level)) {
            check_tables(hpa_to_va(table[i] & EPT_ADDRESS), level - 1);
            continue;
        }
        leaf02_part = ept_leaf_of(table[i], 0, level);
        assert_false((table[i] & EPT_W) && !(table[i] & EPT_R));
        if (leaf02_part.hpa == ept01.ones_page) {
            assert_false(table[i] & EPT_W);
            continue;
        }
        assert_true(IS_ALIGNED(leaf02_part.hpa, ept_level_size(level)));
        for (uint64_t part = 0; part < ept_level_size(level); part += level == 3 ? LARGE_2M : PAGE_SIZE) {
            leaf01 = ept_translate(&ept01, leaf02_part.hpa + part);
            assert_int_equal(leaf01.hpa, leaf02_part.hpa + part);
            assert_false(leaf02_part.permissions & ~leaf01.permissions);
        }
    }
}

static void check_all_trees(void)
{
    for (unsigned i = 0; i < EPT12_ROOTS; i++)
        if (e.root[i].table)
            check_tables(e.root[i].table, 4);
}

/* What L2 sees: the CPU walks EPT02, Nestor fills. The result is EPT12_FILLED when the access went through. */
static enum ept12_result access_l2(gpa_t gpa2, unsigned access)
{
    for (unsigned tries = 0; tries < 4; tries++) {
        struct ept_leaf leaf = leaf02(gpa2);
        struct ept12_exit out;
        enum ept12_result result;
        if (leaf.level && (leaf.permissions & access) == access)
            return EPT12_FILLED;
        result = ept12_fill(&e, eptp12, gpa2, access, access, false, &out);
        if (result == EPT12_WATCH)
            assert_true(ept_watch_hit(&watch, out.gpa1));
        else if (result != EPT12_FILLED)
            return result;
    }
    fail_msg("the access neither went through nor was it L1's");
    return EPT12_MISCONFIG;
}

static void test_random_life(void **state)
{
    static const unsigned accesses[] = {READ, WRITE, FETCH, READ | WRITE};

    (void)state;
    for (unsigned round = 0; round < 40; round++) {
        next_table = (eptp12 & EP4TA) + PAGE_SIZE;
        eptp12 ^= round % 2 ? EPTP_AD : 0;
        random_tree(8);
        ept12_invept_single(&e, eptp12);
        for (unsigned step = 0; step < 400; step++) {
            gpa_t gpa2 = random_gpa2();
            unsigned access = accesses[host_random() % 4];
            struct expectation x = reference_walk(gpa2, access);
            enum ept12_result result = access_l2(gpa2, access);
            switch (x.kind) {
            case EPT12_WALK_OK:
                if (ept_is_carveout(&ept01, x.gpa1))
                    assert_int_equal(result, access & WRITE ? EPT12_CARVEOUT : EPT12_FILLED);
                else
                    assert_int_equal(result, EPT12_FILLED);
                if (result == EPT12_FILLED && !ept_is_carveout(&ept01, x.gpa1))
                    assert_int_equal(leaf02(gpa2).hpa, x.gpa1);
                break;
            case EPT12_WALK_MISCONFIG:
                assert_int_equal(result, EPT12_MISCONFIG);
                break;
            default:
                assert_int_equal(result, EPT12_VIOLATION);
            }
            assert_false(leaf02(gpa2).permissions & ~x.permissions);
            if (step % 5 == 0 && !watcher.armed) {
                gpa_t page = host_random() % 2 ? ALIGN_DOWN(x.gpa1, PAGE_SIZE) : host_random() % 2048 * PAGE_SIZE;
                (void)!ept_watch_add(&watch, page, &watcher);
            } else if (step % 5 == 3) {
                ept_watch_remove(&watch, &watcher);
            }
            ept_retire_done(&ept01, ept01.generation);
            if (step % 50 == 0)
                check_all_trees();
        }
        check_all_trees();
        ept_watch_remove(&watch, &watcher);
    }
    assert_true(this_cpu()->counters[COUNT_EPT02_RECYCLED] > 0);
}

/* --- Two processors --- */

static volatile bool stop;

/* L2 on one processor stores to a page again and again; it has no other way to W than ept12_fill(). */
static void *store_again_and_again(void *unused)
{
    struct ept12_exit out;

    while (!stop)
        (void)ept12_fill(&e, eptp12, 0x1000, WRITE, WRITE, false, &out);
    return unused;
}

/* While the page is traced by the other processor, no leaf may have W, whatever the fills did at the same time. */
static void test_fill_against_protect(void **state)
{
    struct watcher neighbour = {.stale = became_stale};
    pthread_t thread;
    unsigned seen = 0;

    (void)state;
    map12(0x1000, 0x5000, RWX_WB);
    /* Keeps the large page split: tracing is quick then, and meets the fills more often. */
    assert_int_equal(ept_watch_add(&watch, 0x7000, &neighbour), 0);
    stop = false;
    assert_int_equal(pthread_create(&thread, NULL, store_again_and_again, NULL), 0);
    for (unsigned round = 0; round < 30000; round++) {
        bool writable;
        assert_int_equal(ept_watch_add(&watch, 0x5000, &watcher), 0);
        spinlock_lock(&e.lock);
        writable = leaf02(0x1000).permissions & EPT_W;
        spinlock_unlock(&e.lock);
        seen += writable;
        ept_watch_remove(&watch, &watcher);
    }
    stop = true;
    pthread_join(thread, NULL);
    ept_watch_remove(&watch, &neighbour);
    assert_int_equal(seen, 0);
}

/* A table of EPT12 that is its own next level: A set on one step changes the entry of the next one. L2 faults once
 * more, then all flags are there. */
static void test_table_that_leads_to_itself(void **state)
{
    gpa_t table = eptp12 & EP4TA;
    struct ept12_rules rules = ept12_rules_from(&caps);
    uint64_t *entry = entry_at(table, 0, 4);

    (void)state;
    *entry = table | EPT_RWX;
    eptp12 |= EPTP_AD;
    *entry |= PUT(MEMTYPE_UC, EPT_MEMTYPE); /* as a leaf */
    assert_int_equal(ept12_walk(&gmem, &rules, eptp12, 0, EPT_R, false).kind, EPT12_WALK_RACED);
    assert_int_equal(*entry & (EPT_A | EPT_D), EPT_A);
    assert_int_equal(fill(0, READ), EPT12_FILLED);
    assert_int_equal(leaf02(0).hpa, table);
    assert_int_equal(fill(0, WRITE), EPT12_FILLED);
    assert_int_equal(*entry & (EPT_A | EPT_D), EPT_A | EPT_D);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_walk_against_reference),
        TEST(test_misconfigurations),
        TEST(test_exec_only_and_page_sizes_as_offered),
        TEST(test_tables_that_are_no_ram),
        TEST(test_violation_qualification),
        TEST(test_accessed_and_dirty),
        TEST(test_no_flags_for_what_is_refused),
        TEST(test_flags_of_a_large_page),
        TEST(test_flags_hit_the_watch),
        TEST(test_permissions_are_the_and),
        TEST(test_leaf_size_is_the_smaller),
        TEST(test_memory_types),
        TEST(test_mmio_passes_through),
        TEST(test_carveout),
        TEST(test_invept_is_asked_for_when_something_goes),
        TEST(test_large_page_toggles),
        TEST(test_roots_by_ep4ta_and_ad),
        TEST(test_least_recently_used_root_goes),
        TEST(test_recycling_keeps_the_root),
        TEST(test_nobody_else_leaves_pages),
        TEST(test_init_without_pages),
        TEST(test_traced_page_has_no_w),
        TEST(test_tracing_takes_w_from_all_leaves),
        TEST(test_filter_saves_the_scan),
        TEST(test_random_life),
        TEST(test_fill_against_protect),
        TEST(test_table_that_leads_to_itself),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
