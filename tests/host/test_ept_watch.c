/* sources: mm/ept_watch.c mm/ept.c mm/memmap.c mm/mtrr.c mm/page.c */
#include "tests/host/host.h"

#include <string.h>

#include "boot/bootinfo.h"
#include "mm/ept_watch.h"
#include "mm/page.h"

#define POOL_PAGES 512
#define WATCHERS 24

struct counted_watcher {
    struct watcher watcher; /* first */
    unsigned stale;
};

static struct ept ept;
static struct memmap map;
static struct ept_watch watch;
static struct counted_watcher w[WATCHERS];
static uint64_t free_at_start;
static unsigned protect_calls;
static gpa_t protected_page;
static uint64_t permissions_at_protect;

static void became_stale(struct watcher *watcher)
{
    assert_false(watcher->armed);
    ((struct counted_watcher *)watcher)->stale++;
}

static void protect_ept02(void *context, gpa_t page)
{
    assert_ptr_equal(context, w);
    protect_calls++;
    protected_page = page;
    permissions_at_protect = ept_translate(&ept, page).permissions;
}

static int setup(void **state)
{
    uint8_t *memory = host_memory(POOL_PAGES * PAGE_SIZE);

    (void)state;
    page_init(memory, memory + POOL_PAGES * PAGE_SIZE);
    memset(&map, 0, sizeof map);
    assert_int_equal(memmap_set(&map, 0, GIB, REGION_RAM), 0);
    memset(&ept, 0, sizeof ept);
    ept.features = (struct ept_features){true, true, 40};
    ept.map = &map;
    ept.carveout_base = GIB;
    ept.carveout_size = LARGE_2M;
    assert_int_equal(ept_build(&ept), 0);
    watch = (struct ept_watch){.ept01 = &ept, .protect_ept02 = protect_ept02, .context = w};
    memset(w, 0, sizeof w);
    for (unsigned i = 0; i < WATCHERS; i++)
        w[i].watcher.stale = became_stale;
    protect_calls = 0;
    free_at_start = page_count_free();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    ept_retire_done(&ept, ept.generation);
    assert_int_equal(page_count_free(), free_at_start);
    assert_int_equal(watch.pages, 0);
    host_memory_free();
    return 0;
}

static bool writable(gpa_t gpa)
{
    return ept_translate(&ept, gpa).permissions & EPT_W;
}

static void test_add_protects_and_hit_drops(void **state)
{
    (void)state;
    assert_int_equal(ept_watch_add(&watch, 0x5000, &w[0].watcher), 0);
    assert_true(w[0].watcher.armed);
    assert_false(writable(0x5000));
    assert_true(writable(0x4000) && writable(0x6000));
    assert_true(ept_watch_is_watched(&watch, 0x5fff));
    assert_false(ept_watch_is_watched(&watch, 0x6000));
    assert_false(ept_watch_hit(&watch, 0x6000));
    assert_true(ept_watch_hit(&watch, 0x5abc));
    assert_int_equal(w[0].stale, 1);
    assert_true(writable(0x5000));
    assert_false(ept_watch_is_watched(&watch, 0x5000));
    assert_false(ept_watch_hit(&watch, 0x5000));
    assert_int_equal(w[0].stale, 1);
}

static void test_ept02_loses_w_after_ept01(void **state)
{
    (void)state;
    assert_int_equal(ept_watch_add(&watch, 0x7000, &w[0].watcher), 0);
    assert_int_equal(protect_calls, 1);
    assert_int_equal(protected_page, 0x7000);
    assert_false(permissions_at_protect & EPT_W);
    /* The second watcher finds the page protected everywhere. */
    assert_int_equal(ept_watch_add(&watch, 0x7000, &w[1].watcher), 0);
    assert_int_equal(protect_calls, 1);
    assert_true(ept_watch_hit(&watch, 0x7000));
}

static void test_several_watchers_of_one_page(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(ept_watch_add(&watch, 0x8000, &w[i].watcher), 0);
    assert_int_equal(watch.pages, 1);
    ept_watch_remove(&watch, &w[1].watcher);
    assert_false(writable(0x8000));
    assert_true(ept_watch_hit(&watch, 0x8000));
    assert_int_equal(w[0].stale + w[2].stale, 2);
    assert_int_equal(w[1].stale, 0);
    assert_true(writable(0x8000));
}

static void test_last_remove_gives_w_back(void **state)
{
    (void)state;
    assert_int_equal(ept_watch_add(&watch, 0x8000, &w[0].watcher), 0);
    assert_int_equal(ept_watch_add(&watch, 0x8000, &w[1].watcher), 0);
    ept_watch_remove(&watch, &w[0].watcher);
    assert_false(writable(0x8000));
    ept_watch_remove(&watch, &w[1].watcher);
    assert_true(writable(0x8000));
    assert_int_equal(ept_translate(&ept, 0x8000).level, 3);
    ept_watch_remove(&watch, &w[1].watcher);
    assert_int_equal(w[0].stale + w[1].stale, 0);
}

