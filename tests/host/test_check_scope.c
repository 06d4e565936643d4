/* sources: nested/rules/check.c nested/rules/check_rows.c nested/rules/check_controls.c nested/rules/check_host.c
   nested/rules/check_guest.c nested/rules/check_segments.c nested/rules/check_state.c nested/rules/check_scope.c
   nested/rules/caps12.c vmx/vmcs_exists.c nested/rules/vmcs12.c vmx/vmcs_table.c */
#include "nested/rules/check_scope.h"

#include "tests/host/check_world.h"
#include "tests/host/host.h"

/* From an entry that passed, L1 changes fields: the scopes of what it changed find what all rules find. */
static void test_scopes_find_what_all_rules_find(void **state)
{
    unsigned refused = 0;

    (void)state;
    for (unsigned round = 0; round < 600000; round++) {
        struct world world;
        struct check_context context = world_context(&world);
        check_scope_t scope;

        world_make(&world, host_random() % GOOD_COUNT);
        scope = check_scope_of_memory(&world.v);
        for (unsigned edits = host_random() % 3 + 1; edits; edits--) {
            unsigned row = (unsigned)(host_random() % FIELD_COUNT);
            world.v.field[row] =
                host_random() & 1 ? world.v.field[row] ^ BIT(host_random() % 64) : host_random() >> host_random() % 64;
            world.v.field[row] &= vmcs12_width_mask(row);
            scope |= check_scope_of(row) | check_scope_of_memory(&world.v);
        }
        context = world_context(&world);
        struct check_result all = check_entry(&world.v, &context);
        struct check_result some = check_entry_scoped(&world.v, &context, scope);
        assert_int_equal(all.kind, some.kind);
        assert_ptr_equal(all.rule, some.rule);
        refused += all.kind != CHECK_OK;
    }
    assert_true(refused > 100000);
}

static void test_memory_is_judged_again(void **state)
{
    struct world world;

    (void)state;
    world_make(&world, GOOD_PAE_NO_EPT);
    assert_int_not_equal(check_scope_of_memory(&world.v), 0);
    world_make(&world, GOOD_64);
    world.v.VMCS_LINK_POINTER = UINT64_MAX;
    assert_int_equal(check_scope_of_memory(&world.v), 0);
    world.v.VMCS_LINK_POINTER = WORLD_LINK;
    assert_int_not_equal(check_scope_of_memory(&world.v), 0);
}

/* Fields that L1s write at nearly every entry must stay cheap. */
static void test_hot_fields_are_narrow(void **state)
{
    (void)state;
    assert_int_equal(check_scope_of(FIELD_INDEX_GUEST_RSP), 0);
    assert_int_equal(check_scope_of(FIELD_INDEX_PREEMPTION_TIMER), 0);
    assert_int_equal(__builtin_popcount(check_scope_of(FIELD_INDEX_GUEST_RIP)), 1);
    assert_int_equal(check_scope_of(FIELD_INDEX_PROC_CONTROLS), CHECK_SCOPE_ALL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scopes_find_what_all_rules_find),
        cmocka_unit_test(test_memory_is_judged_again),
        cmocka_unit_test(test_hot_fields_are_narrow),
    };
    return cmocka_run_group_tests_name("check_scope", tests, NULL, NULL);
}
