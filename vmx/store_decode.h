/* The stores by which software writes a 32-bit register that is memory: MOV r/m32, r32; MOV r/m32, imm32; MOV moffs32,
 * EAX; and the same of other widths, which such a register does not take. Pure.
 * vmx/startup uses it, where an EPT violation tells the address and nothing else. */
#ifndef VMX_STORE_DECODE_H
#define VMX_STORE_DECODE_H

#include "kernel/base.h"

#define STORE_LENGTH_MAX 15

struct store {
    unsigned length; /* of the instruction */
    unsigned width;  /* bytes that it stores: 1, 2, 4 or 8 */
    bool immediate;
    uint32_t value; /* if immediate */
    unsigned reg;   /* else: number of the general register; for a width of 1 not which half of it */
};

/* `bytes`: `size` of them. `code_bits`: 16, 32 or 64, of the code segment. False: some other instruction. */
bool store_decode(const uint8_t *bytes, unsigned size, unsigned code_bits, struct store *out);

#endif
