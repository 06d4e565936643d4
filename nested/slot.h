/* The VMCSs of L1 that Nestor holds: found by address, read from L1's memory on VMPTRLD, written back on VMCLEAR.
 * Current: vmcs01 (a fresh vmcs02 is made current for a moment and vmcs01 loaded again).
 * nested/insn and nested/enter use it. */
#ifndef NESTED_SLOT_H
#define NESTED_SLOT_H

#include "nested/nested.h"

/* The slot of vmptr, or NULL when it is not held. */
struct vmcs12_slot *slot_find(struct nested *nested, gpa_t vmptr);
/* The slot of vmptr, read from L1's memory when it was not held; the least recently used one makes room. NULL when the
 * page pool is empty. */
struct vmcs12_slot *slot_load(struct nested *nested, gpa_t vmptr);
/* The slot of the enlightened VMCS at vmptr, which is RAM. One that was not held is of no VMCS but a zeroed one: all of
 * it is to be read from L1's memory. `launch`: how L1 enters it. NULL as above. */
struct vmcs12_slot *slot_load_enlightened(struct nested *nested, gpa_t vmptr, bool launch);
/* The slot, and the merged bitmaps that it names, were used last. */
static inline void slot_touch(struct nested *nested, struct vmcs12_slot *slot)
{
    slot->plan.used = ++straight_of(nested->vcpu->cpu)->clock;
    if (merged_cache_is_full(nested->bitmaps)) /* else nothing has to make room */
        slot_bitmaps_touch(&slot->bitmaps, nested->bitmaps);
}
/* VMCLEAR: writes vmcs12 back to L1's memory. The slot is free, and soon taken up again where nothing else needs it. */
void slot_clear(struct nested *nested, struct vmcs12_slot *slot);
/* VMXOFF: the same for all, and frees what belongs to them. */
void slot_release_all(struct nested *nested);

/* Beside the tables of checks, in straight_plan.scope: the merged bitmaps must be looked for again. */
#define SLOT_SCOPE_BITMAPS BIT(31)
/* check_scope_of() of each row, and the above, filled by slot_init(). */
extern check_scope_t slot_row_scope[FIELD_COUNT];
/* L1 wrote the row. */
static inline void slot_set_dirty(struct vmcs12_slot *slot, uint64_t row)
{
    bits_set(slot->plan.dirty, row);
    bits_clear(slot->live, row);
    slot->plan.scope |= slot_row_scope[row];
}
/* vmcs02 has the row's value, and vmcs12 an old one. */
static inline bool slot_is_live(const struct vmcs12_slot *slot, uint64_t row)
{
    return bits_test(slot->live, row);
}
/* vmcs02 does not say what vmcs12 says, nor may L1 see it; and so nothing goes straight until L2 has exited again. */
static inline void slot_unmirror(struct vmcs12_slot *slot)
{
    slot->mirrored = false;
    slot->plan.made = slot->plan.valid = false;
}
/* vmcs02 holds something else than what was made of vmcs12: every row is written again, but those that are vmcs02's
 * own. */
void slot_set_all_dirty(struct vmcs12_slot *slot);
/* A merged bitmap goes: no slot may name it any longer. `context` is the struct nested; for merged_cache.evict. */
void slot_forget_bitmap(void *context, struct merged *m);
/* Before L2 goes on: slot_bitmaps_suspend(). Current: the slot's vmcs02. */
void slot_suspend_bitmaps(const struct nested *nested, struct vmcs12_slot *slot);
/* Fills the table behind slot_set_dirty. Once, before any slot is used. */
void slot_init(void);

#endif
