/* Numbers that stand in a row of bytes, at any alignment, in the CPU's byte order: of tables that firmware and loaders
 * write.
 * Pure.
 * Anyone may include it. */
#ifndef KERNEL_BYTES_H
#define KERNEL_BYTES_H

#include "kernel/string.h"

static inline uint32_t bytes_get32(const uint8_t *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static inline uint64_t bytes_get64(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

#endif
