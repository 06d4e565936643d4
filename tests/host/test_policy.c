/* sources: vmx/cpuid_policy.c vmx/hyperv_cpuid.c vmx/msr_policy.c vmx/msr_bitmap.c */
#include "tests/host/host.h"

#include <string.h>

#include "kernel/msr.h"
#include "vmx/cpuid_policy.h"
#include "vmx/msr_policy.h"
#include "vmx/vmx_bits.h"

static uint8_t bitmap[PAGE_SIZE];

static int build(void **state)
{
    (void)state;
    memset(bitmap, 0xa5, sizeof bitmap);
    msr_policy_build(bitmap);
    return 0;
}

static void test_msr_rows_are_sorted_and_reasoned(void **state)
{
    const struct msr_policy_row *rows;
    unsigned count;

    (void)state;
    rows = msr_policy_rows(&count);
    assert_true(count > 0);
    for (unsigned i = 0; i < count; i++) {
        assert_true(rows[i].first <= rows[i].last);
        assert_true(i == 0 || rows[i].first > rows[i - 1].last);
        assert_true(rows[i].read || rows[i].write);
        assert_true(strlen(rows[i].reason) > 10);
    }
}

static void test_msr_bitmap_and_rows_agree(void **state)
{
    (void)state;
    for (unsigned bit = 0; bit < 8 * PAGE_SIZE; bit++) {
        enum msr_access access = bit < 4 * PAGE_SIZE ? MSR_READ : MSR_WRITE;
        uint32_t msr = (bit / MSR_BITMAP_RANGE % 2 ? MSR_BITMAP_HIGH_BASE : 0) + bit % MSR_BITMAP_RANGE;

        if (msr_bitmap_test(bitmap, msr, access) != (msr_policy_find(msr, access) != NULL))
            fail_msg("MSR %#x, access %d: bitmap and rows differ", msr, access);
    }
    assert_null(msr_policy_find(0x2000, MSR_READ));
    assert_null(msr_policy_find(0x40000000, MSR_WRITE));
    assert_null(msr_policy_find(0xc0002000, MSR_WRITE));
}

/* MSRs that act in root operation, by the SDM's descriptions, volume 4: each such MSR must have said what it does
 * there. */
static const struct {
    uint32_t first, last;
} acts_in_root[] = {
    {0x10, 0x10},
    {0x1b, 0x1b},
    {0x33, 0x33},
    {0x3b, 0x3b},
    {0x48, 0x49},
    {0x79, 0x79},
    {0xc1, 0xc8},
    {0xe1, 0xe1},
    {0x10b, 0x10b},
    {0x174, 0x176},
    {0x17b, 0x17b},
    {0x186, 0x18d},
    {0x1a0, 0x1a0},
    {0x1a4, 0x1a4},
    {0x1c4, 0x1c5},
    {0x1d9, 0x1d9},
    {0x200, 0x213},
    {0x250, 0x250},
    {0x258, 0x259},
    {0x268, 0x26f},
    {0x277, 0x277},
    {0x280, 0x29f},
    {0x2ff, 0x2ff},
    {0x309, 0x30c},
    {0x38d, 0x391},
    {0x3f1, 0x3f2},
    {0x3f4, 0x3f5},
    {0x400, 0x47f},
    {0x560, 0x561},
    {0x570, 0x572},
    {0x580, 0x587},
    {0x600, 0x600},
    {0x6a0, 0x6a0},
    {0x6a2, 0x6a2},
    {0x6a4, 0x6a8},
    {0x6e0, 0x6e1},
    {0x770, 0x774},
    {0x800, 0x8ff},
    {0x982, 0x982},
    {0xd90, 0xd90},
    {0xd93, 0xd93},
    {0xda0, 0xda0},
    {0x14ce, 0x14ce},
    {0x17d0, 0x17d1},
    {0xc0000080, 0xc0000084},
    {0xc0000100, 0xc0000103},
};
/* Of these, what would write or read memory by an address of L1, or make Nestor's own accesses other than they
 * are. */
static const uint32_t harms_root[] = {0x79,  0x1a0, 0x200, 0x213, 0x250, 0x259, 0x26f, 0x2ff, 0x3f1,
                                      0x3f4, 0x560, 0x570, 0x580, 0x600, 0x982, 0xda0, 0x17d0};

