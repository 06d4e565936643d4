#include "guests/diff/lists.h"

#include "guests/diff/base.h"
#include "guests/diff/l1_state.h"
#include "guests/diff/rand.h"
#include "guests/diff/transcript.h"

#define LIST_MAX 4

/* MSRs whose values an exit may load without harm, and what is valid for them. */
static uint32_t pick_plain(void)
{
    static const uint32_t plain[] = {IA32_STAR, IA32_LSTAR, IA32_CSTAR, IA32_FMASK, IA32_KERNEL_GS_BASE};

    return RAND_PICK(plain);
}

static uint64_t pick_value(uint32_t msr)
{
    uint64_t value = rand_value();

    return msr == IA32_STAR ? value : msr == IA32_FMASK ? (uint32_t)value : (uint64_t)((int64_t)value >> 17);
}

/* MSRs that no list may load. Not IA32_SMM_MONITOR_CTL: Bochs does not have it, and takes it for an MSR like others,
 * as it does with those of x2APIC mode where the CPU has none (with INVPCID, it has). Nor read-only ones: Bochs 3.1
 * ends when one is written. */
static uint32_t pick_wrong(void)
{
    static const uint32_t wrong[] = {IA32_FS_BASE, IA32_GS_BASE, 0xc0002000, 0x800, 0x8ff};
    bool x2apic = caps_have(PROC2_CONTROLS, PROC2_INVPCID);

    return wrong[rand_below(ARRAY_SIZE(wrong) - (x2apic ? 0 : 2))];
}

unsigned lists_fill_entry_load(void)
{
    unsigned count = rand_below(LIST_MAX + 1);

    for (unsigned i = 0; i < count; i++) {
        uint32_t msr = rand_chance(1, 12) ? pick_wrong() : rand_chance(1, 4) ? l1_state_msr_pick() : pick_plain();

        l1_pages.entry_load[2 * i] = msr | (rand_chance(1, 24) ? rand_bit(64) : 0);
        l1_pages.entry_load[2 * i + 1] = rand_chance(1, 12) ? rand_narrow(rand_value()) : pick_value(msr);
    }
    return count;
}

unsigned lists_fill_exit_store(void)
{
    unsigned count = rand_below(LIST_MAX + 1);

    for (unsigned i = 0; i < count; i++) {
        l1_pages.exit_store[2 * i] = l1_state_msr_pick();
        l1_pages.exit_store[2 * i + 1] = 0;
    }
    return count;
}

unsigned lists_fill_exit_load(void)
{
    unsigned count = rand_below(LIST_MAX + 1);

    for (unsigned i = 0; i < count; i++) {
        uint32_t msr = pick_plain();

        l1_pages.exit_load[2 * i] = msr;
        l1_pages.exit_load[2 * i + 1] = pick_value(msr);
    }
    return count;
}

void lists_report(unsigned stored)
{
    tr_list("stored", l1_pages.exit_store, 2 * MIN(stored, LIST_MAX));
}

void lists_note(void)
{
    for (unsigned i = 0; i < 2 * LIST_MAX; i++)
        tr_note("load", l1_pages.entry_load[i]);
}
