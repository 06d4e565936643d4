/* Operands of VMX instructions that L1 executed, from the VM-exit instruction-information field.
 * Current: vmcs01.
 * nested/insn uses it; the arithmetic is pure and tested on the host. */
#ifndef VMX_OPERAND_H
#define VMX_OPERAND_H

#include "kernel/msr.h"
#include "vmx/segment.h"
#include "vmx/vmcs.h"

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
/* The instruction information of an operand in memory with a 64-bit address in one of the first four segments, whose
 * base is 0. */
#define OPERAND_PLAIN_JUDGED (INSN_INFO_IS_REGISTER | INSN_INFO_ADDRESS_SIZE | BIT(17))
#define OPERAND_PLAIN_MUST PUT(2, INSN_INFO_ADDRESS_SIZE)

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
    return (vmcs_read(GUEST_CS_AR_BYTES) & (AR_L | AR_DPL | AR_TYPE_CONFORMING)) == AR_L;
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
