/* The header of a Linux image that the loader takes (Linux's Documentation/arch/x86/boot.rst), for tests to spoil. */
#ifndef TESTS_HOST_LINUX_HEADER_H
#define TESTS_HOST_LINUX_HEADER_H

#include <stdint.h>
#include <string.h>

static inline void linux_put(uint8_t *image, unsigned offset, uint64_t value, unsigned size)
{
    memcpy(image + offset, &value, size);
}

/* `sectors` of set-up, besides the first, and `code` bytes, a multiple of 16, behind them. */
static inline void linux_header(uint8_t *image, uint8_t sectors, uint32_t code)
{
    linux_put(image, 0x1f1, sectors, 1);
    linux_put(image, 0x1f4, code / 16, 4);
    linux_put(image, 0x1fe, 0xaa55, 2);
    linux_put(image, 0x200, 0x6aeb, 2); /* jump over 0x6a bytes: the header ends at 0x26c */
    linux_put(image, 0x202, 0x53726448, 4);
    linux_put(image, 0x206, 0x20f, 2);
    linux_put(image, 0x211, 1, 1);
    linux_put(image, 0x214, 0x100000, 4);
    linux_put(image, 0x22c, 0x7fffffff, 4);
    linux_put(image, 0x230, 0x200000, 4);
    linux_put(image, 0x234, 1, 1);
    linux_put(image, 0x238, 2047, 4);
    linux_put(image, 0x258, 0x1000000, 8);
    linux_put(image, 0x260, 0x400000, 4);
}

#endif
