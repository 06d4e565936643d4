/* sources: nested/enter.c nested/exit.c nested/switched.c nested/resume.c nested/prepare.c nested/slot.c
   nested/shadow.c nested/small_shadow.c
   nested/l2_ept.c nested/rules/merge.c nested/rules/decide.c nested/bitmap/merged.c
   nested/bitmap/merged_cache.c nested/bitmap/merged_pays.c nested/bitmap/merged_words.c nested/bitmap/merged_wrong.c
   nested/bitmap/slot_bitmaps.c nested/quiet.c nested/settle.c nested/straight_ept.c nested/apic_pages.c
   vmx/straight.c nested/nested.c kernel/percpu.c
   kernel/ledger.c nested/enlightened.c nested/evmcs/evmcs.c nested/vpid12.c nested/insn.c nested/insn_invalidate.c
   nested/rules/vmcs12.c nested/ept02/ept02.c nested/l2_spp.c nested/ept02/sppt02.c nested/ept02/ept02_tree.c
   nested/ept02/ept02_around.c nested/ept02/ept02_plain.c nested/ept02/ept02_fill.c nested/ept02/ept02_setup.c
   nested/ept02/ept12_trace.c
   nested/ept02/ept02_filter.c nested/ept02/ept12_walk.c vmx/run.c vmx/kick.c vmx/step.c vmx/exit_ept.c vmx/skip.c
   vmx/hooks.c vmx/msr_bitmap.c vmx/caps.c vmx/vmcs_table.c mm/gmem.c mm/ept_watch.c mm/ept.c mm/memmap.c mm/mtrr.c
   mm/page.c kernel/cmdline.c kernel/format.c */
/* cflags: -DCHECKED -DNESTED_SLOTS=2 -DKEPT_SLOTS=1 -DEPT12_TRACKERS=10u -finstrument-functions
   -finstrument-functions-exclude-file-list=tests/ -include tests/host/tlb_insn.h */
/* ldflags: -no-pie -Wl,--unresolved-symbols=ignore-all,--wrap=ledger_enter,--wrap=ledger_told */
/* Two processors that never forget a translation run Nestor's code, and L1 and L2 do random things on them: whatever L2
 * sees must be something that the SDM allows. See docs/TESTING.md. By itself: test_never_forgets OPERATIONS [SEED
 * [FAULT [0]]] runs so many, from that seed on; the last 0: and the ledger says nothing. */
#include <unistd.h>

#include "tests/host/tlb_l1.h"

#define RUN 100000u /* operations in one world */

static uint64_t limit;
static bool told = true; /* on stderr, when something is found */
static bool ledger_speaks = true;

void __real_ledger_enter(const struct ledger_entry *entry);
void __real_ledger_told(unsigned other);

QUIET void __wrap_ledger_enter(const struct ledger_entry *entry)
{
    if (ledger_speaks)
        __real_ledger_enter(entry);
}

QUIET void __wrap_ledger_told(unsigned other)
{
    if (ledger_speaks)
        __real_ledger_told(other);
}

static void (*const l1_does[L1_ACTS])(struct processor *p) = {
    l1_changes_ept12, l1_changes_pte, l1_changes_bitmap, l1_looks_at_carveout, l1_changes_policy, l1_invept,
    l1_invvpid,       l1_vmptrld,     l1_vmclear,        l1_configures,        l1_enters,         l1_touches_linear,
    l1_changes_own,   l1_invlpg,
};
static void (*const l2_does[L2_ACTS])(struct processor *p) = {
    l2_touches_linear, l2_touches, l2_reads_msr, l2_moves_to_cr3, l2_invlpg, l2_calls,
};

QUIET static unsigned chosen(const uint8_t *weights, unsigned count)
{
    unsigned sum = 0, at = 0;

    for (unsigned i = 0; i < count; i++)
        sum += weights[i];
    for (unsigned left = (unsigned)(host_random() % sum); left >= weights[at]; at++)
        left -= weights[at];
    return at;
}

