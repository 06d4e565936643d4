/* All of a vmcs12 in Nestor's log, by name: option dump=vmcs12, and gdb's `monitor vmcs12`.
 * nested/enter calls it when an entry failed a check that was not said before.
 * Current: vmcs01, or the slot's vmcs02. */
#ifndef NESTED_VMCS12_DUMP_H
#define NESTED_VMCS12_DUMP_H

#include "nested/nested.h"

/* The fields that are not 0, in the SDM's groups; of a VMCS that was dumped last time, those that changed since, with
 * what they were. */
void vmcs12_dump(struct nested *nested, struct vmcs12_slot *slot);

#endif
