/* sources: */
/* How much memory Nestor takes by itself. */
#include "tests/host/host.h"

#include "mm/carveout.h"

static void test_machines(void **state)
{
    static const struct {
        uint64_t ram_mib, cpus, mib;
    } machines[] = {
        {64, 1, 32},      {512, 1, 32},     {1024, 1, 40},     {1024, 2, 42},      {4096, 4, 94},
        {65536, 24, 326}, {262144, 1, 280}, {262144, 64, 406}, {262144, 256, 790}, {1u << 30, 256, 790},
    };
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(machines); i++)
        assert_int_equal(carveout_mib(machines[i].ram_mib, machines[i].cpus), machines[i].mib);
}

/* More RAM or processors never mean less, and a machine of 256 GiB with 64 processors gives less than a GiB. */
static void test_grows_within_bounds(void **state)
{
    (void)state;
    for (uint64_t ram = 64; ram < BIT(26); ram += ram / 3 + 1)
        for (uint64_t cpus = 1; cpus <= MAX_CPUS; cpus++) {
            uint64_t mib = carveout_mib(ram, cpus);
            assert_true(mib <= carveout_mib(ram + 64, cpus) && mib < carveout_mib(ram, cpus + 1));
            assert_true(mib >= CARVEOUT_MIN_MIB && mib < 1024);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_machines), cmocka_unit_test(test_grows_within_bounds)};
    return cmocka_run_group_tests_name("carveout", tests, NULL, NULL);
}
