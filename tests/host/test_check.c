/* sources: nested/rules/check_rows.c nested/rules/check_controls.c nested/rules/check_host.c
   nested/rules/check_guest.c nested/rules/check_segments.c nested/rules/check_state.c nested/rules/check_scope.c
   nested/rules/vmcs12.c vmx/vmcs_table.c */
#include "tests/host/host.h"

#include <stdlib.h>

#include "nested/rules/check.c" /* its insides too: a row is judged alone, to see which others fail beside it */
#include "tests/host/check_acceptances.h"
#include "tests/host/check_violations.h"
#include "tests/host/check_world.h"

static const struct check_row *next_row(unsigned *table, unsigned *row)
{
    while (*table < CHECK_TABLES && *row == check_order[*table]->count) {
        ++*table;
        *row = 0;
    }
    return *table < CHECK_TABLES ? &check_order[*table]->rows[(*row)++] : NULL;
}

/* How many rows fail, whatever the order; the names of those other than `rule` go into the failure's message. */
static unsigned failing_rows(struct world *world, const char *rule)
{
    struct check_context context = world_context(world);
    struct check c = make_check(&world->v, &context);
    const struct check_row *row;
    unsigned failing = 0;

    for (unsigned table = 0, index = 0; (row = next_row(&table, &index));) {
        if (!row_fails(&c, row))
            continue;
        failing++;
        if (strcmp(row->rule, rule))
            print_message("beside \"%s\": \"%s\" fails, value %#llx\n", rule, row->rule, (unsigned long long)c.value);
    }
    return failing;
}

static struct check_result judge(struct world *world)
{
    struct check_context context = world_context(world);
    return check_entry(&world->v, &context);
}

static uint64_t value_of_rule(const struct world *world, const char *rule)
{
    const struct check_row *row;

    for (unsigned table = 0, index = 0; (row = next_row(&table, &index));)
        if (!strcmp(row->rule, rule))
            return world->v.field[row->field];
    fail_msg("no row is called \"%s\"", rule);
    return 0;
}

static const struct check_row *row_of_number(unsigned number)
{
    const struct check_row *row;

    for (unsigned table = 0, index = 0; (row = next_row(&table, &index)) && number;)
        number--;
    return row;
}

/* One violation: exactly its row fails, with the kind, the value and the qualification that L1 and the log get. */
static void test_violation(void **state)
{
    const struct violation *violation = *state;
    struct check_result result;
    struct world world;

    world_make(&world, violation->good);
    world_edit(&world, violation->edits);
    result = judge(&world);
    assert_int_equal(result.kind, violation->kind);
    assert_string_equal(result.rule, violation->rule);
    assert_string_equal(row_of_number(result.number)->rule, violation->rule);
    assert_int_equal(result.field, row_of_number(result.number)->field);
    assert_non_null(result.citation);
    assert_int_equal(result.value, value_of_rule(&world, violation->rule));
    assert_int_equal(result.qualification, violation->qualification);
    assert_int_equal(failing_rows(&world, violation->rule), 1 + violation->beside);
}

static void test_accepted(void **state)
{
    const struct acceptance *acceptance = *state;
    struct check_result result;
    struct world world;

    world_make(&world, acceptance->good);
    world_edit(&world, acceptance->edits);
    result = judge(&world);
    if (result.kind != CHECK_OK)
        fail_msg("refused by \"%s\", value %#llx", result.rule, (unsigned long long)result.value);
}

/* A row without a violation above would be a rule that nobody tried. */
static void test_every_row_is_violated(void **state)
{
    const struct check_row *row;
    unsigned rows = 0, missing = 0;

    (void)state;
    for (unsigned table = 0, index = 0; (row = next_row(&table, &index)); rows++) {
        bool found = false;

        for (unsigned i = 0; i < ARRAY_SIZE(violations); i++)
            found |= !strcmp(violations[i].rule, row->rule);
        if (!found)
            print_message("nothing violates \"%s\"\n", row->rule);
        missing += !found;
    }
    assert_true(rows > 100);
    assert_true(rows <= CHECK_RULES_MAX);
    assert_int_equal(missing, 0);
}

static void test_rule_names_differ(void **state)
{
    const struct check_row *row, *other;

    (void)state;
    for (unsigned table = 0, index = 0; (row = next_row(&table, &index));)
        for (unsigned t = table, i = index; (other = next_row(&t, &i));)
            assert_string_not_equal(row->rule, other->rule);
}

static void test_kinds_come_in_order(void **state)
{
    (void)state;
    for (unsigned table = 1; table < CHECK_TABLES; table++)
        assert_true(check_order[table - 1]->kind <= check_order[table]->kind);
}