static void test_pages_of_one_bucket(void **state)
{
    gpa_t other = 0x8000 + WATCH_BUCKETS * PAGE_SIZE;

    (void)state;
    assert_int_equal(ept_watch_add(&watch, 0x8000, &w[0].watcher), 0);
    assert_int_equal(ept_watch_add(&watch, other, &w[1].watcher), 0);
    assert_int_equal(ept_watch_add(&watch, 0x8000, &w[2].watcher), 0);
    assert_true(ept_watch_hit(&watch, 0x8000));
    assert_int_equal(w[0].stale + w[2].stale, 2);
    assert_int_equal(w[1].stale, 0);
    assert_false(writable(other));
    ept_watch_remove(&watch, &w[1].watcher);
    assert_true(writable(other));
}

static void test_what_is_no_ram_is_refused(void **state)
{
    (void)state;
    assert_int_equal(ept_watch_add(&watch, GIB, &w[0].watcher), -1);
    assert_int_equal(ept_watch_add(&watch, 0xfee00000, &w[0].watcher), -1);
    assert_false(w[0].watcher.armed);
    assert_int_equal(protect_calls, 0);
    assert_false(ept_watch_is_watched(&watch, GIB));
}

/* A page that the CPU writes past EPT loses its watchers and takes none, until the last that names it so is gone. */
static void test_bypassed_page_is_refused(void **state)
{
    const gpa_t page = 0x8000, other = 0x9000;
    struct ept_bypass b[2] = {{0}};

    (void)state;
    assert_int_equal(ept_watch_add(&watch, page, &w[0].watcher), 0);
    assert_int_equal(ept_watch_add(&watch, other, &w[1].watcher), 0);
    for (unsigned i = 0; i < 2; i++)
        ept_watch_bypass_add(&watch, page, &b[i]);
    assert_int_equal(w[0].stale, 1);
    assert_int_equal(w[1].stale, 0);
    assert_true(writable(page));
    assert_int_equal(ept_watch_add(&watch, page, &w[0].watcher), -1);
    assert_false(w[0].watcher.armed);
    ept_watch_bypass_remove(&watch, &b[0]);
    ept_watch_bypass_remove(&watch, &b[0]);
    assert_int_equal(ept_watch_add(&watch, page, &w[0].watcher), -1);
    ept_watch_bypass_remove(&watch, &b[1]);
    assert_int_equal(ept_watch_add(&watch, page, &w[0].watcher), 0);
    for (unsigned i = 0; i < 2; i++)
        ept_watch_remove(&watch, &w[i].watcher);
}

static void test_wrong_use_is_caught(void **state)
{
    (void)state;
    expect_assert_failure(assert_int_equal(ept_watch_add(&watch, 0x8008, &w[0].watcher), 0));
    w[0].watcher.armed = true;
    expect_assert_failure(assert_int_equal(ept_watch_add(&watch, 0x8000, &w[0].watcher), 0));
}

/* Rounds of everything against a model; nothing may be left over. */
static void test_random_rounds(void **state)
{
    enum { PAGES = 12 };

    (void)state;
    for (unsigned step = 0; step < 30000; step++) {
        unsigned i = (unsigned)(host_random() % WATCHERS);
        gpa_t page = (host_random() % PAGES) * (WATCH_BUCKETS / 2) * PAGE_SIZE;
        unsigned expected_stale[WATCHERS];
        for (unsigned k = 0; k < WATCHERS; k++)
            expected_stale[k] = w[k].stale;
        switch (host_random() % 3) {
        case 0:
            if (!w[i].watcher.armed)
                assert_int_equal(ept_watch_add(&watch, page, &w[i].watcher), 0);
            break;
        case 1:
            ept_watch_remove(&watch, &w[i].watcher);
            break;
        default:
            for (unsigned k = 0; k < WATCHERS; k++)
                expected_stale[k] += w[k].watcher.armed && w[k].watcher.page == page;
            (void)ept_watch_hit(&watch, page + 17);
        }
        for (unsigned p = 0; p < PAGES; p++) {
            gpa_t each = p * (WATCH_BUCKETS / 2) * PAGE_SIZE;
            bool watched = false;
            for (unsigned k = 0; k < WATCHERS; k++)
                watched |= w[k].watcher.armed && w[k].watcher.page == each;
            assert_int_equal(ept_watch_is_watched(&watch, each), watched);
            assert_int_equal(writable(each), !watched);
        }
        for (unsigned k = 0; k < WATCHERS; k++)
            assert_int_equal(w[k].stale, expected_stale[k]);
        if (step % 8 == 0)
            ept_retire_done(&ept, ept.generation);
    }
    for (unsigned k = 0; k < WATCHERS; k++)
        ept_watch_remove(&watch, &w[k].watcher);
    ept_retire_done(&ept, ept.generation);
    for (unsigned p = 0; p < PAGES; p++)
        ept_write_allow(&ept, p * (WATCH_BUCKETS / 2) * PAGE_SIZE);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_add_protects_and_hit_drops),
        TEST(test_ept02_loses_w_after_ept01),
        TEST(test_several_watchers_of_one_page),
        TEST(test_last_remove_gives_w_back),
        TEST(test_pages_of_one_bucket),
        TEST(test_what_is_no_ram_is_refused),
        TEST(test_bypassed_page_is_refused),
        TEST(test_wrong_use_is_caught),
        TEST(test_random_rounds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
