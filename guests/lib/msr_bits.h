/* Bits of an MSR bitmap page. SDM 3C 25.6.9 "MSR-Bitmap Address"
 * Pure. For scenarios and the demo. */
#ifndef GUESTS_LIB_MSR_BITS_H
#define GUESTS_LIB_MSR_BITS_H

#include "kernel/base.h"

#define MSR_READ 0u
#define MSR_WRITE 0x800u
#define MSR_HIGH_RANGE 0xc0000000u
#define MSR_HIGH_OFFSET 0x400u
#define MSR_RANGE_MASK 0x1fffu

/* The byte of the page that holds the bit of an MSR, for reads or for writes. */
static inline unsigned msr_byte(uint32_t msr, unsigned access)
{
    return access + (msr >= MSR_HIGH_RANGE ? MSR_HIGH_OFFSET : 0) + (msr & MSR_RANGE_MASK) / 8;
}

/* Plain stores, so that each call is exactly one write to the page. */
static inline void msr_bit_set(volatile uint8_t *bitmap, uint32_t msr, unsigned access)
{
    volatile uint8_t *byte = &bitmap[msr_byte(msr, access)];

    *byte = (uint8_t)(*byte | 1 << msr % 8);
}

static inline void msr_bit_clear(volatile uint8_t *bitmap, uint32_t msr, unsigned access)
{
    volatile uint8_t *byte = &bitmap[msr_byte(msr, access)];

    *byte = (uint8_t)(*byte & ~(1 << msr % 8));
}

#endif
