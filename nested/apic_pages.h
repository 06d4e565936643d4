/* The pages of L1's APIC virtualisation, in vmcs02: the virtual-APIC page and that of the posted-interrupt descriptor,
 * which the CPU writes by their addresses, and the APIC-access page, for which EPT01 needs a leaf of its own where an
 * L2 runs on that.
 * When L1 wrote a control or pointer.
 * nested/prepare uses it. */
#ifndef NESTED_APIC_PAGES_H
#define NESTED_APIC_PAGES_H

#include "nested/nested.h"

/* Follows the pages of vmcs12, and writes their addresses. Current: the slot's vmcs02. */
void apic_pages_write(struct nested *nested, struct vmcs12_slot *slot);

#endif
