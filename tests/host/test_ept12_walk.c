/* sources: nested/ept02/ept02.c nested/ept02/ept02_around.c nested/ept02/ept02_fill.c nested/ept02/ept02_setup.c
   nested/ept02/ept02_tree.c nested/ept02/ept12_trace.c nested/ept02/ept02_filter.c nested/ept02/ept12_walk.c
   mm/gmem.c mm/ept_watch.c mm/ept.c mm/memmap.c mm/mtrr.c mm/page.c */
#include "tests/host/ept12_world.h"

/* --- The walk --- */

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
        eptp12 ^= EPTP12_MODE_BASED;
        rules = ept12_rules_from(&caps, eptp12);
        for (unsigned i = 0; i < 2000; i++) {
            gpa_t gpa2 = random_gpa2();
            unsigned access = (unsigned)(host_random() & ept12_rights(eptp12));
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
        if (fill(gpa2, row[i].entry & EPT_R ? READ : FETCH) != (row[i].bad ? EPT02_MISCONFIG : EPT02_FILLED))
            fail_msg("row %u", i);
    }
}

static void test_exec_only_and_page_sizes_as_offered(void **state)
{
    (void)state;
    map12(0x1000, 0x5000, EPT_X | PUT(6, EPT_MEMTYPE));
    map12_at(GIB, 2, 0x200000 | RWX_WB | EPT_LARGE, EPT_RWX);
    map12_at(2 * GIB, 3, FAR | RWX_WB | EPT_LARGE, EPT_RWX);
    assert_int_equal(fill(0x1000, FETCH), EPT02_FILLED);
    assert_int_equal(leaf02(0x1000).permissions, EPT_X);
    assert_int_equal(fill(0x1000, READ), EPT02_VIOLATION);
    e.rules[0].exec_only = false;
    assert_int_equal(fill(0x1000, FETCH), EPT02_MISCONFIG);
    assert_int_equal(fill(GIB, READ), EPT02_FILLED);
    e.rules[0].pages_2m = false;
    assert_int_equal(fill(GIB, READ), EPT02_MISCONFIG);
    assert_int_equal(fill(2 * GIB, READ), EPT02_FILLED);
    e.rules[0].pages_1g = false;
    assert_int_equal(fill(2 * GIB, READ), EPT02_MISCONFIG);
}

/* Each kind of fetch has its own right, whether the CPU tells which one it was or not. */
static void test_mode_based_execute(void **state)
{
    const uint64_t fetch = FETCH | EPT_QUAL_GLA_VALID | EPT_QUAL_NOT_WALK;
    struct ept02_exit out;

    (void)state;
    eptp12 |= EPTP12_MODE_BASED;
    for (unsigned case_number = 0; case_number < 16; case_number++) {
        uint64_t x = case_number & 1 ? EPT_X : 0, xu = case_number & 2 ? EPT_XU : 0;
        bool user = case_number & 4, advanced = case_number & 8;
        uint64_t needed = user ? EPT_XU : EPT_X, hardware = fetch | (user && advanced ? EPT_QUAL_USER_PAGE : 0);
        enum ept02_result result;
        map12_at(0x1000, 1, 0x5000 | EPT_R | EPT_W | x | xu | PUT(6, EPT_MEMTYPE), EPT_RWX | EPT_XU);
        e.rules[0].page_rights = advanced ? BITS(11, 9) : 0;
        ept02_forget(&e, eptp12, 0x1000);
        result = ept02_fill(&e, eptp12, 0x1000, FETCH, hardware, false, &out);
        /* Filled, and still refused: the CPU tells what EPT02 has. */
        if (result == EPT02_FILLED && !((x | xu) & needed))
            result =
                ept02_fill(&e, eptp12, 0x1000, FETCH, hardware | ept12_allowed(EPT_R | EPT_W | x | xu), false, &out);
        assert_int_equal(result, (x | xu) & needed ? EPT02_FILLED : EPT02_VIOLATION);
        if (result == EPT02_VIOLATION)
            assert_int_equal(out.qualification, fetch | (hardware & e.rules[0].page_rights) | EPT_QUAL_ALLOWED_READ |
                                                    EPT_QUAL_ALLOWED_WRITE | (x ? EPT_QUAL_ALLOWED_EXEC : 0) |
                                                    (xu ? EPT_QUAL_ALLOWED_USER_EXEC : 0));
    }
}

