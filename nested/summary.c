/* Printed when the run ends, from counters that each processor kept for itself and that are added up only now. Rows
 * that are 0 are left out unless summary-zeros asks for them: the table shall fit on a screen. */
#include "nested/summary.h"

#include "kernel/cmdline.h"
#include "kernel/log.h"
#include "nested/bitmap/merged_dump.h"
#include "nested/nested.h"
#include "vmx/exit_names.h"
#include "vmx/straight.h"

static const char *const counter_texts[COUNTER_COUNT] = {
#define COUNTER(name, text) [COUNT_##name] = text,
#include "kernel/counters.def"
#undef COUNTER
};

static const char *const policy_names[] = {
    [BITMAP_TRACE] = "trace (write-protected, merged after a store)",
    [BITMAP_MERGE] = "merge (at each nested entry)",
    [BITMAP_ALLOW] = "allow (a short list of MSRs at each nested entry)",
    [BITMAP_EXIT] = "exit (no bitmap: every access exits)",
};

/* Of all processors; level 0 is L1, 1 is L2. */
static uint64_t exits_total(const struct vm *vm, unsigned level, unsigned reason)
{
    uint64_t total = 0;
    for (unsigned i = 0; i < vm->vcpus; i++)
        total += straight_exits(vm->vcpu[i], level, reason);
    return total;
}

/* Levels side by side: an exit of L2 that L1 handles costs L1 some exits of its own, and the rows show which. */
void summary_print(const struct vm *vm)
{
    if (options.bitmap_dump && vm->vcpus && vm->vcpu[0]->nested)
        merged_cache_each(vm->vcpu[0]->nested->bitmaps, merged_dump);
    log_raw("+------------------------------ Nestor's summary ------------------------------+");
    log_raw("| %-46s %14s %14s |", "exits by reason", "L1", "L2");
    for (unsigned reason = 0; reason < EXIT_REASON_COUNT; reason++) {
        uint64_t l1 = exits_total(vm, 0, reason), l2 = exits_total(vm, 1, reason);
        if (l1 || l2)
            log_raw("| %3u %-42s %14lu %14lu |", reason, exit_reason_name(reason), l1, l2);
    }
    log_raw("+------------------------------------------------------------------------------+");
    log_raw("| %-23s %52s |", "MSR bitmap policy", policy_names[options.bitmap]);
    for (unsigned i = 1; i < COUNTER_COUNT; i++) {
        uint64_t total = counters_total((enum counter)i);
        if (total || options.summary_zeros)
            log_raw("| %-61s %14lu |", counter_texts[i], total);
    }
    log_raw("+------------------------------------------------------------------------------+");
}
