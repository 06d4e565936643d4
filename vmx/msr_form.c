/* The exits of the immediate forms have reasons of their own, 84 and 85, and name the MSR in the exit qualification
 * and the register in the instruction information. Where a CPU leaves these empty, only the bytes of the instruction
 * can tell. This is no general decoder: it knows the two encodings that could be taken for each other, and calls all
 * else OTHER, so that an exit is left as the CPU reported it wherever there is a doubt. */
#include "vmx/msr_form.h"

#define VEX3 0xc4
#define VEX_NOT_B BIT(5) /* of the second byte: the register's number has bit 3 when this is 0 */
#define VEX_MAP BITS(4, 0)
#define VEX_MAP_7 7u
#define OPCODE_IMMEDIATE 0xf6
#define MODRM_MOD_REG BITS(7, 3)
#define MODRM_REGISTER_0 PUT(3, BITS(7, 6)) /* a register, and 0 in the middle field */
#define MODRM_RM BITS(2, 0)
#define IMMEDIATE_LENGTH 9 /* VEX 3, opcode, ModR/M, immediate 4 */

/* Prefixes that may stand before either encoding: segments, address size, REX. They change nothing that is asked
 * here. */
static bool is_prefix(uint8_t byte)
{
    static const uint8_t prefixes[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x67};

    for (unsigned i = 0; i < ARRAY_SIZE(prefixes); i++)
        if (byte == prefixes[i])
            return true;
    return (byte & 0xf0) == 0x40; /* REX */
}

enum msr_form msr_form_decode(const uint8_t *bytes, unsigned size, uint32_t *msr, unsigned *reg)
{
    while (size && is_prefix(*bytes)) {
        bytes++;
        size--;
    }
    if (size >= 3 && bytes[0] == 0x0f && bytes[1] == 0x01 && bytes[2] == 0xc6)
        return MSR_FORM_WRMSRNS;
    if (size < IMMEDIATE_LENGTH || bytes[0] != VEX3 || GET(bytes[1], VEX_MAP) != VEX_MAP_7 ||
        bytes[3] != OPCODE_IMMEDIATE || (bytes[4] & MODRM_MOD_REG) != MODRM_REGISTER_0)
        return MSR_FORM_OTHER;
    /* The immediate is the last four bytes of the instruction, the lowest first. VEX has the register's bit 3
     * inverted. */
    *reg = (unsigned)GET(bytes[4], MODRM_RM) | (bytes[1] & VEX_NOT_B ? 0 : 8);
    *msr = (uint32_t)bytes[5] | (uint32_t)bytes[6] << 8 | (uint32_t)bytes[7] << 16 | (uint32_t)bytes[8] << 24;
    return MSR_FORM_IMMEDIATE;
}
