/* sources: nested/evmcs/evmcs.c nested/rules/vmcs12.c vmx/vmcs_table.c vmx/vmcs_exists.c */
#include "tests/host/host.h"

#include <string.h>

#include "nested/evmcs/evmcs.h"

static _Alignas(8) uint8_t page[PAGE_SIZE];
static struct vmcs12 v;
static uint64_t offered[EVMCS_WORDS], changed[EVMCS_WORDS];

/* The list once more, for tests that go through it. */
static const struct {
    unsigned row, offset, group;
    const char *name;
} fields[] = {
#define EVMCS(field, at, in) {FIELD_INDEX_##field, at, EVMCS_##in, #field},
#include "nested/evmcs/evmcs_fields.def"
#undef EVMCS
};

static unsigned width_of(unsigned row)
{
    static const unsigned bytes[] = {
        [VMCS_WIDTH_16] = 2, [VMCS_WIDTH_32] = 4, [VMCS_WIDTH_64] = 8, [VMCS_WIDTH_NAT] = 8};
    return bytes[vmcs_fields[row].width];
}

static int begin(void **state)
{
    (void)state;
    evmcs_init();
    memset(page, 0, sizeof page);
    memset(&v, 0, sizeof v);
    memset(offered, 0xff, sizeof offered);
    return 0;
}

static uint64_t image_of(unsigned i)
{
    uint64_t value = 0;
    memcpy(&value, page + fields[i].offset, width_of(fields[i].row));
    return value;
}

static void store(unsigned i, uint64_t value)
{
    memcpy(page + fields[i].offset, &value, width_of(fields[i].row));
}

/* Figures that the specification's structure gives by itself: natural alignment from its first member on, 1024 bytes
 * in all. Each is behind a different part of it. */
static void test_offsets(void **state)
{
    static const struct {
        unsigned row, offset;
    } known[] = {
        {FIELD_INDEX_HOST_ES_SELECTOR, 8},
        {FIELD_INDEX_HOST_PAT, 24},
        {FIELD_INDEX_HOST_SYSENTER_CS, 88},
        {FIELD_INDEX_IO_BITMAP_A, 104},
        {FIELD_INDEX_GUEST_ES_SELECTOR, 128},
        {FIELD_INDEX_GUEST_ES_BASE, 216},
        {FIELD_INDEX_EXIT_MSR_STORE_ADDR, 320},
        {FIELD_INDEX_TSC_OFFSET, 400},
        {FIELD_INDEX_GUEST_ACTIVITY_STATE, 504},
        {FIELD_INDEX_HOST_RSP, 616},
        {FIELD_INDEX_VPID, 632},
        {FIELD_INDEX_GUEST_PHYSICAL_ADDRESS, 680},
        {FIELD_INDEX_GUEST_RSP, 768},
        {FIELD_INDEX_GUEST_RIP, 816},
        {FIELD_INDEX_XSS_EXITING_BITMAP, 960},
        {FIELD_INDEX_TSC_MULTIPLIER, 984},
    };
    (void)state;
    for (unsigned k = 0; k < ARRAY_SIZE(known); k++) {
        unsigned i = 0;
        while (i < ARRAY_SIZE(fields) && fields[i].row != known[k].row)
            i++;
        assert_int_not_equal(i, ARRAY_SIZE(fields));
        assert_int_equal(fields[i].offset, known[k].offset);
    }
}

static void test_no_two_overlap(void **state)
{
    static bool taken[EVMCS_SIZE];
    (void)state;
    memset(taken, 0, sizeof taken);
    memset(taken + EVMCS_AT_VERSION, 1, 8); /* and the abort indicator */
    memset(taken + EVMCS_AT_CLEAN_FIELDS, 1, 4);
    memset(taken + EVMCS_AT_ENLIGHTENMENTS, 1, 4);
    for (unsigned i = 0; i < ARRAY_SIZE(fields); i++)
        for (unsigned byte = 0; byte < width_of(fields[i].row); byte++) {
            if (taken[fields[i].offset + byte])
                fail_msg("%s overlaps another at %#x", fields[i].name, fields[i].offset + byte);
            taken[fields[i].offset + byte] = true;
        }
}

/* Read-only fields are the exit's, and no others. */
static void test_exit_fields_are_read_only(void **state)
{
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(fields); i++)
        if ((fields[i].group == EVMCS_EXIT) != (vmcs_fields[fields[i].row].area == VMCS_AREA_INFO))
            fail_msg("%s is in the wrong group", fields[i].name);
}

/* Each field by itself: it comes over exactly when its group is not clean, at its width, and alone. */
static void test_each_field_is_read(void **state)
{
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(fields); i++) {
        unsigned row = fields[i].row, group = fields[i].group;
        uint64_t ones = vmcs12_width_mask(row);
        begin(NULL);
        memset(page + EVMCS_SIZE, 0xff, sizeof page - EVMCS_SIZE);
        store(i, ~0ull);
        uint32_t clean = group < EVMCS_ALWAYS ? (uint32_t)(EVMCS_CLEAN_ALL & ~BIT(group)) : (uint32_t)EVMCS_CLEAN_ALL;
        evmcs_read(page, (uint32_t)EVMCS_CLEAN_ALL, offered, &v, changed);
        assert_int_equal(v.field[row], group == EVMCS_ALWAYS ? ones : 0);
        evmcs_read(page, clean, offered, &v, changed);
        if (v.field[row] != (group == EVMCS_EXIT ? 0 : ones))
            fail_msg("%s: %#lx", fields[i].name, (unsigned long)v.field[row]);
        v.field[row] = 0;
        for (unsigned other = 0; other < FIELD_COUNT; other++)
            assert_int_equal(v.field[other], 0);
    }
}

