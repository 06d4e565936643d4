/* sources: nested/rules/merge.c nested/rules/caps12.c vmx/vmcs_exists.c nested/rules/vmcs12.c vmx/vmcs_table.c */
/* The controls of vmcs02: for each bit what becomes of L1's, both ways. */
#include "tests/host/host.h"

#include <string.h>

#include "kernel/msr.h"
#include "kernel/x86.h"
#include "nested/rules/caps12.h"
#include "nested/rules/merge.h"
#include "tests/host/cpu_models.h"

static struct vmcs12 v;
static struct vmx_caps cpu, caps12;
static struct merge_input in;

static int setup(void **unused)
{
    (void)unused;
    memset(&v, 0, sizeof v);
    cpu = model_sapphire_rapids;
    caps12_compute(&cpu, &caps12);
    v.PIN_CONTROLS = caps12.pin.must;
    v.PROC_CONTROLS = caps12.proc.must;
    v.EXIT_CONTROLS = caps12.exit.must;
    v.ENTRY_CONTROLS = caps12.entry.must;
    in = (struct merge_input){.v = &v, .cpu = &cpu};
    return 0;
}

/* The fate of the bits of one control word; a bit in no mask must not be on. */
struct fate {
    uint64_t passed; /* on if L1 has it on */
    uint64_t on;     /* always */
    uint64_t own;    /* has a test of its own */
};

static void check_fate(const struct fate *fate, uint64_t *word, struct ctl_caps offered, size_t member)
{
    for (unsigned bit = 0; bit < 32; bit++) {
        uint64_t mask = BIT(bit);
        if (fate->own & mask)
            continue;
        for (unsigned on = 0; on < 2; on++) {
            uint64_t saved = *word;
            if (on ? !(offered.may & mask) : (offered.must & mask) != 0)
                continue;
            *word = on ? *word | mask : *word & ~mask;
            struct merged_controls out = merge_controls(&in);
            uint32_t result;
            memcpy(&result, (const uint8_t *)&out + member, sizeof result);
            bool expected = (fate->on & mask) || ((fate->passed & mask) && on);
            if (((result & mask) != 0) != expected)
                fail_msg("bit %u, %s in vmcs12: %s in vmcs02", bit, on ? "on" : "off", result & mask ? "on" : "off");
            *word = saved;
        }
    }
}

static void test_pin(void **unused)
{
    const struct fate fate = {
        .passed = PIN_EXTERNAL_INTERRUPT | PIN_PREEMPTION_TIMER | PIN_POSTED_INTERRUPTS,
        .on = PIN_NMI | BIT(1) | BIT(2) | BIT(4),
        .own = PIN_VIRTUAL_NMIS,
    };
    (void)unused;
    check_fate(&fate, &v.PIN_CONTROLS, caps12.pin, offsetof(struct merged_controls, pin));
}

/* NMIs always exit to L0, whatever L2 blocks. */
static void test_virtual_nmis(void **unused)
{
    const uint64_t l1[] = {0, PIN_NMI, PIN_NMI | PIN_VIRTUAL_NMIS}, both = PIN_NMI | PIN_VIRTUAL_NMIS;
    (void)unused;
    for (unsigned i = 0; i < ARRAY_SIZE(l1); i++) {
        v.PIN_CONTROLS = caps12.pin.must | l1[i];
        assert_int_equal(merge_controls(&in).pin & both, both);
    }
}

static void test_proc(void **unused)
{
    const struct fate fate = {
        .passed = ~(PROC_USE_MSR_BITMAPS | PROC_USE_IO_BITMAPS | PROC_UNCOND_IO | PROC_SECONDARY) & BITS(31, 0),
        .on = PROC_SECONDARY,
        .own = PROC_USE_MSR_BITMAPS | PROC_USE_IO_BITMAPS | PROC_UNCOND_IO,
    };
    (void)unused;
    check_fate(&fate, &v.PROC_CONTROLS, caps12.proc, offsetof(struct merged_controls, proc));
}

static void test_proc2(void **unused)
{
    const struct fate fate = {
        /* done in software: page-modification logging, #VE, VMCS shadowing */
        .passed = ~(PROC2_EPT | PROC2_VPID | PROC2_PML | PROC2_EPT_VE | PROC2_VMCS_SHADOWING) & BITS(31, 0),
        .on = PROC2_EPT | PROC2_VPID,
    };
    (void)unused;
    v.PROC_CONTROLS |= PROC_SECONDARY;
    check_fate(&fate, &v.PROC2_CONTROLS, caps12.proc2, offsetof(struct merged_controls, proc2));
}

static void test_exit(void **unused)
{
    const struct fate fate = {
        .passed = EXITC_ACK_INTERRUPT | EXITC_LOAD_PERF_GLOBAL | EXITC_SAVE_PERF_GLOBAL,
        .on = EXITC_SAVE_DEBUG | EXITC_HOST_64 | EXITC_SAVE_PAT | EXITC_LOAD_PAT | EXITC_SAVE_EFER | EXITC_LOAD_EFER |
              model_sapphire_rapids.exit.must,
        .own = EXITC_CLEAR_UINV | EXITC_LOAD_CET | EXITC_LOAD_PKRS,
    };
    (void)unused;
    check_fate(&fate, &v.EXIT_CONTROLS, caps12.exit, offsetof(struct merged_controls, exit));
}

