/* The other way to VMCS shadowing, vmcs-shadowing=small: vmcs02 stays an ordinary VMCS, launched, and L1 is shown a
 * second, small one beside it: the fields that it reads and writes at most exits, copied at each exit and entry.
 * Nothing is VMCLEARed for it: which of the two a real CPU does faster is to be measured
 * (docs/adr/0011-vmcs02-is-the-shadow.md). nested/shadow and nested/slot use it; which VMCS must be current is said at
 * each. */
#ifndef NESTED_SMALL_SHADOW_H
#define NESTED_SMALL_SHADOW_H

#include "nested/nested.h"

/* Lists the rows that L1 is shown: nested->rows_shown. Once it is complete. */
void small_init(const struct nested *nested);
/* An exit to L1: vmcs12 gets what L1 is shown of L2's state, and with `exit` of the exit's description; of the rows in
 * `left` the others stay in vmcs02. False: this is not how that slot is shown. Current: vmcs02. */
bool small_save(const struct nested *nested, struct vmcs12_slot *slot, const uint64_t *left, bool exit);
/* An exit to L1, or an entry that failed: L1 is shown what vmcs12 says from now on. Without memory for it, L1's
 * accesses exit. Current: vmcs02; on return anything. */
void small_show(const struct nested *nested, struct vmcs12_slot *slot);
/* Brings what L1 has written there to vmcs12, for an entry: of what its controls leave unused nothing. Current after
 * it: anything. */
void small_fetch(struct vmcs12_slot *slot);
/* The same, of everything. */
void small_fetch_all(struct vmcs12_slot *slot);
/* The same, where L1 is shown it. */
static inline bool small_was_fetched(struct vmcs12_slot *slot)
{
    if (!slot->small_shown)
        return false;
    small_fetch_all(slot);
    return true;
}
/* A row that L1 is shown got another value in vmcs12. Current: vmcs01, also on return. */
void small_put(const struct nested *nested, struct vmcs12_slot *slot, unsigned row);
/* L1 is no longer shown it. */
void small_hide(struct vmcs12_slot *slot);
/* The slot is released. */
void small_free(struct vmcs12_slot *slot);

#endif
