/* sources: nested/window.c */
/* The areas of the port of inspect= that nested/ answers: L1's current VMCS, and its bitmap. */
#include "tests/host/host.h"

#include <string.h>

#include "kernel/inspect_abi.h"
#include "nested/prepare.h"
#include "nested/window.h"

static struct nested nested;
static struct vcpu vcpu = {.nested = &nested};
static struct vmcs12 v;
static uint8_t page[PAGE_SIZE];
static unsigned fetched;

void prepare_fetch_rows(struct nested *of, struct vmcs12_slot *slot)
{
    assert_ptr_equal(of, &nested);
    assert_ptr_equal(slot, &nested.slot[3]);
    fetched++;
    v.GUEST_RIP = 0x1234567800000000 + fetched; /* what vmcs02 had */
}

const uint8_t *slot_bitmaps_l1_page(const struct slot_bitmaps *s, const struct merged_cache *cache,
                                    enum merged_kind kind, gpa_t gpa1)
{
    (void)s, (void)cache;
    assert_int_equal(kind, MERGED_MSR);
    assert_int_equal(gpa1 % PAGE_SIZE, 0); /* gmem_page() asks for it */
    return gpa1 == 0x5000 ? page : NULL;
}

static int setup(void **state)
{
    (void)state;
    memset(&nested, 0, sizeof nested);
    memset(&v, 0, sizeof v);
    fetched = 0;
    nested.slot[3].v = &v;
    nested.slot[3].vmptr = 0x7000;
    return 0;
}

static void take(uint32_t area, void *buffer, size_t size)
{
    for (size_t at = 0; at < size; at += 4) {
        uint32_t word = window_word(&vcpu, area, at);
        memcpy((uint8_t *)buffer + at, &word, sizeof word);
    }
}

static void test_nothing_to_show(void **state)
{
    struct inspect_vmcs head;
    struct inspect_bitmap bitmap;

    (void)state;
    take(INSPECT_VMCS, &head, sizeof head);
    assert_true(head.vmptr == ~0ull && head.fields == FIELD_COUNT);
    assert_int_equal(window_word(&vcpu, INSPECT_VMCS, sizeof head), ~0u);
    nested.current = &nested.slot[3]; /* of before VMXOFF */
    take(INSPECT_VMCS, &head, sizeof head);
    take(INSPECT_BITMAP, &bitmap, sizeof bitmap);
    assert_true(head.vmptr == ~0ull && bitmap.vmptr == ~0ull && bitmap.page == ~0ull);
    assert_int_equal(fetched, 0);
}

static void test_vmcs(void **state)
{
    struct {
        struct inspect_vmcs head;
        uint64_t field[FIELD_COUNT];
    } got;

    (void)state;
    nested.vmxon = true;
    nested.current = &nested.slot[3];
    v.launched = 1;
    for (unsigned i = 0; i < FIELD_COUNT; i++)
        v.field[i] = 0x100000001 * i;
    take(INSPECT_VMCS, &got, sizeof got);
    assert_int_equal(fetched, 1);
    assert_true(got.head.vmptr == 0x7000 && got.head.launched == 1 && got.head.fields == FIELD_COUNT);
    assert_memory_equal(got.field, v.field, sizeof v.field);
    assert_true(got.field[FIELD_INDEX_GUEST_RIP] == 0x1234567800000001);
    assert_int_equal(window_word(&vcpu, INSPECT_VMCS, sizeof got), ~0u);
    assert_int_equal(window_word(&vcpu, INSPECT_VMCS, sizeof got - 2), ~0u);
}

static void test_bitmap(void **state)
{
    struct {
        struct inspect_bitmap head;
        uint8_t page[PAGE_SIZE];
    } got;

    (void)state;
    nested.vmxon = true;
    nested.current = &nested.slot[3];
    v.MSR_BITMAP = 0x5000;
    host_random_fill(page, sizeof page);
    take(INSPECT_BITMAP, &got, sizeof got);
    assert_true(got.head.vmptr == 0x7000 && got.head.page == ~0ull); /* the control is off */
    assert_int_equal(got.page[100], 0xff);
    v.PROC_CONTROLS = PROC_USE_MSR_BITMAPS;
    take(INSPECT_BITMAP, &got, sizeof got);
    assert_true(got.head.page == 0x5000);
    assert_memory_equal(got.page, page, sizeof page);
    assert_int_equal(window_word(&vcpu, INSPECT_BITMAP, sizeof got), ~0u);
    v.MSR_BITMAP = 0x9000; /* no RAM */
    take(INSPECT_BITMAP, &got, sizeof got);
    assert_int_equal(got.page[0], 0xff);
    v.MSR_BITMAP = 0x5123; /* VMWRITE takes it */
    take(INSPECT_BITMAP, &got, sizeof got);
    assert_true(got.head.page == 0x5123);
    assert_int_equal(got.page[0], 0xff);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_nothing_to_show, setup),
        cmocka_unit_test_setup(test_vmcs, setup),
        cmocka_unit_test_setup(test_bitmap, setup),
    };
    return cmocka_run_group_tests_name("window", tests, NULL, NULL);
}