QUIET static void step_l1(struct processor *p)
{
    static const gpa_t places[] = {TABLE_BASE, TABLE_BASE + 8 * PAGE_SIZE, DATA_BASE, DATA_BASE + 5 * PAGE_SIZE,
                                   CARVEOUT};

    if (chance(2))
        (void)tlb_walk(&p->tlb, hw_ep4ta(), places[host_random() % ARRAY_SIZE(places)]);
    if (!p->vcpu.nested->current)
        l1_vmptrld(p);
    else
        l1_does[chosen(phase->l1, ARRAY_SIZE(l1_does))](p);
}

QUIET static void step_l2(struct processor *p)
{
    if (chance(2) && tags[p->number].root != NO_EPT)
        (void)tlb_walk(&p->tlb, hw_ep4ta(), place((unsigned)(host_random() % PLACES)));
    if (chance(2) && tags[p->number].root != NO_EPT)
        (void)tlb_walk(&p->tlb, hw_ep4ta(), favourite[p->number]);
    l2_does[chosen(phase->l2, ARRAY_SIZE(l2_does))](p);
}

QUIET static void step(struct processor *p)
{
    if (operations > limit)
        machine_stop();
    if (operations % 512 == 0)
        phase = &phases[host_random() % ARRAY_SIZE(phases)];
    if (hw_pending(p)) {
        if (tags[p->number].resident && !runs_l2(p))
            l2_left(p);
        return;
    }
    if (runs_l2(p))
        step_l2(p);
    else
        step_l1(p);
}

/* One world. Seeds differ in Nestor's options, too. False: a difference, told on stderr. */
QUIET static bool run(uint64_t seed, uint64_t count)
{
    static const uint64_t policies[] = {BITMAP_TRACE, BITMAP_TRACE, BITMAP_MERGE, BITMAP_EXIT};

    straight_ways = turns_kept = handed_back[0] = handed_back[1] = 0;
    memset(straight_violations, 0, sizeof straight_violations);
    host_random_seed(seed * 0x9e3779b97f4a7c15ull + 1);
    (void)host_random();
    options.vmcs_shadowing = seed % 5 != 4 ? SHADOWING_VMCS02 : seed % 2 ? SHADOWING_SMALL : SHADOWING_OFF;
    options.bitmap = policies[seed % 4];
    options.ept12_tracing = seed % 3 != 2;
    memset(tags, 0, sizeof tags);
    memset(may, 0, sizeof may);
    memset(favourite, 0, sizeof favourite);
    world_make();
    see_on_all();
    machine_step = step;
    limit = count;
    phase = &phases[0];
    if (machine_run()) {
        host_memory_free();
        return true;
    }
    if (told) {
        tell_story();
        fprintf(stderr, "# seed %lu, operation %lu: %s\n", seed, operations, failure);
    }
    host_memory_free();
    return false;
}

static void test_nothing_stale(void **state)
{
    uint64_t sum[VIOLATION_FILLED + 1] = {0}, turns = 0;

    (void)state;
    for (uint64_t seed = 1; seed <= 24; seed++) {
        if (!run(seed, 20000))
            fail_msg("seed %lu: %s", seed, failure);
        else if (options.vmcs_shadowing == SHADOWING_VMCS02 &&
                 (straight_ways < 10 || handed_back[0] < 10 || handed_back[1] < 10))
            fail_msg("seed %lu: %lu entries and exits went straight, %lu exits and %lu entries were left to that", seed,
                     straight_ways, handed_back[0], handed_back[1]);
        for (unsigned i = 0; i <= VIOLATION_FILLED; i++)
            sum[i] += straight_violations[i];
        turns += turns_kept;
    }
    assert_true(turns >= 100);
    assert_true(sum[VIOLATION_OF_L1] >= 100 && sum[VIOLATION_FILLED] >= 10);
}

/* A world in which the first processor runs alone, out of Nestor; its VMCS of L1, vmcs01 current. */
static struct vmcs12_slot *start_alone(bool shadowing)
{
    struct vmcs12_slot *slot;

    host_random_seed(1);
    options.vmcs_shadowing = shadowing;
    options.bitmap = BITMAP_TRACE;
    options.ept12_tracing = 1;
    world_make();
    running = &processor[0];
    vmcs_load(running->vcpu.vmcs01);
    slot = slot_load(running->vcpu.nested, vmcs12_page(0));
    assert_non_null(slot);
    return slot;
}

static void end_alone(void)
{
    running = NULL;
    host_memory_free();
}

