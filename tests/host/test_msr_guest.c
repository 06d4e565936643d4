/* sources: vmx/msr_guest.c vmx/msr_policy.c vmx/msr_bitmap.c mm/mtrr.c */
/* cflags: -include tests/host/fake_vmcs.h */
/* L1's values in the CPU's own MSRs while Nestor runs: everything that root operation depends on must
 * not. */
#include "tests/host/host.h"

#include <string.h>

#include "kernel/cmdline.h"
#include "kernel/msr.h"
#include "kernel/safe.h"
#include "mm/page.h"
#include "vmx/msr_guest.h"
#include "vmx/msr_policy.h"
#include "vmx/startup.h"

uint64_t fake_vmcs[0x8000];
struct options options;

static struct vm vm;
static struct vcpu vcpu;
static uint8_t policy_page[PAGE_SIZE] __attribute__((aligned(PAGE_SIZE)));
static unsigned reached; /* WRMSRs that the CPU executed */
static uint32_t reached_msr;
static uint64_t reached_value, read_value, debugctl_bits;

bool wrmsr_safe(uint32_t index, uint64_t value)
{
    reached++;
    reached_msr = index;
    reached_value = value;
    if (index == IA32_APIC_BASE && (read_value & APIC_BASE_EXTD) && GET(value, BITS(11, 10)) == 2)
        return false; /* from x2APIC mode to xAPIC mode */
    if (index == IA32_APIC_BASE)
        read_value = value;
    return index != IA32_DEBUGCTL || !(value & ~debugctl_bits);
}

bool rdmsr_safe(uint32_t index, uint64_t *value)
{
    (void)index;
    *value = read_value;
    return true;
}

void *page_alloc(void)
{
    return policy_page;
}

bool hyperv_has_msr(const struct vcpu *of, uint32_t msr) /* tests/host/test_hyperv.c */
{
    (void)of, (void)msr;
    return false;
}

bool hyperv_read(const struct vcpu *of, uint32_t msr, uint64_t *value)
{
    (void)of, (void)msr, (void)value;
    return false;
}

bool hyperv_write(struct vcpu *of, uint32_t msr, uint64_t value)
{
    (void)of, (void)msr, (void)value;
    return false;
}

bool startup_write_icr(struct vcpu *of, uint64_t value)
{
    (void)of, (void)value;
    return true;
}

bool ept_is_carveout(const struct ept *ept, gpa_t gpa)
{
    return gpa >= ept->carveout_base && gpa - ept->carveout_base < ept->carveout_size;
}

static unsigned hidden; /* times that a page was */
static unsigned apic_resets;

void lapic_reset(void)
{
    apic_resets++;
}

int ept_hide(struct ept *ept, gpa_t page)
{
    static uint64_t entry;
    assert_int_equal(page, 0xfee00000);
    ept->hidden = &entry;
    hidden++;
    return 0;
}

static unsigned traps; /* times that the stores to a page were made exits */

int startup_trap(struct vm *of)
{
    of->apic_page = 0xfee00000;
    traps++;
    return 0;
}

void ept_show(struct ept *ept)
{
    ept->hidden = NULL;
}

int ept_revoke(struct ept_watch *watch, int (*take)(struct ept_watch *watch, void *what), void *what)
{
    return take(watch, what);
}

static unsigned reaches;
static hpa_t reach_end = 64 * GIB;

int hpt_reach(hpa_t start, uint64_t size)
{
    reaches++;
    return start + size > reach_end ? -1 : 0;
}

static bool capability(const struct vmx_caps *offered, uint32_t msr, uint64_t *value)
{
    (void)offered, (void)msr;
    *value = 0;
    return true;
}

static int fresh(void **state)
{
    (void)state;
    memset(&vm, 0, sizeof vm);
    memset(&vcpu, 0, sizeof vcpu);
    memset(fake_vmcs, 0, sizeof fake_vmcs);
    vcpu.vm = &vm;
    vm.vcpus = 1;
    vm.watch.ept01 = &vm.ept01;
    vm.caps.linear_bits = 48;
    vm.caps.address_bits = 40;
    vm.capability_msr = capability;
    vcpu.mtrr = (struct mtrr){.default_type = MTRR_DEF_TYPE_E | MEMTYPE_WB,
                              .fixed_supported = true,
                              .wc_supported = true,
                              .variable_count = 8,
                              .address_mask = BITS(39, 12)};
    debugctl_bits = BITS(11, 6) | BITS(2, 0);
    assert_int_equal(msr_policy_init(&vm), 0);
    reached = 0;
    read_value = 0;
    return 0;
}

