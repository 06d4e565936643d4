/* Which bits of a field a capability MSR does not allow, in words.
 * Pure. nested/entry_log prints it. */
#ifndef NESTED_WRONG_BITS_H
#define NESTED_WRONG_BITS_H

#include "vmx/caps.h"

#define WRONG_BITS_TEXT 320

/* ": must be 1: bit 7 (HLT exiting), ...; must be 0: ...; see IA32_VMX_..." for a control field or one of CR0 and CR4
 * (`field`: FIELD_INDEX_), else an empty text. `caps`: as offered. */
void wrong_bits(char *text, size_t size, unsigned field, uint64_t value, const struct vmx_caps *caps);

#endif
