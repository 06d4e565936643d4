/* Instructions that may raise #GP, without the risk: false when they did.
 * Needs the IDT (desc_load).
 * Anyone may call them. */
#ifndef KERNEL_SAFE_H
#define KERNEL_SAFE_H

#include "kernel/base.h"

/* *value is 0 when it failed. */
MUST_CHECK bool rdmsr_safe(uint32_t index, uint64_t *value);
MUST_CHECK bool wrmsr_safe(uint32_t index, uint64_t value);
/* The same as wrmsr_safe(), where a call would be dear. */
static ALWAYS_INLINE bool wrmsr_safe_inline(uint32_t index, uint64_t value)
{
    __asm__ goto("1:\twrmsr\n\t"
                 ".pushsection .fixup, \"a\"\n\t"
                 ".quad 1b, %l[refused]\n\t"
                 ".popsection"
                 :
                 : "c"(index), "a"((uint32_t)value), "d"((uint32_t)(value >> 32))
                 : "memory"
                 : refused);
    return true;
refused:
    return false;
}
MUST_CHECK bool xsetbv_safe(uint32_t index, uint64_t value);

#endif
