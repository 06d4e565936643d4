/* sources: vmx/step.c mm/ept_watch.c mm/ept.c mm/memmap.c mm/mtrr.c mm/page.c */
/* cflags: -include tests/host/fake_vmcs.h */
#include "tests/host/host.h"

#include <string.h>

#include "boot/bootinfo.h"
#include "mm/page.h"
#include "vmx/hooks.h"
#include "vmx/step.h"

#define POOL_PAGES 64
#define CARVEOUT GIB

uint64_t fake_vmcs[0x8000];
struct nested_hooks nested_hooks;

static struct vm vm;
static struct vcpu vcpu[2];
static unsigned kicks;
static gpa_t closed[STEP_MAX + 1];
static unsigned closed_count;

static void synchronize(struct ept *ept01)
{
    (void)ept01;
    kicks++;
}

static void close_l2_page(struct vcpu *of, gpa_t gpa2)
{
    assert_ptr_equal(of, &vcpu[1]);
    closed[closed_count++] = gpa2;
}

static int setup(void **state)
{
    uint8_t *memory = host_memory(POOL_PAGES * PAGE_SIZE);

    (void)state;
    page_init(memory, memory + POOL_PAGES * PAGE_SIZE);
    memset(&vm, 0, sizeof vm);
    assert_int_equal(memmap_set(&vm.map, 0, GIB, REGION_RAM), 0);
    vm.caps.proc.may = PROC_MONITOR_TRAP;
    vm.ept01.features = (struct ept_features){true, true, 40};
    vm.ept01.map = &vm.map;
    vm.ept01.carveout_base = CARVEOUT;
    vm.ept01.carveout_size = LARGE_2M;
    assert_int_equal(ept_build(&vm.ept01), 0);
    vm.watch = (struct ept_watch){.ept01 = &vm.ept01, .lock = SPINLOCK(LOCK_WATCH), .synchronize = synchronize};
    for (unsigned i = 0; i < ARRAY_SIZE(vcpu); i++)
        vcpu[i] = (struct vcpu){.vm = &vm};
    memset(fake_vmcs, 0, sizeof fake_vmcs);
    nested_hooks.close_l2_page = close_l2_page;
    kicks = closed_count = 0;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    host_memory_free();
    return 0;
}

static uint64_t *leaf(unsigned page)
{
    return ept_carveout_entry(&vm.ept01, CARVEOUT + page * PAGE_SIZE);
}

static uint64_t first_word_of_ones(void)
{
    return *(uint64_t *)hpa_to_va(vm.ept01.ones_page);
}

/* A processor that closes a leaf of EPT01 makes the others exit, which ends their steps: the second one waits. */
static void test_one_at_a_time_in_ept01(void **state)
{
    (void)state;
    step_begin(&vcpu[0], leaf(3));
    assert_true(*leaf(3) & EPT_W);
    for (unsigned page = 3; page < 5; page++) {
        step_begin(&vcpu[1], leaf(page));
        assert_false(step_active(&vcpu[1]));
        assert_int_equal(vcpu[1].step.open, 0);
    }
    assert_int_equal(*leaf(4) & EPT_W, 0);
    step_begin(&vcpu[0], leaf(4)); /* the same instruction's next page */
    assert_int_equal(kicks, 0);
    *(uint64_t *)hpa_to_va(vm.ept01.ones_page) = 0;
    (void)step_end(&vcpu[0]);
    assert_int_equal(kicks, 1);
    assert_int_equal((*leaf(3) | *leaf(4)) & EPT_W, 0);
    assert_int_equal(first_word_of_ones(), ~0ull);
    step_begin(&vcpu[1], leaf(3));
    assert_true(step_active(&vcpu[1]));
    (void)step_end(&vcpu[1]);
    assert_int_equal(*leaf(3) & EPT_W, 0);
}

/* Leaves of EPT02 are the processor's own: they are looked for by address, whatever has become of the table, and nobody
 * is kicked for them. */
static void test_pages_of_l2(void **state)
{
    uint64_t in_ept02 = 0;

    (void)state;
    step_begin(&vcpu[0], leaf(3));
    step_begin_in_l2(&vcpu[1], &in_ept02, 0x5000);
    step_begin_in_l2(&vcpu[1], &in_ept02, 0x7000);
    assert_true(in_ept02 & EPT_W);
    (void)step_end(&vcpu[1]);
    assert_int_equal(closed_count, 2);
    assert_int_equal(closed[0], 0x5000);
    assert_int_equal(closed[1], 0x7000);
    assert_int_equal(kicks, 0);
    assert_true(in_ept02 & EPT_W); /* the hook's affair */
    assert_true(*leaf(3) & EPT_W); /* the other's */
    (void)step_end(&vcpu[0]);
}

static void test_more_pages_than_there_is_room(void **state)
{
    (void)state;
    for (unsigned i = 0; i <= STEP_MAX; i++)
        step_begin(&vcpu[0], leaf(i));
    assert_int_equal(vcpu[0].step.open, 1);
    assert_int_equal(*leaf(0) & EPT_W, 0);
    assert_true(*leaf(STEP_MAX) & EPT_W);
    (void)step_end(&vcpu[0]);
    assert_int_equal(*leaf(STEP_MAX) & EPT_W, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_one_at_a_time_in_ept01),
        TEST(test_pages_of_l2),
        TEST(test_more_pages_than_there_is_room),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
