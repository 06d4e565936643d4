/* sources: kernel/spinlock.c */
/* cflags: -DCHECKED */
#include "tests/host/host.h"

#include "kernel/percpu.h"
#include "kernel/spinlock.h"

static struct spinlock watch, ept01, unranked;

static int prepare(void **state)
{
    (void)state;
    spinlock_init(&watch, LOCK_WATCH);
    spinlock_init(&ept01, LOCK_EPT01);
    this_cpu()->locks_held = 0;
    return 0;
}

static void test_rising_order(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        spinlock_lock(&watch);
        assert_true(spinlock_is_locked(&watch));
        spinlock_lock(&ept01);
        spinlock_unlock(&watch); /* the order of giving back is free */
        spinlock_unlock(&ept01);
        spinlock_expect_none();
    }
}

static void test_falling_order(void **state)
{
    (void)state;
    spinlock_lock(&ept01);
    expect_assert_failure(spinlock_lock(&watch));
    expect_assert_failure(spinlock_lock(&ept01));
}

static void test_not_held(void **state)
{
    (void)state;
    expect_assert_failure(spinlock_unlock(&watch));
    expect_assert_failure(spinlock_lock(&unranked));
    spinlock_lock(&watch);
    expect_assert_failure(spinlock_expect_none());
}

/* In the NMI handler, whatever the processor held when it came. */
static void test_forbidden(void **state)
{
    (void)state;
    spinlock_lock(&watch);
    spinlock_forbid();
    expect_assert_failure(spinlock_lock(&ept01));
    spinlock_allow();
    spinlock_lock(&ept01);
    spinlock_unlock(&ept01);
    spinlock_unlock(&watch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_rising_order, prepare),
        cmocka_unit_test_setup(test_falling_order, prepare),
        cmocka_unit_test_setup(test_not_held, prepare),
        cmocka_unit_test_setup(test_forbidden, prepare),
    };
    return cmocka_run_group_tests_name("spinlock", tests, NULL, NULL);
}
