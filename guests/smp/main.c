/* Two processors: the second one is taken away and brought back, races the first one for its L2's bitmap, and shares
 * VMCSs with it. Words of the command line: rounds=N of the race (1000), stores=N of that with L2 (500); soak, with
 * seed=N (1) and ticks=N; startup=1 for the tests of INIT and start-up IPIs alone, migration=1 for that one; flushes=N
 * turns for those of flushes.c, with no-bitmap=1 without MSR bitmaps; posts=N rounds of posts.c alone;
 * features=1: each L2 has all that the CPU has (guests/lib/features.c). */
#include "guests/lib/check.h"
#include "guests/lib/features.h"
#include "guests/lib/mem.h"
#include "guests/lib/start.h"
#include "guests/smp/second.h"
#include "guests/smp/smp.h"

#define RESTARTS 10

uint64_t smp_rounds = 1000, smp_l2_rounds = 500, smp_seed = 1, smp_ticks, smp_flushes, smp_no_bitmap, smp_posts;

/* INIT takes the running processor away; the start-up IPI brings it back from the beginning. */
static void test_restart(void)
{
    for (unsigned i = 0; i < RESTARTS; i++)
        second_start();
}

struct test {
    const char *name;
    void (*body)(void);
};

/* The first STARTUP_TESTS need no long work. */
#define STARTUP_TESTS 7
static const struct test tests[] = {
    {"start", second_start},
    {"restart", test_restart},
    {"init_in_l2", test_init_in_l2},
    {"init_in_root", test_init_in_root},
    {"init_before_l2", test_init_before_l2},
    {"wait_for_sipi", test_wait_for_sipi},
    {"wait_drops_init", test_wait_drops_init},
    {"race", test_race},
    {"race_of_l2", test_race_of_l2},
    {"race_of_lists", test_race_of_lists},
    {"restart_again", test_restart},
    {"migration", test_migration},
    {"travel", test_travel},
    {"shared_vmcs", test_shared_vmcs},
};
static const struct test migration[] = {{"start", second_start}, {"migration", test_migration}};
static const struct test flushes[] = {
    {"start", second_start}, {"l2s_tables", test_l2s_tables}, {"moved", test_moved}, {"vpids", test_vpids}};
static const struct test posts[] = {{"start", second_start}, {"posts", test_posts}};
static const struct test soak[] = {{"start", second_start}, {"soak", test_soak}};

static bool take_number(const char *args, const char *name, size_t length, uint64_t *value)
{
    if (memcmp(args, name, length))
        return false;
    for (*value = 0, args += length; *args >= '0' && *args <= '9'; args++)
        *value = 10 * *value + (uint64_t)(*args - '0');
    return true;
}

static unsigned run(const struct test *test, unsigned count)
{
    unsigned failed = 0;

    print("1..%u\n", count);
    for (unsigned i = 0; i < count; i++) {
        bool passed = check_run(test[i].body);
        print("%sok %u - %s\n", passed ? "" : "not ", i + 1, test[i].name);
        failed += !passed;
    }
    return failed;
}

uint8_t guest_main(const char *args)
{
    uint64_t startup = 0, alone = 0, all = 0;

    for (; *args; args++) {
        (void)take_number(args, "rounds=", 7, &smp_rounds);
        (void)take_number(args, "stores=", 7, &smp_l2_rounds);
        (void)take_number(args, "seed=", 5, &smp_seed);
        (void)take_number(args, "ticks=", 6, &smp_ticks);
        (void)take_number(args, "startup=", 8, &startup);
        (void)take_number(args, "migration=", 10, &alone);
        (void)take_number(args, "flushes=", 8, &smp_flushes);
        (void)take_number(args, "no-bitmap=", 10, &smp_no_bitmap);
        (void)take_number(args, "posts=", 6, &smp_posts);
        (void)take_number(args, "features=", 9, &all);
    }
    if (all) {
        vm_also = features_on;
        features_print();
    }
    second_prepare();
    if (smp_ticks)
        return run(soak, ARRAY_SIZE(soak)) != 0;
    if (smp_flushes)
        return run(flushes, ARRAY_SIZE(flushes)) != 0;
    if (smp_posts)
        return run(posts, ARRAY_SIZE(posts)) != 0;
    if (alone)
        return run(migration, ARRAY_SIZE(migration)) != 0;
    return run(tests, startup ? STARTUP_TESTS : ARRAY_SIZE(tests)) != 0;
}
