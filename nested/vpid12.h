/* L1's VPIDs for L2 on the hardware's: a small set of hardware VPIDs, each serving one vpid12 at a time.
 * Called with L1's VPIDs as L1 wrote them; 0 is not one.
 * nested/enter and nested/insn use it. */
#ifndef NESTED_VPID12_H
#define NESTED_VPID12_H

#include "nested/nested.h"

/* The hardware VPID for vpid12; flushed when it served another vpid12 before. */
uint16_t nested_vpid(struct nested *nested, uint16_t vpid12);
/* True if the one that the slot's vmcs02 has still serves it. */
bool nested_vpid_serves(const struct nested *nested, const struct vmcs12_slot *slot);
/* L1's INVVPID of one of the four types, its operands checked. Flushes no translation of L1's own. */
void nested_vpid_invalidate(struct nested *nested, unsigned type, uint16_t vpid12, gva_t address);

#endif