/* A register that both change is L2's again after an exit that L0 handled; one that exits alone change is left. */
static void test_switched_is_loaded_again(void **unused)
{
    static const struct {
        uint64_t exit, entry, saved;
    } rows[] = {{EXITC_CLEAR_UINV, ENTRY_LOAD_UINV, 0},
                {EXITC_LOAD_CET, ENTRY_LOAD_CET, 0},
                {EXITC_LOAD_PKRS, ENTRY_LOAD_PKRS, 0},
                {EXITC_LOAD_PERF_GLOBAL, ENTRY_LOAD_PERF_GLOBAL, EXITC_SAVE_PERF_GLOBAL}};
    (void)unused;
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
        for (unsigned on = 0; on < 4; on++) {
            bool loads = rows[i].saved ? on != 0 : (on & 2) != 0;
            v.EXIT_CONTROLS = caps12.exit.must | (on & 1 ? rows[i].exit : 0);
            v.ENTRY_CONTROLS = caps12.entry.must | (on & 2 ? rows[i].entry : 0);
            struct merged_controls out = merge_controls(&in);
            assert_int_equal((out.exit & rows[i].exit) != 0, (on & 1) && loads);
            assert_int_equal((out.entry & rows[i].entry) != 0, loads);
            assert_int_equal(out.exit & rows[i].saved, loads ? rows[i].saved : 0);
        }
}

static void test_entry(void **unused)
{
    const struct fate fate = {
        .passed = ENTRY_GUEST_64 | ENTRY_LOAD_UINV | ENTRY_LOAD_CET | ENTRY_LOAD_PKRS | ENTRY_LOAD_PERF_GLOBAL,
        .on = ENTRY_LOAD_DEBUG | ENTRY_LOAD_PAT | ENTRY_LOAD_EFER | model_sapphire_rapids.entry.must,
    };
    (void)unused;
    check_fate(&fate, &v.ENTRY_CONTROLS, caps12.entry, offsetof(struct merged_controls, entry));
}

/* Secondary controls that L1 has not activated count as zero, whatever its field says. */
static void test_secondary_controls_not_activated(void **unused)
{
    (void)unused;
    v.PROC_CONTROLS &= ~PROC_SECONDARY;
    v.PROC2_CONTROLS = ~0u;
    struct merged_controls out = merge_controls(&in);
    assert_true(out.proc & PROC_SECONDARY);
    assert_int_equal(out.proc2, PROC2_EPT | PROC2_VPID);
}

static void test_msr_bitmap(void **unused)
{
    (void)unused;
    for (unsigned used = 0; used < 2; used++)
        for (unsigned merged = 0; merged <= used; merged++) {
            v.PROC_CONTROLS = caps12.proc.must | (used ? PROC_USE_MSR_BITMAPS : 0);
            in.msr_bitmap_merged = merged;
            struct merged_controls out = merge_controls(&in);
            /* Without a merged page every access exits: never L1's page alone, never L0's alone. */
            assert_int_equal((out.proc & PROC_USE_MSR_BITMAPS) != 0, merged);
        }
}

static void test_io(void **unused)
{
    static const struct {
        uint64_t l1;
        bool merged;
        enum io_mode mode;
    } rows[] = {
        {0, false, IO_L0_BITMAPS},
        {PROC_UNCOND_IO, false, IO_ALL_EXIT},
        {PROC_USE_IO_BITMAPS, true, IO_MERGED_BITMAPS},
        {PROC_USE_IO_BITMAPS, false, IO_ALL_EXIT}, /* no page for the merge */
        {PROC_USE_IO_BITMAPS | PROC_UNCOND_IO, true, IO_MERGED_BITMAPS},
        {PROC_USE_IO_BITMAPS | PROC_UNCOND_IO, false, IO_ALL_EXIT},
    };
    (void)unused;
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        v.PROC_CONTROLS = caps12.proc.must | rows[i].l1;
        in.io_bitmaps_merged = rows[i].merged;
        struct merged_controls out = merge_controls(&in);
        bool all = rows[i].mode == IO_ALL_EXIT;
        assert_int_equal(merge_io(v.PROC_CONTROLS, rows[i].merged), rows[i].mode);
        assert_int_equal((out.proc & PROC_UNCOND_IO) != 0, all);
        assert_int_equal((out.proc & PROC_USE_IO_BITMAPS) != 0, !all);
    }
}

/* The timer goes on where it was only if each exit saves it. */
static void test_timer_is_saved(void **unused)
{
    (void)unused;
    for (unsigned timer = 0; timer < 2; timer++)
        for (unsigned save = 0; save < 2; save++) {
            v.PIN_CONTROLS = caps12.pin.must | (timer ? PIN_PREEMPTION_TIMER : 0);
            v.EXIT_CONTROLS = caps12.exit.must | (save ? EXITC_SAVE_TIMER : 0);
            struct merged_controls out = merge_controls(&in);
            assert_int_equal((out.exit & EXITC_SAVE_TIMER) != 0, timer);
        }
}

