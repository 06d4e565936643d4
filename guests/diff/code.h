/* Machine code byte by byte, for the operand and address size of a mode: operands are 32 bits wide everywhere.
 * Pure except for the random numbers. */
#ifndef GUESTS_DIFF_CODE_H
#define GUESTS_DIFF_CODE_H

#include "guests/diff/snippet.h"
#include "guests/lib/vm.h"

void code_byte(struct snippet *, uint8_t byte);
void code_bytes(struct snippet *, const uint8_t *bytes, unsigned count);
/* MOV of an immediate to one of the first eight registers. */
void code_load(struct snippet *, unsigned reg, uint32_t value);
/* The address-size prefix where 16 bits are the default. */
void code_address32(struct snippet *);
/* escape opcode modrm with two registers. */
void code_register_form(struct snippet *, uint8_t escape, uint8_t opcode, unsigned reg, unsigned rm);
/* [prefix] 0F opcode modrm with a random way to address L2's data page. */
void code_memory_form(struct snippet *, uint8_t prefix, uint8_t opcode, unsigned reg);
/* 66 0F 38 opcode modrm. */
void code_memory_form38(struct snippet *, uint8_t opcode, unsigned reg);

#endif