static void test_debugctl_of_l1_never_acts_in_root(void **state)
{
    (void)state;
    assert_int_equal(vm.debugctl, debugctl_bits);
    for (unsigned bit = 0; bit < 64; bit++) {
        fake_vmcs[GUEST_DEBUGCTL.encoding] = 0;
        bool accepted = msr_guest_write(&vcpu, IA32_DEBUGCTL, BIT(bit));
        assert_int_equal(accepted, debugctl_bits >> bit & 1);
        assert_int_equal(fake_vmcs[GUEST_DEBUGCTL.encoding], accepted ? BIT(bit) : 0);
    }
    assert_int_equal(reached, 0);
}

static void test_debug_store_is_absent(void **state)
{
    static const uint32_t msrs[] = {IA32_DS_AREA, IA32_PEBS_ENABLE, 0x3f2, IA32_PEBS_BASE, 0x3f5};
    uint64_t value;
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(msrs); i++) {
        assert_false(msr_guest_read(&vcpu, msrs[i], &value));
        assert_false(msr_guest_write(&vcpu, msrs[i], 0xffff800000000000));
    }
    assert_int_equal(reached, 0);
    read_value = ~0ull;
    assert_true(msr_guest_read(&vcpu, IA32_PERF_CAPABILITIES, &value));
    assert_int_equal(value, ~PERF_CAPABILITIES_PEBS);
    vm.debug_store_hidden = true;
    read_value = 0;
    assert_true(msr_guest_read(&vcpu, IA32_MISC_ENABLE, &value));
    assert_int_equal(value, MISC_ENABLE_BTS_UNAVAILABLE | MISC_ENABLE_PEBS_UNAVAILABLE);
    assert_true(msr_guest_write(&vcpu, IA32_MISC_ENABLE, value | 1)); /* the read-only bits do not reach the CPU */
    assert_int_equal(reached_value, 1);
}

static void test_firmware_left_the_debug_store_on(void **state)
{
    (void)state;
    vm.debug_store_hidden = true;
    read_value = 0x1000;
    msr_prepare_processor(&vm);
    assert_true(reached >= 2);
    assert_int_equal(reached_value, 0);
}

static void test_xd_stays(void **state)
{
    (void)state;
    assert_false(msr_guest_write(&vcpu, IA32_MISC_ENABLE, MISC_ENABLE_XD_DISABLE | 1));
    assert_int_equal(reached, 0);
    assert_true(msr_guest_write(&vcpu, IA32_MISC_ENABLE, 1));
    assert_int_equal(reached_msr, IA32_MISC_ENABLE);
}

static void test_trace_is_out_of_reach_of_xrstors(void **state)
{
    (void)state;
    assert_false(msr_guest_write(&vcpu, IA32_XSS, XSS_PROCESSOR_TRACE));
    assert_false(msr_guest_write(&vcpu, IA32_XSS, XSS_PROCESSOR_TRACE | BIT(11)));
    assert_int_equal(reached, 0);
    assert_true(msr_guest_write(&vcpu, IA32_XSS, BIT(11)));
    assert_int_equal(reached_msr, IA32_XSS);
    assert_int_equal(reached_value, BIT(11));
}

