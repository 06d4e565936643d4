#include "vmx/operand.h"
#include "vmx/vmx_bits.h"

/* SDM 3C 28.2.5 "Information for VM Exits Due to Instruction Execution": the address sizes 0 to 2. The CPU gives no
 * other; 3 is read as 64 bits. */
static const uint64_t address_mask[4] = {BITS(15, 0), BITS(31, 0), ~0ull, ~0ull};

struct operand_place operand_decode(uint32_t info, uint64_t displacement, const uint64_t *regs)
{
    /* RIP-relative addressing needs nothing more: the CPU has added RIP to the displacement, and neither base nor
     * index is valid. SDM 3C 28.2.1 "Basic VM-Exit Information" */
    uint64_t offset = displacement;

    if (!(info & INSN_INFO_BASE_INVALID))
        offset += regs[GET(info, INSN_INFO_BASE)];
    if (!(info & INSN_INFO_INDEX_INVALID))
        offset += regs[GET(info, INSN_INFO_INDEX)] << GET(info, INSN_INFO_SCALING);
    return (struct operand_place){
        .segment_number = (unsigned)GET(info, INSN_INFO_SEGMENT),
        .offset = offset & address_mask[GET(info, INSN_INFO_ADDRESS_SIZE) & 3],
    };
}
