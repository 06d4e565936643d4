/* Segments as address arithmetic needs them: limits, types, and the bits of an address that count.
 * Pure.
 * vmx/operand uses it, and what accesses memory in the guest's place by segment and offset. */
#ifndef VMX_SEGMENT_H
#define VMX_SEGMENT_H

#include "vmx/gva.h"

struct segment {
    uint16_t selector;
    uint32_t limit, access_rights;
    uint64_t base;
};

/* The linear address of `len` bytes at `offset` in the segment, checked as SDM 3A 5.3 "Limit Checking", 5.4 "Type
 * Checking" and SDM 1 3.3.7.1 "Canonical Addressing" demand. linear_bits: 48 or 57 in 64-bit mode (CR4.LA57), 0
 * elsewhere. False: *fault (#GP(0), #SS(0)). `segment_number` as in the information field: 0 ES, 1 CS, 2 SS .. 5 GS.
 * Pure. */
bool segment_linear(const struct segment *segment, unsigned segment_number, uint64_t offset, unsigned len, bool write,
                    unsigned linear_bits, gva_t *gva, struct fault *fault);

/* The linear address that a data access in 64-bit mode is made to: with linear-address masking (LAM), for which CR3 has
 * a flag for addresses of user space and CR4 one for those of supervisors, the bits between bit 63 and the highest of
 * the address are ignored. A canonical check comes after it. */
gva_t segment_untag(gva_t linear, uint64_t cr3, uint64_t cr4);

#endif