/* L1 reads back what it wrote; the CPU's registers, by which root operation caches, stay. */
static void test_mtrrs_are_l1s_own(void **state)
{
    static const struct {
        uint32_t msr;
        uint64_t value;
        bool valid;
    } rows[] = {
        {IA32_MTRR_DEF_TYPE, 0, true},
        {IA32_MTRR_DEF_TYPE, MTRR_DEF_TYPE_E | MTRR_DEF_TYPE_FE | MEMTYPE_UC, true},
        {IA32_MTRR_DEF_TYPE, MTRR_DEF_TYPE_E | 2, false},
        {IA32_MTRR_DEF_TYPE, BIT(8), false},
        {IA32_MTRR_DEF_TYPE, BIT(12), false},
        {IA32_MTRR_PHYSBASE0, 0x3d600000 | MEMTYPE_WC, true},
        {IA32_MTRR_PHYSMASK0, BITS(39, 21) | MTRR_PHYSMASK_VALID, true},
        {IA32_MTRR_PHYSBASE0, 3, false},
        {IA32_MTRR_PHYSBASE0, BIT(8), false},
        {IA32_MTRR_PHYSBASE0, BIT(40), false},
        {IA32_MTRR_PHYSMASK0, BIT(10), false},
        {IA32_MTRR_PHYSMASK0, BIT(40), false},
        {IA32_MTRR_PHYSBASE0 + 15, 0, true},
        {IA32_MTRR_PHYSBASE0 + 16, 0, false},
        {IA32_MTRR_FIX64K_00000, 0x0605040100060504, true},
        {IA32_MTRR_FIX64K_00000, 0x0605040103060504, false},
        {IA32_MTRR_FIX16K_A0000, 0, true},
        {IA32_MTRR_FIX4K_F8000, 0x0101010101010101, true},
    };
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        uint64_t value;
        assert_int_equal(msr_guest_write(&vcpu, rows[i].msr, rows[i].value), rows[i].valid);
        if (rows[i].valid) {
            assert_true(msr_guest_read(&vcpu, rows[i].msr, &value));
            assert_int_equal(value, rows[i].value);
        }
    }
    assert_int_equal(reached, 0);
    vcpu.mtrr.fixed_supported = false;
    assert_false(msr_guest_write(&vcpu, IA32_MTRR_FIX64K_00000, 0));
    assert_false(msr_guest_write(&vcpu, IA32_MTRR_DEF_TYPE, MTRR_DEF_TYPE_FE));
}

/* Nestor's kicks go through the APIC's registers: its tables must lead to the base before L1 moves it there. */
static void test_apic_base_beyond_the_direct_map(void **state)
{
    const uint64_t flags = APIC_BASE_EN | APIC_BASE_BSP;
    (void)state;
    reaches = 0;
    assert_true(msr_guest_write(&vcpu, IA32_APIC_BASE, 0x300000000 | flags));
    assert_int_equal(reaches, 1);
    assert_int_equal(reached_value, 0x300000000 | flags);
    reached = 0;
    assert_false(msr_guest_write(&vcpu, IA32_APIC_BASE, reach_end | flags));
    assert_int_equal(reached, 0);
    vm.ept01.carveout_base = 0x40000000;
    vm.ept01.carveout_size = LARGE_2M;
    assert_false(msr_guest_write(&vcpu, IA32_APIC_BASE, 0x40001000 | flags));
    assert_int_equal(reached, 0);
}

/* SDM 3A 11.12.5: from x2APIC mode only to "disabled" or a reset, and there only by way of xAPIC mode. With
 * apic-disable=0 the APIC stays in x2APIC mode meanwhile. */
static void test_apic_that_stays_on_leaves_x2apic(void **state)
{
    const uint64_t off = 0xfee00000 | APIC_BASE_BSP, xapic = off | APIC_BASE_EN, x2apic = xapic | APIC_BASE_EXTD;
    static const struct {
        uint64_t from, to; /* in addition to off */
        bool valid;
    } rows[] = {
        {0, 0, true},
        {0, APIC_BASE_EN, true},
        {0, APIC_BASE_EXTD, false},
        {0, APIC_BASE_EN | APIC_BASE_EXTD, false},
        {APIC_BASE_EN, 0, true},
        {APIC_BASE_EN, APIC_BASE_EXTD, false},
        {APIC_BASE_EN, APIC_BASE_EN | APIC_BASE_EXTD, true},
        {APIC_BASE_EN | APIC_BASE_EXTD, 0, true},
        {APIC_BASE_EN | APIC_BASE_EXTD, APIC_BASE_EN, false},
        {APIC_BASE_EN | APIC_BASE_EXTD, APIC_BASE_EXTD, false},
        {APIC_BASE_EN | APIC_BASE_EXTD, APIC_BASE_EN | APIC_BASE_EXTD, true},
    };
    (void)state;
    vm.apic_stays_on = vm.apic_is_final = true;
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        vcpu.apic_base = off | rows[i].from;
        read_value = xapic | rows[i].from;
        assert_int_equal(msr_guest_write(&vcpu, IA32_APIC_BASE, off | rows[i].to), rows[i].valid);
        assert_int_equal(vcpu.apic_base, off | (rows[i].valid ? rows[i].to : rows[i].from));
    }
    vm.vcpus = 2; /* the other's page is there, too */
    hidden = traps = 0;
    for (unsigned i = 0; i < 2; i++) {
        vcpu.apic_base = read_value = xapic;
        assert_true(msr_guest_write(&vcpu, IA32_APIC_BASE, off));
    }
    assert_int_equal(hidden, 0);
    assert_int_equal(traps, 1);
    vm.vcpus = 1;
    vm.apic_page = 0;
    vcpu.apic_base = read_value = x2apic;
    assert_true(msr_guest_write(&vcpu, IA32_APIC_BASE, off));
    assert_int_equal(reached_value, x2apic);
    assert_non_null(vm.ept01.hidden); /* nobody's page */
    assert_true(msr_guest_write(&vcpu, IA32_APIC_BASE, xapic));
    assert_null(vm.ept01.hidden);
    assert_int_equal(reached_value, x2apic);
    assert_true(msr_guest_write(&vcpu, IA32_APIC_BASE, x2apic));
    assert_int_equal(reached_value, x2apic);
}

