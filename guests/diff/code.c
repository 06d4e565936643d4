#include "guests/diff/code.h"

#include "guests/diff/arena.h"
#include "guests/diff/rand.h"

void code_byte(struct snippet *s, uint8_t byte)
{
    if (s->length < SNIPPET_MAX)
        s->bytes[s->length++] = byte;
}

void code_bytes(struct snippet *s, const uint8_t *bytes, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        code_byte(s, bytes[i]);
}

static void code_32(struct snippet *s, uint32_t value)
{
    for (unsigned i = 0; i < 32; i += 8)
        code_byte(s, (uint8_t)(value >> i));
}

void code_load(struct snippet *s, unsigned reg, uint32_t value)
{
    if (s->bits == 16)
        code_byte(s, 0x66);
    code_byte(s, (uint8_t)(0xb8 + reg));
    code_32(s, value);
}

void code_address32(struct snippet *s)
{
    if (s->bits == 16)
        code_byte(s, 0x67);
}

void code_register_form(struct snippet *s, uint8_t escape, uint8_t opcode, unsigned reg, unsigned rm)
{
    code_byte(s, escape);
    code_byte(s, opcode);
    code_byte(s, (uint8_t)(0xc0 | reg << 3 | rm));
}

static void segment_prefix(struct snippet *s)
{
    static const uint8_t segments[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65};

    if (rand_chance(1, 3))
        code_byte(s, RAND_PICK(segments));
}

/* ModRM, SIB and displacement. RBX, RSI and RDI hold addresses in the data page; RCX and RAX are small. */
static void operand(struct snippet *s, unsigned reg)
{
    static const uint8_t bases[] = {RBX, RSI, RDI};
    unsigned base = RAND_PICK(bases);

    switch (rand_below(4)) {
    case 0: /* [base] */
        code_byte(s, (uint8_t)(reg << 3 | base));
        break;
    case 1: /* [base + disp8] */
        code_byte(s, (uint8_t)(0x40 | reg << 3 | base));
        code_byte(s, (uint8_t)(8 * rand_below(16)));
        break;
    case 2: /* [base + index * scale + disp32] */
        code_byte(s, (uint8_t)(0x84 | reg << 3));
        code_byte(s, (uint8_t)(rand_below(4) << 6 | (rand_chance(1, 2) ? RCX : RSP) << 3 | base));
        code_32(s, 0x40);
        break;
    default: /* [disp32], by SIB: without it 64-bit code would take RIP for the base */
        code_byte(s, (uint8_t)(0x04 | reg << 3));
        code_byte(s, 0x25);
        code_32(s, (uint32_t)AT(PAGE_DATA) + 0x20);
    }
}

void code_memory_form(struct snippet *s, uint8_t prefix, uint8_t opcode, unsigned reg)
{
    segment_prefix(s);
    code_address32(s);
    if (prefix)
        code_byte(s, prefix);
    code_byte(s, 0x0f);
    code_byte(s, opcode);
    operand(s, reg);
}

void code_memory_form38(struct snippet *s, uint8_t opcode, unsigned reg)
{
    segment_prefix(s);
    code_address32(s);
    code_byte(s, 0x66);
    code_byte(s, 0x0f);
    code_byte(s, 0x38);
    code_byte(s, opcode);
    operand(s, reg);
}