/* The entry of an L2 without EPT that has an APIC-access page: where no page is left for a leaf of its own, the CPU
 * must refuse it, by an address that is not aligned; with pages it goes through. */
static void test_no_page_for_the_apic_access_page(void **state)
{
    void *held[1024];
    unsigned count = 0;
    struct vmcs12_slot *slot = start_alone(false);
    struct nested *nested = running->vcpu.nested;

    (void)state;
    slot->v->PROC_CONTROLS = PROC_SECONDARY;
    slot->v->PROC2_CONTROLS = PROC2_APIC_ACCESS;
    slot->v->APIC_ACCESS_ADDR = APIC_PAGE;
    vmcs_load(slot->vmcs02);
    while (count < ARRAY_SIZE(held) && (held[count] = page_alloc()))
        count++;
    prepare_vmcs02(nested, slot, &(struct l1_registers){0});
    assert_int_equal(vmcs_read(APIC_ACCESS_ADDR), APIC_PAGE | 1);
    while (count > 0)
        page_free(held[--count]);
    prepare_vmcs02(nested, slot, &(struct l1_registers){0});
    assert_int_equal(vmcs_read(APIC_ACCESS_ADDR), APIC_PAGE);
    assert_int_equal(ept_translate(&vm.ept01, APIC_PAGE).level, 1);
    end_alone();
}

/* A fault that concerns translations is found in fewer than 400,000 operations. */
static void expect_found(enum injected_fault fault, const char *name)
{
    uint64_t done = 0;
    bool found = false;

    options.fault = fault;
    told = false;
    for (uint64_t seed = 1; !found && done < 400000; seed++, done += 20000)
        found = !run(seed, 20000);
    options.fault = FAULT_NONE;
    told = true;
    if (!found)
        fail_msg("fault=%s is not found in %lu operations", name, done);
    if (getenv("NEVER_FORGETS_TELL"))
        fprintf(stderr, "# %s: %lu operations: %s\n", name, done - 20000 + operations, failure);
}

/* By the ledger, and by what L2 sees alone. */
static void test_faults_are_found(void **state)
{
    static const struct {
        enum injected_fault fault;
        const char *name;
    } faults[] = {
        {FAULT_SKIP_INVEPT, "skip-invept"},
        {FAULT_INVEPT_AT_ONCE, "invept-at-once"},
        {FAULT_EARLY_GENERATION, "early-generation"},
        {FAULT_KEEP_VPID, "keep-vpid"},
        {FAULT_SKIP_INVVPID, "skip-invvpid"},
        {FAULT_KEEP_MISCONFIGURED, "keep-misconfigured"},
        {FAULT_SKIP_KICK, "skip-kick"},
        {FAULT_READ_FIRST, "read-first"},
        {FAULT_SKIP_EPT02, "skip-ept02"},
        {FAULT_FORGET_GENERATION, "forget-generation"},
        {FAULT_SKIP_REMERGE, "skip-remerge"},
        {FAULT_DROP_L0_BITS, "drop-l0-bits"},
    };

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(faults); i++) {
        expect_found(faults[i].fault, faults[i].name);
        ledger_speaks = false;
        expect_found(faults[i].fault, faults[i].name);
        ledger_speaks = true;
    }
}

/* The events of this processor that nested/quiet.def has. */
enum { EVENT_WRITTEN, EVENT_QUEUED, NMI_WINDOW, NMI_SEEN, ATTENTION, REQUESTED, WAITING };

static void set_event_row(struct vcpu *vcpu, unsigned row, bool holds)
{
    switch (row) {
    case EVENT_WRITTEN:
        vcpu->l2_event_written = !holds;
        break;
    case EVENT_QUEUED:
        vcpu->inject_info = holds ? 0 : INTR_VALID;
        break;
    case NMI_WINDOW:
        vcpu->nmi_window = !holds;
        break;
    case NMI_SEEN:
        vcpu->cpu->nmi_seen = !holds;
        break;
    case ATTENTION:
        vcpu->attention = !holds;
        break;
    case REQUESTED:
        vcpu->requests = !holds;
        break;
    default:
        vcpu->waiting = !holds;
        break;
    }
}

static void expect_quiet(struct vcpu *vcpu, bool quiet)
{
    straight_of(vcpu->cpu)->quiet = 0; /* as each exit that takes the long way leaves it */
    straight_ready(vcpu);
    assert_int_equal(straight_of(vcpu->cpu)->quiet, quiet);
}

