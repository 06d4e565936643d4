/* An EPT violation tells where a store went and nothing of what it stored; for a store to the APIC, which Nestor
 * makes itself, it has to read the instruction. Software writes these 32-bit registers by three encodings of MOV.
 * The decoder knows the three, and those of the other widths, and refuses all else, which is a line in the log and a
 * #GP: a guess could send an IPI to the wrong processor. */
#include "vmx/store_decode.h"

#define OPCODE_WIDE BIT(0) /* clear: of one byte */
#define OPCODE_MOV_REGISTER 0x89
#define OPCODE_MOV_EAX 0xa3
#define OPCODE_MOV_IMMEDIATE 0xc7
#define PREFIX_OPERAND 0x66
#define PREFIX_ADDRESS 0x67
#define REX_W 0x08
#define REX_R 0x04
#define MODRM_MOD BITS(7, 6)
#define MODRM_REG BITS(5, 3)
#define MODRM_RM BITS(2, 0)
#define MOD_REGISTER 3
#define RM_SIB 4
#define SIB_BASE BITS(2, 0)

struct prefixes {
    unsigned count; /* bytes before the opcode */
    bool operand, address;
    uint8_t rex;
};

/* The six prefixes that name a segment; the CPU has used it already for the address. */
static bool is_segment_prefix(uint8_t byte)
{
    return byte == 0x26 || byte == 0x2e || byte == 0x36 || byte == 0x3e || byte == 0x64 || byte == 0x65;
}

/* Prefixes in any order; in 64-bit code a REX prefix counts right before the opcode only. */
static struct prefixes prefixes_read(const uint8_t *bytes, unsigned size, unsigned code_bits)
{
    struct prefixes p = {0};

    for (; p.count < size; p.count++) {
        if (bytes[p.count] == PREFIX_OPERAND)
            p.operand = true;
        else if (bytes[p.count] == PREFIX_ADDRESS)
            p.address = true;
        else if (!is_segment_prefix(bytes[p.count]))
            break;
    }
    if (code_bits == 64 && p.count < size && (bytes[p.count] & 0xf0) == 0x40)
        p.rex = bytes[p.count++];
    return p;
}

/* Bytes of the ModRM byte and what follows it to the end of the displacement; SDM 2A 2.1.5 "Addressing-Mode Encoding of
 * ModR/M and SIB Bytes". */
static unsigned modrm_length(uint8_t modrm, uint8_t sib, unsigned address_bits)
{
    unsigned mod = (unsigned)GET(modrm, MODRM_MOD), rm = (unsigned)GET(modrm, MODRM_RM);

    if (address_bits == 16)
        return 1 + (mod == 0 ? (rm == 6 ? 2 : 0) : mod);
    unsigned length = rm == RM_SIB ? 2 : 1;
    unsigned base = rm == RM_SIB ? (unsigned)GET(sib, SIB_BASE) : rm;
    if (mod == 1)
        return length + 1;
    return length + (mod == 2 || base == 5 ? 4 : 0);
}

/* By the opcode, REX.W, or the code segment and an operand-size prefix. */
static unsigned operand_width(const struct prefixes *p, uint8_t opcode, unsigned code_bits)
{
    if (!(opcode & OPCODE_WIDE))
        return 1;
    if (p->rex & REX_W)
        return 8;
    return p->operand == (code_bits == 16) ? 4 : 2;
}

bool store_decode(const uint8_t *bytes, unsigned size, unsigned code_bits, struct store *out)
{
    struct prefixes p = prefixes_read(bytes, size, code_bits);
    unsigned address_bits = !p.address ? code_bits : code_bits == 32 ? 16 : 32;

    *out = (struct store){0};
    if (p.count + 3 > size)
        return false;
    uint8_t opcode = bytes[p.count], modrm = bytes[p.count + 1], sib = bytes[p.count + 2];
    out->width = operand_width(&p, opcode, code_bits);
    opcode |= OPCODE_WIDE;
    /* The address is part of the instruction, without a ModRM byte. */
    if (opcode == OPCODE_MOV_EAX) {
        out->length = p.count + 1 + address_bits / 8;
        return out->length <= size;
    }
    if (GET(modrm, MODRM_MOD) == MOD_REGISTER)
        return false;
    out->length = p.count + 1 + modrm_length(modrm, sib, address_bits);
    if (opcode == OPCODE_MOV_REGISTER) {
        out->reg = (unsigned)GET(modrm, MODRM_REG) + (p.rex & REX_R ? 8 : 0);
        return out->length <= size;
    }
    unsigned immediate = MIN(out->width, 4u);
    if (opcode != OPCODE_MOV_IMMEDIATE || GET(modrm, MODRM_REG) != 0 || out->length + immediate > size)
        return false;
    for (unsigned i = 0; i < immediate; i++)
        out->value |= (uint32_t)bytes[out->length + i] << 8 * i;
    out->length += immediate;
    out->immediate = true;
    return true;
}