/* Bit 10 alone makes an entry present, but only with the control; and another EPT02 goes with it. */
static void test_mode_based_is_another_tree(void **state)
{
    gpa_t plain = eptp12, mode_based = eptp12 | EPTP12_MODE_BASED;

    (void)state;
    map12_at(0x1000, 1, 0x5000 | EPT_XU | PUT(6, EPT_MEMTYPE), EPT_RWX | EPT_XU);
    assert_int_equal(fill(0x1000, FETCH), EPT02_VIOLATION);
    eptp12 = mode_based;
    assert_int_equal(fill(0x1000, FETCH), EPT02_FILLED);
    assert_int_equal(fill(0x1000, READ), EPT02_VIOLATION);
    assert_int_equal(leaf02(0x1000).level, 1);
    assert_true(eptp02_of(plain) != eptp02_of(mode_based));
    e.rules[1].exec_only = false;
    assert_int_equal(fill(0x1000, FETCH), EPT02_MISCONFIG);
    eptp12 = plain;
    assert_int_equal(leaf02(0x1000).level, 0);
    assert_int_equal(fill(0x1000, FETCH), EPT02_VIOLATION);
}

static void test_tables_that_are_no_ram(void **state)
{
    (void)state;
    map12_at(0, 4, HOLE | EPT_RWX, EPT_RWX);
    assert_int_equal(fill(0, READ), EPT02_MISCONFIG);
    map12_at(512 * GIB, 3, CARVEOUT | EPT_RWX, EPT_RWX);
    assert_int_equal(fill(512 * GIB, READ), EPT02_MISCONFIG);
    eptp12 = HOLE | 0x1e;
    assert_int_equal(fill(0, READ), EPT02_MISCONFIG);
    eptp12 = CARVEOUT | 0x1e;
    assert_int_equal(fill(0, READ), EPT02_MISCONFIG);
}

/* With advanced information, what the hardware says of L2's own page is L1's to know, and nothing else is. */
static void test_page_rights_of_violations(void **state)
{
    uint64_t hardware = READ | EPT_QUAL_GLA_VALID | EPT_QUAL_NOT_WALK | BITS(11, 9) | BITS(6, 3);
    struct vmx_caps offered = {.ept_vpid = EPT_CAP_ADVANCED_INFO};
    struct ept02_exit out;

    (void)state;
    assert_int_equal(ept02_fill(&e, eptp12, 0x1000, READ, hardware, false, &out), EPT02_VIOLATION);
    assert_int_equal(out.qualification, READ | EPT_QUAL_GLA_VALID | EPT_QUAL_NOT_WALK);
    e.rules[0].page_rights = ept12_rules_from(&offered, eptp12).page_rights;
    assert_int_equal(ept02_fill(&e, eptp12, 0x1000, READ, hardware, false, &out), EPT02_VIOLATION);
    assert_int_equal(out.qualification, READ | EPT_QUAL_GLA_VALID | EPT_QUAL_NOT_WALK | BITS(11, 9));
    hardware &= ~EPT_QUAL_USER_PAGE;
    assert_int_equal(ept02_fill(&e, eptp12, 0x1000, READ, hardware, false, &out), EPT02_VIOLATION);
    assert_int_equal(out.qualification & BITS(11, 9), BITS(11, 10));
}

static void test_violation_qualification(void **state)
{
    struct ept02_exit out;
    uint64_t kept = EPT_QUAL_GLA_VALID | EPT_QUAL_NOT_WALK | EPT_QUAL_NMI_UNBLOCKING;

    (void)state;
    /* Nothing there: no permission at all. */
    assert_int_equal(ept02_fill(&e, eptp12, 0x1000, READ, READ | kept | 0x38, false, &out), EPT02_VIOLATION);
    assert_int_equal(out.qualification, READ | kept);
    /* The AND along the walk, not the leaf alone. */
    map12_at(0x1000, 1, 0x5000 | RWX_WB, EPT_R | EPT_X);
    assert_int_equal(ept02_fill(&e, eptp12, 0x1000, WRITE, WRITE | EPT_QUAL_GLA_VALID, false, &out), EPT02_VIOLATION);
    assert_int_equal(out.qualification, WRITE | EPT_QUAL_GLA_VALID | EPT_QUAL_ALLOWED_READ | EPT_QUAL_ALLOWED_EXEC);
    map12(0x200000000, 0x6000, EPT_R | PUT(6, EPT_MEMTYPE));
    assert_int_equal(ept02_fill(&e, eptp12, 0x200000000, READ | WRITE, READ | WRITE | BITS(11, 9), false, &out),
                     EPT02_VIOLATION);
    assert_int_equal(out.qualification, READ | WRITE | EPT_QUAL_ALLOWED_READ);
    /* A page walk counts as read and write if L1 has A/D flags on. */
    assert_int_equal(ept02_fill(&e, eptp12, 0x9000, WRITE, WRITE | EPT_QUAL_GLA_VALID, false, &out), EPT02_VIOLATION);
    assert_int_equal(out.qualification, WRITE | EPT_QUAL_GLA_VALID);
    eptp12 |= EPTP_AD;
    assert_int_equal(ept02_fill(&e, eptp12, 0x9000, WRITE, WRITE | EPT_QUAL_GLA_VALID, false, &out), EPT02_VIOLATION);
    assert_int_equal(out.qualification, READ | WRITE | EPT_QUAL_GLA_VALID);
    assert_int_equal(ept02_fill(&e, eptp12, 0x9000, WRITE, WRITE | EPT_QUAL_GLA_VALID | EPT_QUAL_NOT_WALK, false, &out),
                     EPT02_VIOLATION);
    assert_int_equal(out.qualification, WRITE | EPT_QUAL_GLA_VALID | EPT_QUAL_NOT_WALK);
    eptp12 &= ~EPTP_AD;
    assert_int_equal(fill(BIT(48), READ), EPT02_VIOLATION);
    assert_int_equal(fill(~0ull, READ), EPT02_VIOLATION);
}