/* One that waits to be looked at keeps the next entry and exit from the straight way; with its row left out it does
 * not. */
static void test_events_are_not_quiet(void **state)
{
    static const enum quiet_fault faults[] = {
        [EVENT_WRITTEN] = QUIET_FAULT_EVENT, [EVENT_QUEUED] = QUIET_FAULT_EVENT, [NMI_WINDOW] = QUIET_FAULT_WINDOW,
        [NMI_SEEN] = QUIET_FAULT_NMI,        [ATTENTION] = QUIET_FAULT_NMI,      [REQUESTED] = QUIET_FAULT_REQUESTS,
        [WAITING] = QUIET_FAULT_REQUESTS,
    };
    struct vmcs12_slot *slot = start_alone(true);
    struct vcpu *vcpu = &running->vcpu;

    (void)state;
    vcpu->nested->current = slot;
    vmcs_load(slot->vmcs02);
    slot_bitmaps_refresh(&slot->bitmaps, vcpu->nested->bitmaps, slot->v);
    prepare_vmcs02(vcpu->nested, slot, &(struct l1_registers){0});
    slot->plan.scope = 0;
    slot->plan.made = slot->plan.valid = true;
    vcpu->nested->left_as_loaded = true;
    straight_of(vcpu->cpu)->sysenter_of = &slot->plan;
    vmcs_load(vcpu->vmcs01);
    expect_quiet(vcpu, true);
    for (unsigned row = 0; row < ARRAY_SIZE(faults); row++) {
        set_event_row(vcpu, row, false);
        expect_quiet(vcpu, false);
        options.quiet_fault = faults[row];
        expect_quiet(vcpu, true);
        options.quiet_fault = QUIET_FAULT_NONE;
        set_event_row(vcpu, row, true);
        expect_quiet(vcpu, true);
    }
    end_alone();
}

/* A row of nested/quiet.def left out, or a processor that is not told. The rest: tests/vm/quiet.t. */
static void test_quiet_faults_are_found(void **state)
{
    static const enum quiet_fault faults[] = {
        QUIET_FAULT_REVISIT, QUIET_FAULT_INVEPT, QUIET_FAULT_ROWS, QUIET_FAULT_PLAN,
        QUIET_FAULT_BITMAPS, QUIET_FAULT_TREE,   QUIET_FAULT_VPID, QUIET_FAULT_STEP,
        QUIET_FAULT_DEAF,    QUIET_FAULT_ACCESS, QUIET_FAULT_LEFT, QUIET_FAULT_EPOCH,
    };

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(faults); i++) {
        uint64_t done = 0;
        bool found = false;
        options.quiet_fault = faults[i];
        told = false;
        for (uint64_t seed = 1; !found && done < 400000; seed++, done += 20000)
            found = !run(seed, 20000);
        options.quiet_fault = QUIET_FAULT_NONE;
        told = true;
        if (!found)
            fail_msg("quiet-fault number %u is not found in %lu operations", (unsigned)faults[i], done);
    }
}

static int long_run(uint64_t count, uint64_t seed, uint64_t fault, uint64_t quiet_fault)
{
    uint64_t done = 0;

    options.fault = fault;
    options.quiet_fault = quiet_fault;
    for (; done < count; seed++, done += RUN) {
        if (!run(seed, MIN(count - done, RUN)))
            return 1;
        if (done % (10 * RUN) == 0 && isatty(1))
            printf("%lu operations\n", done);
    }
    printf("%lu operations without a difference\n", count);
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_nothing_stale), cmocka_unit_test(test_faults_are_found),
                                       cmocka_unit_test(test_no_page_for_the_apic_access_page),
                                       cmocka_unit_test(test_events_are_not_quiet),
                                       cmocka_unit_test(test_quiet_faults_are_found)};

    ledger_speaks = argc < 5 || strtoull(argv[4], NULL, 0);
    if (argc > 1)
        return long_run(strtoull(argv[1], NULL, 0), argc > 2 ? strtoull(argv[2], NULL, 0) : 1,
                        argc > 3 ? strtoull(argv[3], NULL, 0) : 0, argc > 4 ? strtoull(argv[4], NULL, 0) : 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