/* With everything wrong, controls are named before the host and the host before the guest. */
static void test_first_failing_row_wins(void **state)
{
    struct world world;

    (void)state;
    world_make(&world, GOOD_64);
    world.v.VPID = 0;
    world.v.HOST_CR3 = UINT64_MAX;
    world.v.GUEST_RFLAGS = 0;
    assert_int_equal(judge(&world).kind, CHECK_FAIL_CONTROLS);
    world.v.VPID = 1;
    assert_int_equal(judge(&world).kind, CHECK_FAIL_HOST);
    world.v.HOST_CR3 = 0;
    assert_int_equal(judge(&world).kind, CHECK_FAIL_GUEST);
    world.v.GUEST_RFLAGS = RFLAGS_FIXED1;
    assert_int_equal(judge(&world).kind, CHECK_OK);
}

/* An EPTP on its own, as VM functions and INVEPT take it, is judged by the same rules as the field. */
static void test_eptp_alone(void **state)
{
    static const uint64_t bad[] = {0x1019, 0x1000 | 6,      0x1000 | 4 << 3 | 6, 0x109e,
                                   0x1f1e, TOO_WIDE | 0x1e, UINT64_MAX};
    struct vmx_caps caps = model_skylake_x;

    (void)state;
    assert_true(check_eptp(&caps, 0x1000 | 3 << 3 | 6));
    assert_true(check_eptp(&caps, 0x1000 | 3 << 3 | EPTP_AD));
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
        assert_false(check_eptp(&caps, bad[i]));
    caps.ept_vpid &= ~EPT_CAP_AD;
    assert_false(check_eptp(&caps, 0x1000 | 3 << 3 | 6 | EPTP_AD));
}

/* Whatever L1 writes, and whatever it has in memory, there is one verdict and no undefined behaviour. */
static void test_random_mutations(void **state)
{
    unsigned kinds[CHECK_FAIL_GUEST + 1] = {0};

    (void)state;
    for (unsigned round = 0; round < 300000; round++) {
        struct check_result result;
        struct world world;

        world_make(&world, host_random() % GOOD_COUNT);
        for (unsigned edits = host_random() % 4 + 1; edits; edits--) {
            uint64_t *field = &world.v.field[host_random() % FIELD_COUNT];
            *field = host_random() & 1 ? *field ^ BIT(host_random() % 64) : host_random();
        }
        world.link_header = (uint32_t)host_random();
        world.virtual_tpr = host_random();
        world.pdptes[host_random() % 4] = host_random();
        result = judge(&world);
        kinds[result.kind]++;
        assert_int_equal(result.kind == CHECK_OK, result.rule == NULL);
    }
    for (unsigned kind = 0; kind < ARRAY_SIZE(kinds); kind++)
        assert_true(kinds[kind] > 1000); /* the mutations reach every kind of verdict */
}

static void test_random_everything(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 100000; round++) {
        struct check_result result;
        struct world world;

        host_random_fill(&world, sizeof world);
        world.caps.address_bits = 32 + host_random() % 21;
        world.caps.linear_bits = 48 + host_random() % 2 * 9;
        if (round & 1) { /* past the reserved bits of the controls */
            world.caps.pin = world.caps.proc = world.caps.proc2 = (struct ctl_caps){0, UINT32_MAX};
            world.caps.exit = world.caps.entry = (struct ctl_caps){0, UINT32_MAX};
            vmcs12_trim(&world.v);
        }
        result = judge(&world);
        assert_true(result.kind == CHECK_OK || result.citation);
    }
}

int main(void)
{
    static const struct CMUnitTest others[] = {
        cmocka_unit_test(test_every_row_is_violated),
        cmocka_unit_test(test_rule_names_differ),
        cmocka_unit_test(test_kinds_come_in_order),
        cmocka_unit_test(test_first_failing_row_wins),
        cmocka_unit_test(test_eptp_alone),
        cmocka_unit_test(test_random_mutations),
        cmocka_unit_test(test_random_everything),
    };
    static struct CMUnitTest tests[ARRAY_SIZE(violations) + ARRAY_SIZE(acceptances) + ARRAY_SIZE(others)];
    unsigned n = 0;

    for (unsigned i = 0; i < ARRAY_SIZE(violations); i++)
        tests[n++] = (struct CMUnitTest){violations[i].rule, test_violation, NULL, NULL, (void *)&violations[i]};
    for (unsigned i = 0; i < ARRAY_SIZE(acceptances); i++)
        tests[n++] = (struct CMUnitTest){acceptances[i].what, test_accepted, NULL, NULL, (void *)&acceptances[i]};
    for (unsigned i = 0; i < ARRAY_SIZE(others); i++)
        tests[n++] = others[i];
    return _cmocka_run_group_tests("check", tests, n, NULL, NULL);
}
