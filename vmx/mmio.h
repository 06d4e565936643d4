/* Loads and stores of L1's physical memory that is no RAM, where Nestor executes an instruction with such an operand.
 * The direct map has it, uncached as the MTRRs say.
 * vmx/gva_access calls it for what mm/gmem does not serve. */
#ifndef VMX_MMIO_H
#define VMX_MMIO_H

#include "vmx/vcpu.h"

/* One access of `len` bytes, within a page, as the guest's instruction would make it: in one piece where a register has
 * that width. Nestor's own memory, addresses beyond the direct map, and the local APIC in other widths than 32 bits
 * (SDM 3A 11.4.1 "The Local APIC Block Diagram" leaves open what comes of them) read as ones and take nothing. */
void mmio_read(struct vcpu *vcpu, gpa_t gpa, void *buffer, unsigned len);
void mmio_write(struct vcpu *vcpu, gpa_t gpa, const void *buffer, unsigned len);

#endif
