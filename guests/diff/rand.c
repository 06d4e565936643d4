#include "guests/diff/rand.h"

#define STEP 0x9e3779b97f4a7c15ull

static uint64_t state;

/* SplitMix64: small, fast, and any seed is as good as another. */
uint64_t rand_next(void)
{
    uint64_t z = state += STEP;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

void rand_start(uint64_t seed, uint64_t block)
{
    state = seed;
    state = rand_next() ^ block * STEP;
    state = rand_next();
}

unsigned rand_below(unsigned limit)
{
    return (unsigned)((rand_next() >> 32) * limit >> 32);
}

bool rand_chance(unsigned times, unsigned of)
{
    return rand_below(of) < times;
}

uint64_t rand_bit(unsigned width)
{
    return BIT(rand_below(width));
}

uint64_t rand_value(void)
{
    switch (rand_below(8)) {
    case 0:
        return 0;
    case 1:
        return ~0ull;
    case 2:
        return rand_bit(64);
    case 3:
        return ~rand_bit(64);
    case 4:
        return rand_below(256);
    case 5:
        return (uint32_t)rand_next();
    case 6:
        return (uint64_t)((int64_t)rand_next() >> rand_below(48));
    default:
        return rand_next();
    }
}

uint64_t rand_narrow(uint64_t value)
{
    int64_t upper = (int64_t)value >> 56;

    return upper == 0 || upper == -1 ? (uint64_t)((int64_t)(value << 16) >> 16) : value;
}