/* The words of the MSR's row on root operation; of one that is kept for writing, or passed. */
static enum msr_root root_of(uint32_t msr)
{
    const struct msr_policy_row *kept = msr_policy_find(msr, MSR_WRITE);
    unsigned count;
    const struct msr_passed_row *passed = msr_passed_rows(&count);

    if (kept)
        return kept->root;
    for (unsigned i = 0; i < count; i++)
        if (msr >= passed[i].first && msr <= passed[i].last)
            return passed[i].root;
    return MSR_ROOT_NONE;
}

static void test_msr_that_acts_in_root_has_said_what(void **state)
{
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(acts_in_root); i++)
        for (uint32_t msr = acts_in_root[i].first; msr <= acts_in_root[i].last; msr++)
            if (root_of(msr) == MSR_ROOT_NONE)
                fail_msg("MSR %#x: no row says what it does in root operation", msr);
    for (unsigned i = 0; i < ARRAY_SIZE(harms_root); i++)
        if (root_of(harms_root[i]) != MSR_ROOT_KEPT || !msr_bitmap_test(bitmap, harms_root[i], MSR_WRITE))
            fail_msg("MSR %#x reaches the CPU", harms_root[i]);
}

/* A row that passes an MSR is not one that keeps it, and says that the CPU switches it only where the VMCS does. */
static void test_msr_passed_rows(void **state)
{
    static const uint32_t switched[] = {IA32_SYSENTER_CS, IA32_SYSENTER_ESP, IA32_SYSENTER_EIP, IA32_DEBUGCTL,
                                        IA32_PAT,         IA32_EFER,         IA32_FS_BASE,      IA32_GS_BASE};
    unsigned count, found = 0;
    const struct msr_passed_row *rows = msr_passed_rows(&count);

    (void)state;
    for (unsigned i = 0; i < count; i++) {
        assert_true(rows[i].first <= rows[i].last && (i == 0 || rows[i].first > rows[i - 1].last));
        assert_true(strlen(rows[i].reason) > 10);
        assert_true(rows[i].root == MSR_ROOT_SWITCHED || rows[i].root == MSR_ROOT_HARMLESS);
        for (uint32_t msr = rows[i].first; msr <= rows[i].last; msr++)
            assert_null(msr_policy_find(msr, MSR_WRITE));
    }
    for (unsigned i = 0; i < ARRAY_SIZE(switched); i++)
        assert_int_equal(root_of(switched[i]), MSR_ROOT_SWITCHED);
    for (unsigned i = 0; i < count; i++)
        found += rows[i].root == MSR_ROOT_SWITCHED ? rows[i].last - rows[i].first + 1 : 0;
    assert_int_equal(found, ARRAY_SIZE(switched));
}

static void test_msr_list_is_short(void **state)
{
    unsigned kept = 0;

    (void)state;
    for (unsigned i = 0; i < MSR_BITMAP_RANGE; i++) {
        for (unsigned high = 0; high < 2; high++) {
            uint32_t msr = i + (high ? MSR_BITMAP_HIGH_BASE : 0);
            kept += msr_bitmap_test(bitmap, msr, MSR_READ) || msr_bitmap_test(bitmap, msr, MSR_WRITE);
        }
    }
    assert_true(kept * 100 < 2 * MSR_BITMAP_RANGE); /* less than 1 % */
}

/* MSRs that L1 and L2 use all the time must cost nothing. */
static void test_msr_hot_ones_are_free(void **state)
{
    static const uint32_t free_msrs[] = {
        IA32_TIME_STAMP_COUNTER,
        IA32_TSC_ADJUST,
        IA32_SPEC_CTRL,
        IA32_PRED_CMD,
        IA32_SYSENTER_CS,
        IA32_SYSENTER_ESP,
        IA32_SYSENTER_EIP,
        IA32_DEBUGCTL,
        IA32_PAT,
        IA32_PERF_GLOBAL_CTRL,
        IA32_TSC_DEADLINE,
        X2APIC_TPR,
        X2APIC_EOI,
        X2APIC_ICR,
        X2APIC_SELF_IPI,
        IA32_EFER,
        IA32_STAR,
        IA32_LSTAR,
        IA32_CSTAR,
        IA32_FMASK,
        IA32_FS_BASE,
        IA32_GS_BASE,
        IA32_KERNEL_GS_BASE,
        IA32_TSC_AUX,
    };

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(free_msrs); i++) {
        if (msr_bitmap_test(bitmap, free_msrs[i], MSR_READ) || msr_bitmap_test(bitmap, free_msrs[i], MSR_WRITE))
            fail_msg("MSR %#x exits", free_msrs[i]);
    }
    assert_false(msr_bitmap_test(bitmap, IA32_APIC_BASE, MSR_READ));
    assert_false(msr_bitmap_test(bitmap, IA32_XSS, MSR_READ));
}

