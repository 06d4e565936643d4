/* sources: nested/bitmap/merged.c nested/bitmap/merged_cache.c nested/bitmap/merged_dump.c
   nested/bitmap/merged_pays.c nested/bitmap/merged_words.c nested/bitmap/merged_wrong.c nested/rules/merge.c
   nested/rules/caps12.c nested/rules/vmcs12.c vmx/vmcs_exists.c vmx/vmcs_table.c vmx/msr_bitmap.c vmx/msr_policy.c
   mm/ept_watch.c mm/ept.c mm/memmap.c mm/mtrr.c mm/page.c kernel/cmdline.c kernel/format.c */
/* MSRs 800H to 8FFH of L2, with every combination of the controls that virtualise the APIC, switched on and off again
 * (CVE-2019-3887): no access reaches a register of the machine's APIC that L0 or L1 keeps. */
#include "tests/host/merged_world.h"

#include "kernel/msr.h"
#include "nested/rules/caps12.h"
#include "nested/rules/merge.h"
#include "tests/host/cpu_models.h"
#include "vmx/msr_bitmap.h"
#include "vmx/msr_policy.h"

#define COMBINATIONS 8u
#define X2APIC_CONTROLS (PROC2_X2APIC | PROC2_APIC_REGISTER | PROC2_VIRTUAL_INTERRUPTS)

static struct vmcs12 v;
static struct vmx_caps cpu, caps12;
static uint64_t generation; /* of l0_page */

static uint64_t controls_of(unsigned combination)
{
    return (combination & 1 ? PROC2_X2APIC : 0) | (combination & 2 ? PROC2_APIC_REGISTER : 0) |
           (combination & 4 ? PROC2_VIRTUAL_INTERRUPTS : 0);
}

/* Registers that the CPU serves from the virtual-APIC page. SDM 3C 30.5 "Virtualizing MSR-Based APIC Accesses" */
static bool is_virtual(uint32_t proc2, uint32_t msr, enum msr_access access)
{
    if (!(proc2 & PROC2_X2APIC))
        return false;
    if (access == MSR_READ)
        return msr == X2APIC_TPR || (proc2 & PROC2_APIC_REGISTER);
    return msr == X2APIC_TPR || ((proc2 & PROC2_VIRTUAL_INTERRUPTS) && (msr == X2APIC_EOI || msr == X2APIC_SELF_IPI));
}

/* True if L2's access gets at the machine's APIC: it does not exit, and is not virtual. */
static bool reaches_apic(const struct merged_controls *c, const uint8_t *bitmap, uint32_t msr, enum msr_access access)
{
    if (!(c->proc & PROC_USE_MSR_BITMAPS) || msr_bitmap_test(bitmap, msr, access))
        return false;
    return !is_virtual(c->proc & PROC_SECONDARY ? c->proc2 : 0, msr, access);
}

static struct merged_controls merge_with(uint64_t controls)
{
    v.PIN_CONTROLS = caps12.pin.must | PIN_EXTERNAL_INTERRUPT;
    v.PROC_CONTROLS = caps12.proc.must | PROC_SECONDARY | PROC_USE_MSR_BITMAPS | PROC_TPR_SHADOW;
    v.PROC2_CONTROLS = caps12.proc2.must | controls;
    v.EXIT_CONTROLS = caps12.exit.must;
    v.ENTRY_CONTROLS = caps12.entry.must;
    struct merge_input in = {.v = &v, .cpu = &cpu, .msr_bitmap_merged = true};
    return merge_controls(&in);
}

