/* Types, masks and small helpers that every file shares.
 * Needs nothing; pure; freestanding and hosted.
 * Anyone may include it. */
#ifndef KERNEL_BASE_H
#define KERNEL_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Whose address it is: hpa = host-physical, gpa = guest-physical (gpa1 of L1, gpa2 of L2), gva = guest-linear. */
typedef uint64_t hpa_t;
typedef uint64_t gpa_t;
typedef uint64_t gva_t;

#define BIT(n) (1ull << (n))
/* Mask of bits hi..lo, both included. */
#define BITS(hi, lo) ((~0ull >> (63 - (hi))) & (~0ull << (lo)))
/* The field that `mask` selects in `value`, shifted down; and `value` shifted up into the field. */
#define GET(value, mask) (((uint64_t)(value) & (mask)) / ((mask) & -(mask)))
#define PUT(value, mask) (((uint64_t)(value) * ((mask) & -(mask))) & (mask))

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
/* It takes (a) for a cast: */
/* clang-format off */
#define ALIGN_DOWN(x, a) ((uint64_t)(x) & ~((uint64_t)(a) - 1))
#define ALIGN_UP(x, a) ALIGN_DOWN((uint64_t)(x) + (a) - 1, a)
#define IS_ALIGNED(x, a) (((x) & ((uint64_t)(a) - 1)) == 0)
/* clang-format on */
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

#define KIB (1ull << 10)
#define MIB (1ull << 20)
#define MAX_CPUS 256
#define GIB (1ull << 30)
#define PAGE_SIZE 4096ull
#define PAGE_MASK (PAGE_SIZE - 1)
#define LARGE_2M (2 * MIB)
#define LARGE_1G GIB

/* One bit of an array of words. */
static inline void bits_set(uint64_t *words, uint64_t bit)
{
    words[bit / 64] |= BIT(bit % 64);
}
static inline void bits_clear(uint64_t *words, uint64_t bit)
{
    words[bit / 64] &= ~BIT(bit % 64);
}
static inline bool bits_test(const uint64_t *words, uint64_t bit)
{
    return words[bit / 64] >> bit % 64 & 1;
}

#define MUST_CHECK __attribute__((warn_unused_result))
/* The compiler may take it for granted. */
#define KNOWN(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            __builtin_unreachable();                                                                                   \
    } while (0)
#define NOINLINE __attribute__((noinline))
#define ALWAYS_INLINE inline __attribute__((always_inline))
#define NORETURN __attribute__((noreturn))
#define PACKED __attribute__((packed))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))

#endif