static void test_msr_handlers(void **state)
{
    (void)state;
    for (uint32_t msr = IA32_VMX_BASIC; msr <= IA32_VMX_PROCBASED_CTLS3; msr++) {
        assert_int_equal(msr_policy_find(msr, MSR_READ)->handler, MSR_POLICY_VMX_CAPABILITY);
        assert_int_equal(msr_policy_find(msr, MSR_WRITE)->handler, MSR_POLICY_VMX_CAPABILITY);
    }
    assert_int_equal(msr_policy_find(IA32_FEATURE_CONTROL, MSR_READ)->handler, MSR_POLICY_FEATURE_CONTROL);
    assert_int_equal(msr_policy_find(IA32_FEATURE_CONTROL, MSR_WRITE)->handler, MSR_POLICY_FEATURE_CONTROL);
    assert_int_equal(msr_policy_find(IA32_APIC_BASE, MSR_WRITE)->handler, MSR_POLICY_APIC_BASE);
    assert_int_equal(msr_policy_find(IA32_BIOS_UPDT_TRIG, MSR_WRITE)->handler, MSR_POLICY_IGNORED);
    assert_int_equal(msr_policy_find(IA32_SMM_MONITOR_CTL, MSR_WRITE)->handler, MSR_POLICY_ABSENT);
    for (uint32_t i = 0; i < 64; i++)
        assert_int_equal(msr_policy_find(IA32_MTRR_PHYSBASE0 + i, MSR_WRITE)->handler, MSR_POLICY_MTRR);
    assert_int_equal(msr_policy_find(IA32_MTRR_FIX4K_C0000 + 7, MSR_WRITE)->handler, MSR_POLICY_MTRR);
    assert_int_equal(msr_policy_find(IA32_MTRR_DEF_TYPE, MSR_WRITE)->handler, MSR_POLICY_MTRR);
    assert_null(msr_policy_find(0x494, MSR_READ));
    assert_null(msr_policy_find(0x47f, MSR_READ));
}

static struct cpuid_context context(void)
{
    return (struct cpuid_context){.proc2 = ~0u, .proc3 = ~0ull, .max_basic = 0x20, .max_extended = 0x80000008};
}

static struct cpuid_result filtered(uint32_t leaf, uint32_t subleaf, struct cpuid_context c)
{
    struct cpuid_result all = {~0u, ~0u, ~0u, ~0u};

    cpuid_filter(leaf, subleaf, &c, &all);
    return all;
}

static void expect(struct cpuid_result got, uint64_t eax, uint64_t ebx, uint64_t ecx, uint64_t edx)
{
    assert_int_equal(got.eax, (uint32_t)eax);
    assert_int_equal(got.ebx, (uint32_t)ebx);
    assert_int_equal(got.ecx, (uint32_t)ecx);
    assert_int_equal(got.edx, (uint32_t)edx);
}