/* --- A/D flags --- */

static void test_accessed_and_dirty(void **state)
{
    uint64_t *entry = map12(0x1000, 0x5000, RWX_WB), *top = entry_at(eptp12 & EP4TA, 0x1000, 4);

    (void)state;
    assert_int_equal(fill(0x1000, WRITE), EPT02_FILLED);
    assert_false((*entry | *top) & (EPT_A | EPT_D));
    eptp12 |= EPTP_AD;
    assert_int_equal(fill(0x1000, READ), EPT02_FILLED);
    assert_int_equal(*entry & (EPT_A | EPT_D), EPT_A);
    assert_int_equal(*top & (EPT_A | EPT_D), EPT_A);
    /* W waits for the first write, which sets D. */
    assert_int_equal(leaf02(0x1000).permissions, EPT_R | EPT_X);
    assert_int_equal(fill(0x1000, WRITE), EPT02_FILLED);
    assert_int_equal(*entry & (EPT_A | EPT_D), EPT_A | EPT_D);
    assert_int_equal(*top & EPT_D, 0);
    assert_int_equal(leaf02(0x1000).permissions, EPT_RWX);
    /* D already set: W at once. */
    map12(0x2000, 0x6000, RWX_WB | EPT_D);
    assert_int_equal(fill(0x2000, READ), EPT02_FILLED);
    assert_int_equal(leaf02(0x2000).permissions, EPT_RWX);
}

static void test_no_flags_for_what_is_refused(void **state)
{
    uint64_t *entry = map12(0x1000, 0x5000, EPT_R | PUT(6, EPT_MEMTYPE));

    (void)state;
    eptp12 |= EPTP_AD;
    assert_int_equal(fill(0x1000, WRITE), EPT02_VIOLATION);
    assert_false(*entry & (EPT_A | EPT_D));
}

static void test_flags_of_a_large_page(void **state)
{
    uint64_t *entry = map12_at(GIB, 2, 0x200000 | RWX_WB | EPT_LARGE, EPT_RWX);

    (void)state;
    eptp12 |= EPTP_AD;
    assert_int_equal(fill(GIB + 0x12345, WRITE), EPT02_FILLED);
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
    assert_int_equal(fill(0x1000, READ), EPT02_FILLED);
    assert_false(watcher.armed);
}

/* A table of EPT12 that is its own next level: A set on one step changes the entry of the next one. L2 faults once
 * more, then all flags are there. */
static void test_table_that_leads_to_itself(void **state)
{
    gpa_t table = eptp12 & EP4TA;
    struct ept12_rules rules = ept12_rules_from(&caps, eptp12);
    uint64_t *entry = entry_at(table, 0, 4);

    (void)state;
    *entry = table | EPT_RWX;
    eptp12 |= EPTP_AD;
    *entry |= PUT(MEMTYPE_UC, EPT_MEMTYPE); /* as a leaf */
    assert_int_equal(ept12_walk(&gmem, &rules, eptp12, 0, EPT_R, false).kind, EPT12_WALK_RACED);
    assert_int_equal(*entry & (EPT_A | EPT_D), EPT_A);
    assert_int_equal(fill(0, READ), EPT02_FILLED);
    assert_int_equal(leaf02(0).hpa, table);
    assert_int_equal(fill(0, WRITE), EPT02_FILLED);
    assert_int_equal(*entry & (EPT_A | EPT_D), EPT_A | EPT_D);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_walk_against_reference),
        TEST(test_misconfigurations),
        TEST(test_exec_only_and_page_sizes_as_offered),
        TEST(test_mode_based_execute),
        TEST(test_mode_based_is_another_tree),
        TEST(test_tables_that_are_no_ram),
        TEST(test_page_rights_of_violations),
        TEST(test_violation_qualification),
        TEST(test_accessed_and_dirty),
        TEST(test_no_flags_for_what_is_refused),
        TEST(test_flags_of_a_large_page),
        TEST(test_flags_hit_the_watch),
        TEST(test_table_that_leads_to_itself),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
