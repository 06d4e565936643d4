#include "kernel/safe.h"

/* A #GP of the instruction at 1 goes on at 2, and so leaves `ok` as it was. */
#define WITH_FIXUP(instruction)                                                                                        \
    "1:\t" instruction "\n\t"                                                                                          \
    "movl $1, %[ok]\n"                                                                                                 \
    "2:\n\t"                                                                                                           \
    ".pushsection .fixup, \"a\"\n\t"                                                                                   \
    ".quad 1b, 2b\n\t"                                                                                                 \
    ".popsection"

bool rdmsr_safe(uint32_t index, uint64_t *value)
{
    uint32_t low = 0, high = 0, ok = 0;

    __asm__ volatile(WITH_FIXUP("rdmsr") : [ok] "+r"(ok), "+a"(low), "+d"(high) : "c"(index));
    *value = (uint64_t)high << 32 | low;
    return ok;
}

bool wrmsr_safe(uint32_t index, uint64_t value)
{
    uint32_t ok = 0;

    __asm__ volatile(WITH_FIXUP("wrmsr")
                     : [ok] "+r"(ok)
                     : "c"(index), "a"((uint32_t)value), "d"((uint32_t)(value >> 32))
                     : "memory");
    return ok;
}

bool xsetbv_safe(uint32_t index, uint64_t value)
{
    uint32_t ok = 0;

    __asm__ volatile(WITH_FIXUP("xsetbv")
                     : [ok] "+r"(ok)
                     : "c"(index), "a"((uint32_t)value), "d"((uint32_t)(value >> 32))
                     : "memory");
    return ok;
}