static void test_cpuid_hides_only_what_has_a_reason(void **state)
{
    struct cpuid_context c = context();

    (void)state;
    c.cr4 = CR4_OSXSAVE | CR4_PKE;
    expect(filtered(0, 0, c), ~0u, ~0u, ~0u, ~0u);
    /* VMX (5), MONITOR (3) and OSXSAVE (27) stay; SMX (6) and the debug store (2, 4; 21) do not. */
    expect(filtered(1, 0, c), ~0u, ~0u, ~(BIT(6) | BIT(4) | BIT(2)), ~BIT(21));
    expect(filtered(5, 0, c), ~0u, ~0u, ~0u, ~0u);
    expect(filtered(6, 0, c), ~(BIT(19) | BIT(23)), ~0u, ~0u, ~0u);
    expect(filtered(7, 0, c), ~0u, ~(BIT(2) | BIT(25)), ~(BIT(23) | BIT(30)), ~0u);
    expect(filtered(7, 1, c), ~BIT(17), ~0u, ~0u, ~BIT(15));
    expect(filtered(7, 2, c), ~0u, ~0u, ~0u, ~0u);
    for (uint32_t subleaf = 0; subleaf < 3; subleaf++) {
        expect(filtered(0xd, subleaf, c), ~0u, ~0u, subleaf == 1 ? ~BIT(8) : ~0u, ~0u);
        expect(filtered(0x12, subleaf, c), 0, 0, 0, 0);
        expect(filtered(0x14, subleaf, c), 0, 0, 0, 0);
    }
    expect(filtered(0x19, 0, c), 0, 0, 0, 0);
    expect(filtered(0xd, 8, c), 0, 0, 0, 0);
    expect(filtered(0xd, 9, c), ~0u, ~0u, ~0u, ~0u);
    c.max_basic = 0x23;
    expect(filtered(0x23, 0, c), ~BITS(5, 4), ~0u, ~0u, ~0u);
    expect(filtered(0x23, 4, c), 0, 0, 0, 0);
    expect(filtered(0x23, 5, c), 0, 0, 0, 0);
    expect(filtered(0x80000000, 0, c), ~0u, ~0u, ~0u, ~0u);
    expect(filtered(0x80000001, 0, c), ~0u, ~0u, ~0u, ~0u);
    expect(filtered(0x80000008, 0, c), ~0u, ~0u, ~0u, ~0u);
}

static void test_cpuid_never_adds(void **state)
{
    (void)state;
    for (uint32_t leaf = 0; leaf <= 0x20; leaf++) {
        struct cpuid_result none = {0};
        struct cpuid_context c = context();

        cpuid_filter(leaf, 0, &c, &none);
        expect(none, 0, 0, 0, 0);
    }
}

/* A leaf that the exit handler does not filter is one that the filter leaves alone. */
static void test_cpuid_plain_leaves(void **state)
{
    struct cpuid_context c = context();

    (void)state;
    cpuid_find_plain(&c);
    assert_true(cpuid_is_plain(0, &c));
    assert_false(cpuid_is_plain(1, &c));
    assert_false(cpuid_is_plain(7, &c));
    assert_false(cpuid_is_plain(c.max_basic + 1, &c));
    assert_false(cpuid_is_plain(0x80000001, &c));
    for (uint32_t leaf = 0; leaf < 0x60; leaf++) {
        for (uint32_t subleaf = 0; subleaf < 3; subleaf++) {
            struct cpuid_result all = {~0u, ~0u, ~0u, ~0u};

            c.monitor_broken = c.x2apic_broken = c.la57_broken = true;
            c.proc2 = 0;
            cpuid_filter(leaf, subleaf, &c, &all);
            if (cpuid_is_plain(leaf, &c))
                expect(all, ~0u, ~0u, ~0u, ~0u);
        }
    }
}

/* Where bases are judged by CR4.LA57, L1 has neither the bit nor more than 48 bits of linear addresses. */
static void test_cpuid_without_la57(void **state)
{
    struct cpuid_context c = context();
    struct cpuid_result sizes = {0x3934, 0, 0, 0}, kept = sizes;
    uint32_t with = filtered(7, 0, c).ecx;
    (void)state;
    cpuid_filter(0x80000008, 0, &c, &kept);
    assert_int_equal(kept.eax, 0x3934);
    assert_true(with & BIT(16));
    c.la57_broken = true;
    assert_int_equal(filtered(7, 0, c).ecx, with & ~BIT(16));
    cpuid_filter(0x80000008, 0, &c, &sizes);
    assert_int_equal(sizes.eax, 0x3034);
}

/* A disabled APIC is not there. SDM 3A 11.4.3 "Enabling or Disabling the Local APIC" */
static void test_cpuid_without_apic(void **state)
{
    struct cpuid_context c = context();
    uint32_t with = filtered(1, 0, c).edx;
    (void)state;
    assert_true(with & BIT(9));
    c.apic_off = true;
    assert_int_equal(filtered(1, 0, c).edx, with & ~BIT(9));
}