/* Returns how many accesses reach the APIC though somebody keeps them. */
static unsigned check_entry(struct merged *m, unsigned combination)
{
    unsigned holes = 0;
    struct merged_controls c = merge_with(controls_of(combination));
    assert_int_equal(c.proc2 & X2APIC_CONTROLS, controls_of(combination));
    refresh(m, (struct merged_policy){l0_page, generation});
    for (uint32_t msr = X2APIC_MSR_FIRST; msr <= X2APIC_MSR_LAST; msr++)
        for (enum msr_access access = MSR_READ; access <= MSR_WRITE; access++) {
            bool kept = msr_bitmap_test(l0_page, msr, access), wanted = msr_bitmap_test(memory + PAGE_A, msr, access);
            holes += (kept || wanted) && reaches_apic(&c, m->result, msr, access);
            /* An MSR that L0 keeps is the machine's: never one that L1 has the CPU virtualise for L2. */
            assert_false(kept && is_virtual((uint32_t)controls_of(combination), msr, access));
        }
    return holes;
}

/* As vmx/msr_guest.c:msr_policy_init makes it, where L0 also takes the start-up IPIs. */
static void build_policy(bool startup_trapped)
{
    generation++;
    msr_policy_build(l0_page);
    if (startup_trapped)
        msr_bitmap_set(l0_page, X2APIC_ICR, MSR_WRITE);
}

/* L1's bits of the range: none, all, or any. */
static void store_l1_bits(unsigned pattern)
{
    for (enum msr_access access = MSR_READ; access <= MSR_WRITE; access++)
        for (uint32_t msr = X2APIC_MSR_FIRST; msr <= X2APIC_MSR_LAST; msr += 8) {
            gpa_t gpa = PAGE_A + (access == MSR_WRITE ? 0x800u : 0u) + msr / 8;
            l1_store(gpa, pattern == 0 ? 0 : pattern == 1 ? 0xff : (uint8_t)host_random());
        }
}

static unsigned check_all_pairs(void)
{
    struct merged *m = get(PAGE_A);
    unsigned holes = 0;
    cpu = model_skylake_x;
    caps12_compute(&cpu, &caps12);
    assert_int_equal(caps12.proc2.may & X2APIC_CONTROLS, X2APIC_CONTROLS);
    for (unsigned from = 0; from < COMBINATIONS; from++)
        for (unsigned to = 0; to < COMBINATIONS; to++)
            for (unsigned pattern = 0; pattern < 6; pattern++) {
                store_l1_bits(pattern);
                holes += check_entry(m, from);
                holes += check_entry(m, to);
                if (pattern % 2)
                    store_l1_bits(pattern);
                holes += check_entry(m, to);
            }
    put(m);
    return holes;
}

static void test_no_kept_register_is_reached(void **unused)
{
    (void)unused;
    for (unsigned startup_trapped = 0; startup_trapped < 2; startup_trapped++) {
        build_policy(startup_trapped);
        merged_cache_release(&cache, &processor_a);
        assert_int_equal(check_all_pairs(), 0);
    }
}

/* The same sees a merge without L0's bits. */
static void test_dropped_bits_are_seen(void **unused)
{
    (void)unused;
    options.fault = FAULT_DROP_L0_BITS;
    cache.merge = merged_wrong_choose();
    options.bitmap_check = 0;
    build_policy(true);
    assert_true(check_all_pairs() > 0);
}

/* The controls are vmcs12's while secondary controls are on, and none when they are off. */
static void test_controls_follow_vmcs12(void **unused)
{
    (void)unused;
    cpu = model_skylake_x;
    caps12_compute(&cpu, &caps12);
    for (unsigned i = 0; i < COMBINATIONS; i++) {
        assert_int_equal(merge_with(controls_of(i)).proc2 & X2APIC_CONTROLS, controls_of(i));
        v.PROC_CONTROLS &= ~PROC_SECONDARY;
        struct merge_input in = {.v = &v, .cpu = &cpu, .msr_bitmap_merged = true};
        assert_int_equal(merge_controls(&in).proc2 & X2APIC_CONTROLS, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_no_kept_register_is_reached),
        TEST(test_dropped_bits_are_seen),
        TEST(test_controls_follow_vmcs12),
    };

    return cmocka_run_group_tests_name("x2apic", tests, NULL, NULL);
}
