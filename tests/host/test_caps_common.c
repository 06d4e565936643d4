/* sources: vmx/caps_common.c vmx/caps_missing.c */
/* The common part of processors that differ, and the differences for which there is none. */
#include "tests/host/host.h"

#include "kernel/msr.h"
#include "tests/host/cpu_models.h"
#include "vmx/vmx_bits.h"

static void assert_within(struct ctl_caps common, struct ctl_caps one)
{
    assert_int_equal(one.must & ~common.must, 0);
    assert_int_equal(common.may & ~one.may, 0);
}

/* All pairs with one revision: neither is asked for what it cannot do, and the order does not matter. */
static void test_common_is_what_both_can(void **state)
{
    unsigned pairs = 0;

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(models); i++)
        for (unsigned j = 0; j < ARRAY_SIZE(models); j++) {
            struct vmx_caps a = *models[i], b = *models[j], common, other;

            a.basic = (a.basic & ~VMX_BASIC_REVISION) | 4;
            b.basic = (b.basic & ~VMX_BASIC_REVISION) | 4;
            common = a;
            other = b;
            assert_null(caps_meet(&common, &b));
            assert_null(caps_meet(&other, &a));
            assert_memory_equal(&common, &other, sizeof common);
            for (unsigned k = 0; k < 2; k++) {
                const struct vmx_caps *one = k ? &b : &a;
                assert_within(common.pin, one->pin);
                assert_within(common.proc, one->proc);
                assert_within(common.proc2, one->proc2);
                assert_within(common.exit, one->exit);
                assert_within(common.entry, one->entry);
                assert_within(common.old_proc, one->old_proc);
                assert_int_equal(common.ept_vpid & ~one->ept_vpid, 0);
                assert_int_equal(common.vmfunc & ~one->vmfunc, 0);
                assert_int_equal(common.cr4_fixed1 & ~one->cr4_fixed1, 0);
            }
            pairs++;
        }
    assert_int_equal(pairs, ARRAY_SIZE(models) * ARRAY_SIZE(models));
}

static void test_no_common_ground_is_named(void **state)
{
    struct vmx_caps common, other = model_skylake_x;

    (void)state;
    common = model_skylake_x;
    other.basic++;
    assert_string_equal(caps_meet(&common, &other), "one VMCS revision and memory type");
    common = other = model_skylake_x;
    common.proc.must |= PROC_HLT;
    other.proc.may &= ~(uint32_t)PROC_HLT;
    assert_string_equal(caps_meet(&common, &other), "one set of primary processor-based VM-execution controls");
    common = other = model_skylake_x;
    other.cr4_fixed1 = 0;
    assert_string_equal(caps_meet(&common, &other), "one set of fixed bits in CR0 and CR4");
    common = other = model_skylake_x;
    other.proc2.may &= ~(uint32_t)PROC2_EPT;
    assert_string_equal(caps_meet(&common, &other), "EPT");
    common = model_skylake_x;
    assert_non_null(caps_meet(&common, &(struct vmx_caps){0})); /* nothing was read of it */
}

static void test_numbers(void **state)
{
    struct vmx_caps common = model_skylake_x, other = model_skylake_x;

    (void)state;
    other.misc = (other.misc & ~(VMX_MISC_TIMER_RATE | VMX_MISC_CR3_TARGETS)) | 5 | PUT(2, VMX_MISC_CR3_TARGETS);
    other.address_bits = other.usable_bits = 36;
    other.address_mask = BITS(35, 12);
    common.usable_bits = 39;
    common.address_mask = BITS(39, 12);
    common.proc3 = 0x42;
    other.proc3 = 0x40;
    common.exit2 = common.spec_ctrl = 0xc;
    other.exit2 = other.spec_ctrl = 4;
    other.ept_vpid &= ~VPID_CAP_SINGLE;
    assert_null(caps_meet(&common, &other));
    assert_int_equal(GET(common.misc, VMX_MISC_CR3_TARGETS), 2);
    assert_int_equal(common.pin.may & PIN_PREEMPTION_TIMER, 0); /* another unit of time on each */
    assert_int_equal(common.exit.may & EXITC_SAVE_TIMER, 0);
    assert_int_equal(common.address_bits, 36);
    assert_int_equal(common.usable_bits, 36);
    assert_int_equal(common.address_mask, BITS(35, 12));
    assert_int_equal(common.proc3, 0x40);
    assert_int_equal(common.exit2, 4);
    assert_int_equal(common.spec_ctrl, 4);
    assert_int_equal(common.vpid_flush, INVVPID_ALL);
    assert_true(common.proc2.may & PROC2_VPID);
    common.ept_vpid = (common.ept_vpid & ~VPID_CAP_ALL) | VPID_CAP_SINGLE; /* none of the two has both */
    assert_null(caps_meet(&common, &other));
    assert_int_equal(common.vpid_flush, 0);
    assert_false(common.proc2.may & PROC2_VPID); /* nothing could drop what a VPID has */
}

/* KeyIDs take the highest bits of MAXPHYADDR once memory encryption is on and locked. */
static void test_usable_bits(void **state)
{
    (void)state;
    assert_int_equal(caps_usable_bits(46, 0), 46);
    assert_int_equal(caps_usable_bits(46, TME_ACTIVATE_LOCK | TME_ACTIVATE_ENABLE), 46);
    assert_int_equal(caps_usable_bits(46, TME_ACTIVATE_LOCK | TME_ACTIVATE_ENABLE | PUT(6, TME_ACTIVATE_KEYID_BITS)),
                     40);
    assert_int_equal(caps_usable_bits(52, TME_ACTIVATE_LOCK | TME_ACTIVATE_ENABLE | PUT(15, TME_ACTIVATE_KEYID_BITS)),
                     37);
    assert_int_equal(caps_usable_bits(46, TME_ACTIVATE_LOCK | PUT(6, TME_ACTIVATE_KEYID_BITS)), 46);
    assert_int_equal(caps_usable_bits(46, TME_ACTIVATE_ENABLE | PUT(6, TME_ACTIVATE_KEYID_BITS)), 46);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_common_is_what_both_can),
        cmocka_unit_test(test_no_common_ground_is_named),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_usable_bits),
    };
    return cmocka_run_group_tests_name("caps_common", tests, NULL, NULL);
}