static void test_cpuid_mirrors_cr4(void **state)
{
    struct cpuid_context c = context();
    struct cpuid_result nothing = {0};

    (void)state;
    assert_false(filtered(1, 0, c).ecx & BIT(27));
    assert_false(filtered(7, 0, c).ecx & BIT(4));
    c.cr4 = CR4_OSXSAVE;
    cpuid_filter(1, 7, &c, &nothing);
    assert_int_equal(nothing.ecx, BIT(27));
    c.cr4 = CR4_PKE;
    nothing.ecx = 0;
    cpuid_filter(7, 0, &c, &nothing);
    assert_int_equal(nothing.ecx, BIT(4));
    assert_true(filtered(7, 1, context()).ecx & BIT(4)); /* another leaf's bit */
}

static void test_cpuid_follows_controls(void **state)
{
    struct cpuid_context c = context();

    (void)state;
    c.proc2 = (uint32_t)~PROC2_INVPCID;
    assert_int_equal(filtered(7, 0, c).ebx, (uint32_t) ~(BIT(2) | BIT(25) | BIT(10)));
    c.proc2 = (uint32_t)~PROC2_USER_WAIT;
    assert_false(filtered(7, 0, c).ecx & BIT(5));
    c.proc2 = ~0u;
    assert_true(filtered(7, 0, c).ecx & BIT(5));
    c.proc2 = (uint32_t)~PROC2_PCONFIG;
    assert_int_equal(filtered(7, 0, c).edx, (uint32_t)~BIT(18));
    c.proc2 = (uint32_t)~PROC2_XSAVES;
    assert_int_equal(filtered(0xd, 1, c).eax, (uint32_t)~BIT(3));
    assert_int_equal(filtered(0xd, 0, c).eax, ~0u);
    c.proc3 = ~PROC3_MSR_LIST;
    assert_int_equal(filtered(7, 1, c).eax, (uint32_t) ~(BIT(17) | BIT(27)));
    c.proc2 = (uint32_t)~PROC2_RDTSCP;
    assert_int_equal(filtered(0x80000001, 0, c).edx, (uint32_t)~BIT(27));
}

static void test_cpuid_monitor_quirk(void **state)
{
    struct cpuid_context c = context();

    (void)state;
    assert_true(filtered(1, 0, c).ecx & BIT(3));
    c.monitor_broken = true;
    assert_false(filtered(1, 0, c).ecx & BIT(3));
    expect(filtered(5, 0, c), 0, 0, 0, 0);
}

/* A leaf beyond the highest is answered with the highest basic leaf's data, and that data is judged as such. */
static void test_cpuid_leaf_beyond_highest(void **state)
{
    struct cpuid_context c = context();

    (void)state;
    c.max_basic = 0xd;
    expect(filtered(0x12, 0, c), ~0u, ~0u, ~0u, ~0u);
    expect(filtered(0x14, 0, c), ~0u, ~0u, ~0u, ~0u);
    c.max_basic = 7;
    assert_int_equal(filtered(0x14, 0, c).ebx, (uint32_t) ~(BIT(2) | BIT(25)));
    assert_int_equal(filtered(0x80000009, 0, c).ebx, (uint32_t) ~(BIT(2) | BIT(25)));
    assert_int_equal(filtered(0x40000000, 0, c).ebx, (uint32_t) ~(BIT(2) | BIT(25)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_msr_rows_are_sorted_and_reasoned),
        cmocka_unit_test(test_msr_bitmap_and_rows_agree),
        cmocka_unit_test(test_msr_that_acts_in_root_has_said_what),
        cmocka_unit_test(test_msr_passed_rows),
        cmocka_unit_test(test_msr_list_is_short),
        cmocka_unit_test(test_msr_hot_ones_are_free),
        cmocka_unit_test(test_msr_handlers),
        cmocka_unit_test(test_cpuid_hides_only_what_has_a_reason),
        cmocka_unit_test(test_cpuid_never_adds),
        cmocka_unit_test(test_cpuid_plain_leaves),
        cmocka_unit_test(test_cpuid_mirrors_cr4),
        cmocka_unit_test(test_cpuid_without_la57),
        cmocka_unit_test(test_cpuid_without_apic),
        cmocka_unit_test(test_cpuid_follows_controls),
        cmocka_unit_test(test_cpuid_monitor_quirk),
        cmocka_unit_test(test_cpuid_leaf_beyond_highest),
    };
    return cmocka_run_group_tests_name("policy", tests, build, NULL);
}