/* Where it comes back, other processors need it, and L1 finds it as after a reset. */
static void test_apic_of_two_processors_stays_on(void **state)
{
    const uint64_t off = 0xfee00000 | APIC_BASE_BSP, xapic = off | APIC_BASE_EN, x2apic = xapic | APIC_BASE_EXTD;
    (void)state;
    vm.apic_stays_on = true;
    vm.vcpus = 2;
    vcpu.apic_base = read_value = x2apic;
    apic_resets = 0;
    assert_true(msr_guest_write(&vcpu, IA32_APIC_BASE, off));
    assert_int_equal(apic_resets, 1); /* no timer of L1's goes on in it */
    assert_int_equal(reached, 1);
    assert_int_equal(reached_value, x2apic);
    assert_int_equal(vcpu.apic_base, off);
    assert_true(msr_guest_write(&vcpu, IA32_APIC_BASE, xapic));
    assert_int_equal(reached, 3);
    assert_int_equal(reached_value, xapic);
    assert_true(vcpu.attention);
}

/* The straight way accesses them without a look at policy or VMCS: for each the register alone must be the answer. */
static void test_plain_msrs_are_the_registers(void **state)
{
    static uint64_t before[ARRAY_SIZE(fake_vmcs)];
    unsigned plain = 0;
    (void)state;
    assert_int_equal(msr_policy_init(&vm), 0);
    vm.caps12.entry.may = ~0u;
    fake_vmcs[ENTRY_CONTROLS_ENCODING] = ~0ull;
    memcpy(before, fake_vmcs, sizeof before);
    for (uint64_t head = 0; head <= UINT32_MAX; head++) {
        uint64_t value;
        if (!msr_is_plain(head))
            continue;
        plain++;
        assert_null(msr_policy_find((uint32_t)head, MSR_READ));
        assert_null(msr_policy_find((uint32_t)head, MSR_WRITE));
        assert_false(msr_policy_watches((uint32_t)head));
        reached = 0;
        read_value = head + 1;
        assert_true(msr_guest_read(&vcpu, (uint32_t)head, &value) && value == head + 1);
        assert_true(msr_guest_write(&vcpu, (uint32_t)head, 0x123));
        assert_int_equal(reached, 1);
        assert_int_equal(reached_msr, head);
        assert_memory_equal(before, fake_vmcs, sizeof before);
        assert_false(msr_is_plain(head | BIT(32)) || msr_is_plain(head | BIT(63)));
    }
    assert_int_equal(plain, 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_debugctl_of_l1_never_acts_in_root, fresh),
        cmocka_unit_test_setup(test_debug_store_is_absent, fresh),
        cmocka_unit_test_setup(test_firmware_left_the_debug_store_on, fresh),
        cmocka_unit_test_setup(test_xd_stays, fresh),
        cmocka_unit_test_setup(test_trace_is_out_of_reach_of_xrstors, fresh),
        cmocka_unit_test_setup(test_mtrrs_are_l1s_own, fresh),
        cmocka_unit_test_setup(test_apic_base_beyond_the_direct_map, fresh),
        cmocka_unit_test_setup(test_apic_that_stays_on_leaves_x2apic, fresh),
        cmocka_unit_test_setup(test_apic_of_two_processors_stays_on, fresh),
        cmocka_unit_test_setup(test_plain_msrs_are_the_registers, fresh),
    };
    return cmocka_run_group_tests_name("msr", tests, NULL, NULL);
}