static uint64_t random_settled(struct ctl_caps caps)
{
    return caps_settle(caps, host_random());
}

/* Whatever L1 may ask for gives controls that the CPU takes, on every model. SDM 3C 27.2.1 "Checks on VMX Controls" */
static void test_cpu_accepts(void **unused)
{
    (void)unused;
    for (unsigned round = 0; round < 50000; round++) {
        cpu = *models[round % ARRAY_SIZE(models)];
        caps12_compute(&cpu, &caps12);
        v.PIN_CONTROLS = random_settled(caps12.pin);
        v.PROC_CONTROLS = random_settled(caps12.proc);
        v.PROC2_CONTROLS = random_settled(caps12.proc2);
        v.EXIT_CONTROLS = random_settled(caps12.exit);
        v.ENTRY_CONTROLS = random_settled(caps12.entry);
        in.msr_bitmap_merged = host_random() % 2;
        in.io_bitmaps_merged = host_random() % 2;
        struct merged_controls out = merge_controls(&in);
        assert_true(caps_accepts(cpu.pin, out.pin));
        assert_true(caps_accepts(cpu.proc, out.proc));
        assert_true(caps_accepts(cpu.proc2, out.proc2));
        assert_true(caps_accepts(cpu.exit, out.exit));
        assert_true(caps_accepts(cpu.entry, out.entry));
        assert_true((out.pin & PIN_NMI) || !(out.pin & PIN_VIRTUAL_NMIS));
        assert_true((out.pin & PIN_PREEMPTION_TIMER) || !(out.exit & EXITC_SAVE_TIMER));
        assert_true(out.proc2 & PROC2_EPT);
    }
}

/* A model without VPID or without the timer's save control is not asked for them. */
static void test_what_the_cpu_lacks(void **unused)
{
    (void)unused;
    cpu.proc2.may &= (uint32_t)~PROC2_VPID;
    cpu.exit.may &= (uint32_t)~EXITC_SAVE_TIMER;
    v.PIN_CONTROLS |= PIN_PREEMPTION_TIMER;
    struct merged_controls out = merge_controls(&in);
    assert_int_equal(out.proc2 & PROC2_VPID, 0);
    assert_int_equal(out.exit & EXITC_SAVE_TIMER, 0);
}

static void test_guest_efer(void **unused)
{
    const uint64_t l1 = EFER_SCE | EFER_NXE | EFER_LME | EFER_LMA;
    (void)unused;
    /* Loaded from the field. */
    v.ENTRY_CONTROLS = ENTRY_LOAD_EFER;
    v.GUEST_EFER = EFER_SCE;
    assert_int_equal(merge_guest_efer(&v, l1), EFER_SCE);
    /* L1's own, except for LMA, and LME if paging is on: both as "IA-32e mode guest" says. */
    v.ENTRY_CONTROLS = 0;
    v.GUEST_CR0 = CR0_PG | CR0_PE;
    assert_int_equal(merge_guest_efer(&v, l1), EFER_SCE | EFER_NXE);
    v.ENTRY_CONTROLS = ENTRY_GUEST_64;
    assert_int_equal(merge_guest_efer(&v, EFER_NXE), EFER_NXE | EFER_LME | EFER_LMA);
    v.ENTRY_CONTROLS = 0;
    v.GUEST_CR0 = CR0_PE;
    assert_int_equal(merge_guest_efer(&v, l1), EFER_SCE | EFER_NXE | EFER_LME);
    assert_int_equal(merge_guest_efer(&v, EFER_NXE), EFER_NXE);
}

static void test_host_efer(void **unused)
{
    const uint64_t l2 = EFER_SCE | EFER_NXE;
    (void)unused;
    v.EXIT_CONTROLS = EXITC_LOAD_EFER | EXITC_HOST_64;
    v.HOST_EFER = EFER_LME | EFER_LMA;
    assert_int_equal(merge_host_efer(&v, l2), EFER_LME | EFER_LMA);
    v.EXIT_CONTROLS = EXITC_HOST_64;
    assert_int_equal(merge_host_efer(&v, l2), l2 | EFER_LME | EFER_LMA);
    v.EXIT_CONTROLS = 0;
    assert_int_equal(merge_host_efer(&v, l2 | EFER_LME | EFER_LMA), l2);
}

#define TEST(function) cmocka_unit_test_setup(function, setup)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_pin),
        TEST(test_virtual_nmis),
        TEST(test_proc),
        TEST(test_proc2),
        TEST(test_exit),
        TEST(test_switched_is_loaded_again),
        TEST(test_entry),
        TEST(test_secondary_controls_not_activated),
        TEST(test_msr_bitmap),
        TEST(test_io),
        TEST(test_timer_is_saved),
        TEST(test_cpu_accepts),
        TEST(test_what_the_cpu_lacks),
        TEST(test_guest_efer),
        TEST(test_host_efer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
