/* Operands of VMX instructions that L1 executed, from the VM-exit instruction-information field.
 * Current: vmcs01.
 * nested/insn uses it; the segment and address arithmetic is pure and tested on the host. */
#ifndef VMX_OPERAND_H
#define VMX_OPERAND_H

#include "kernel/msr.h"
#include "vmx/gva.h"
#include "vmx/vmcs.h"

/* One segment, as far as address arithmetic needs it. */
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
 * the address are ignored. A canonical check comes after it. Pure. */
gva_t operand_untag(gva_t linear, uint64_t cr3, uint64_t cr4);

/* Where the memory operand lies that the instruction information describes: segment number, and the offset cut to the
 * address size. `displacement`: the exit qualification; `regs`: general registers by number, RSP's among them. Pure. */
struct operand_place {
    unsigned segment_number;
    uint64_t offset;
};
struct operand_place operand_decode(uint32_t info, uint64_t displacement, const uint64_t *regs);

/* Linear address of the memory operand that the last exit's instruction information and qualification (displacement)
 * describe. */
bool operand_address(struct vcpu *vcpu, unsigned len, bool write, gva_t *gva, struct fault *fault);
/* The memory operand of len bytes where it lies in L1's RAM, for a kernel in 64-bit mode and the usual address. NULL:
 * not usual, operand_read() must say. To be copied before it is looked at. regs[RSP] is valid then. */
const void *operand_plain(struct vcpu *vcpu, uint64_t len);
/* Reads/writes a memory operand of len bytes. False: *fault. */
bool operand_read(struct vcpu *vcpu, void *buffer, unsigned len, struct fault *fault);
bool operand_write(struct vcpu *vcpu, const void *buffer, unsigned len, struct fault *fault);
/* General register of L1 by number; RSP comes from vmcs01. Values are truncated to 32 bits outside 64-bit mode, which
 * `long_mode` says: operand_long_mode(). */
uint64_t operand_register_read(struct vcpu *vcpu, unsigned number, bool long_mode);
void operand_register_write(struct vcpu *vcpu, unsigned number, uint64_t value, bool long_mode);
/* True if L1 is in 64-bit mode. CS.L alone does not say it: outside IA-32e mode the bit means nothing. */
static inline bool operand_long_mode(void)
{
    return (vmcs_read(GUEST_CS_AR_BYTES) & AR_L) && (vmcs_read(GUEST_EFER) & EFER_LMA);
}
/* True if it is, at CPL 0: of a code segment that is not conforming the DPL is the CPL. SDM 3C 27.3.1.2 */
static inline bool operand_is_kernels(void) /* if it is in IA-32e mode at all */
{
    const uint64_t conforming = BIT(2);
    return (vmcs_read(GUEST_CS_AR_BYTES) & (AR_L | AR_DPL | conforming)) == AR_L;
}
static inline bool operand_in_64_bit_kernel(void)
{
    return operand_is_kernels() && (vmcs_read(GUEST_EFER) & EFER_LMA);
}
/* Its CPL. */
static inline unsigned operand_cpl(void)
{
    return (unsigned)GET(vmcs_read(GUEST_SS_AR_BYTES), AR_DPL);
}

#endif