/* `changed` has the fields that differ, and no others: an entry does no work for those that L1 wrote anew as they
 * were. */
static void test_only_what_differs_has_changed(void **state)
{
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(fields); i++) {
        uint64_t value = host_random();
        store(i, value);
        v.field[fields[i].row] = value & vmcs12_width_mask(fields[i].row);
    }
    evmcs_read(page, 0, offered, &v, changed);
    for (unsigned word = 0; word < EVMCS_WORDS; word++)
        assert_int_equal(changed[word], 0);
    for (unsigned i = 0; i < ARRAY_SIZE(fields); i++) {
        store(i, ~image_of(i));
        evmcs_read(page, 0, offered, &v, changed);
        for (unsigned row = 0; row < FIELD_COUNT; row++)
            assert_int_equal(bits_test(changed, row), row == fields[i].row && fields[i].group != EVMCS_EXIT);
    }
}

/* A field that L1's CPU does not have stays 0 in vmcs12, whatever is in the page; exits leave it alone there. */
static void test_fields_of_other_cpus(void **state)
{
    (void)state;
    memset(offered, 0, sizeof offered);
    memset(page, 0x5a, sizeof page);
    evmcs_read(page, 0, offered, &v, changed);
    for (unsigned row = 0; row < FIELD_COUNT; row++)
        assert_int_equal(v.field[row], 0);
    evmcs_write_exit(page, offered, &v);
    for (unsigned i = 0; i < sizeof page; i++)
        assert_int_equal(page[i], 0x5a);
}

/* An exit changes by the SDM: the guest-state area, the fields that describe the exit, and of the controls the
 * event and L2's mode. All else of the page is L1's. SDM 3C 28.2 "Recording VM-Exit Information" */
static bool changes_at_exit(unsigned row)
{
    return vmcs_fields[row].area == VMCS_AREA_GUEST || vmcs_fields[row].area == VMCS_AREA_INFO ||
           row == FIELD_INDEX_ENTRY_INTERRUPTION_INFO || row == FIELD_INDEX_ENTRY_CONTROLS;
}

static void expect_written(bool (*is_written)(unsigned row))
{
    static bool may[PAGE_SIZE];
    memset(may, 0, sizeof may);
    for (unsigned i = 0; i < ARRAY_SIZE(fields); i++) {
        if (!is_written(fields[i].row))
            continue;
        memset(may + fields[i].offset, 1, width_of(fields[i].row));
        assert_int_equal(image_of(i), v.field[fields[i].row] & vmcs12_width_mask(fields[i].row));
    }
    for (unsigned i = 0; i < sizeof page; i++)
        if (!may[i] && page[i] != 0x5a)
            fail_msg("byte %#x was stored to", i);
}

static void fill(void)
{
    memset(page, 0x5a, sizeof page);
    for (unsigned row = 0; row < FIELD_COUNT; row++)
        v.field[row] = host_random() & vmcs12_width_mask(row);
}

static void test_exit_is_written(void **state)
{
    (void)state;
    fill();
    evmcs_write_exit(page, offered, &v);
    expect_written(changes_at_exit);
}

static bool describes_exit(unsigned row)
{
    return vmcs_fields[row].area == VMCS_AREA_INFO;
}

static void test_failure_is_written(void **state)
{
    (void)state;
    fill();
    evmcs_write_failure(page, offered, &v);
    expect_written(describes_exit);
}

/* A CPU that has all loses what Hyper-V does not offer beside version 1 of the page, and nothing else. */
static void test_what_needs_other_fields_goes(void **state)
{
    struct vmx_caps caps, all;
    (void)state;
    memset(&all, 0xff, sizeof all);
    caps = all;
    evmcs_limit(&caps);
    assert_int_equal(~caps.pin.may, PIN_PREEMPTION_TIMER | PIN_POSTED_INTERRUPTS);
    assert_int_equal(~caps.old_pin.may, PIN_PREEMPTION_TIMER | PIN_POSTED_INTERRUPTS);
    assert_int_equal(~caps.proc.may, PROC_TERTIARY);
    assert_int_equal(~caps.proc2.may, PROC2_APIC_ACCESS | PROC2_VIRTUAL_INTERRUPTS | PROC2_PAUSE_LOOP | PROC2_VMFUNC |
                                          PROC2_VMCS_SHADOWING | PROC2_PML | PROC2_EPT_VE | PROC2_SPP);
    assert_int_equal(~caps.exit.may, EXITC_LOAD_PKRS | EXITC_SECONDARY);
    assert_int_equal(~caps.exit2, EXIT2_LOAD_SPEC_CTRL);
    assert_int_equal(~caps.entry.may, ENTRY_LOAD_PKRS | ENTRY_LOAD_UINV);
    assert_int_equal(~caps.proc3, PROC3_SPEC_CTRL | PROC3_MSR_LIST);
    assert_int_equal(caps.ept_vpid, all.ept_vpid);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_offsets, begin),
        cmocka_unit_test_setup(test_no_two_overlap, begin),
        cmocka_unit_test_setup(test_exit_fields_are_read_only, begin),
        cmocka_unit_test_setup(test_each_field_is_read, begin),
        cmocka_unit_test_setup(test_only_what_differs_has_changed, begin),
        cmocka_unit_test_setup(test_fields_of_other_cpus, begin),
        cmocka_unit_test_setup(test_exit_is_written, begin),
        cmocka_unit_test_setup(test_failure_is_written, begin),
        cmocka_unit_test_setup(test_what_needs_other_fields_goes, begin),
    };
    return cmocka_run_group_tests_name("evmcs", tests, NULL, NULL);
}
