#include "mm/mtrr.h"

#include "kernel/msr.h"
#include "kernel/x86.h"

#define FIXED_END MIB
#define FIXED_REGISTERS 11
#define REGISTER_BYTE(value, n) ((unsigned)((value) >> (8 * (n))) & 0xffu)

/* The fixed-range registers in the order of struct mtrr: each holds eight types of `step` bytes.
 * SDM 3A 12.11.2.2 "Fixed Range MTRRs" */
static const struct {
    uint32_t base, step;
} fixed_range[] = {
    {0x00000, 64 * KIB},
    {0x80000, 16 * KIB},
    {0xa0000, 16 * KIB},
    {0xc0000, 4 * KIB},
};

static uint32_t fixed_msr(unsigned n)
{
    if (n == 0)
        return IA32_MTRR_FIX64K_00000;
    return n < 3 ? IA32_MTRR_FIX16K_80000 + n - 1 : IA32_MTRR_FIX4K_C0000 + n - 3;
}

void mtrr_read(struct mtrr *mtrr)
{
    uint64_t cap = rdmsr(IA32_MTRRCAP);
    uint32_t address_bits = 36;

    *mtrr = (struct mtrr){.default_type = rdmsr(IA32_MTRR_DEF_TYPE),
                          .fixed_supported = cap & MTRRCAP_FIX,
                          .wc_supported = cap & MTRRCAP_WC};
    mtrr->variable_count = MIN(GET(cap, MTRRCAP_VCNT), MTRR_MAX_VARIABLE);
    for (unsigned i = 0; i < mtrr->variable_count; i++) {
        mtrr->variable[i].base = rdmsr(IA32_MTRR_PHYSBASE0 + 2 * i);
        mtrr->variable[i].mask = rdmsr(IA32_MTRR_PHYSMASK0 + 2 * i);
    }
    for (unsigned i = 0; mtrr->fixed_supported && i < FIXED_REGISTERS; i++)
        mtrr->fixed[i] = rdmsr(fixed_msr(i));
    if (cpuid(0x80000000, 0).eax >= 0x80000008)
        address_bits = cpuid(0x80000008, 0).eax & 0xff;
    mtrr->address_mask = BITS(address_bits - 1, 12);
}

static bool fixed_enabled(const struct mtrr *mtrr)
{
    return mtrr->fixed_supported && (mtrr->default_type & MTRR_DEF_TYPE_FE);
}

static unsigned fixed_type(const struct mtrr *mtrr, hpa_t hpa)
{
    unsigned range = hpa < 0x80000 ? 0 : hpa < 0xa0000 ? 1 : hpa < 0xc0000 ? 2 : 3;
    unsigned index = (unsigned)((hpa - fixed_range[range].base) / fixed_range[range].step);

    return REGISTER_BYTE(mtrr->fixed[range + index / 8], index % 8);
}

/* Two variable ranges over one page: UC wins, WT wins over WB; what the SDM leaves open is made UC.
 * SDM 3A 12.11.4.1 "MTRR Precedences" */
static unsigned combine(unsigned a, unsigned b)
{
    if (a == b)
        return a;
    if ((a == MEMTYPE_WT && b == MEMTYPE_WB) || (a == MEMTYPE_WB && b == MEMTYPE_WT))
        return MEMTYPE_WT;
    return MEMTYPE_UC;
}

unsigned mtrr_type(const struct mtrr *mtrr, hpa_t hpa)
{
    unsigned type = 0;
    bool found = false;

    if (!(mtrr->default_type & MTRR_DEF_TYPE_E))
        return MEMTYPE_UC;
    if (hpa < FIXED_END && fixed_enabled(mtrr))
        return fixed_type(mtrr, hpa);
    for (unsigned i = 0; i < mtrr->variable_count; i++) {
        uint64_t mask = mtrr->variable[i].mask & mtrr->address_mask;
        if (!(mtrr->variable[i].mask & MTRR_PHYSMASK_VALID) || ((hpa ^ mtrr->variable[i].base) & mask))
            continue;
        type =
            found ? combine(type, REGISTER_BYTE(mtrr->variable[i].base, 0)) : REGISTER_BYTE(mtrr->variable[i].base, 0);
        found = true;
    }
    return found ? type : (unsigned)GET(mtrr->default_type, MTRR_DEF_TYPE_TYPE);
}

/* True if every register covers all or nothing of the naturally aligned block, so that one byte tells its type. */
static bool block_is_simple(const struct mtrr *mtrr, hpa_t base, uint64_t size)
{
    if (size <= PAGE_SIZE)
        return true;
    if (base < FIXED_END && fixed_enabled(mtrr))
        return false;
    for (unsigned i = 0; i < mtrr->variable_count; i++) {
        uint64_t mask = mtrr->variable[i].mask & mtrr->address_mask;
        bool cuts = mask & (size - 1);
        bool apart = (base ^ mtrr->variable[i].base) & mask & ~(size - 1);
        if ((mtrr->variable[i].mask & MTRR_PHYSMASK_VALID) && cuts && !apart)
            return false;
    }
    return true;
}

/* Goes through the range in naturally aligned blocks, each as large as the registers allow. */
bool mtrr_uniform(const struct mtrr *mtrr, hpa_t base, uint64_t size, unsigned *type)
{
    hpa_t end = base + size;

    *type = mtrr_type(mtrr, base);
    while (base < end) {
        uint64_t block = base ? base & -base : 1ull << 63;
        while (block > end - base || !block_is_simple(mtrr, base, block))
            block /= 2;
        if (mtrr_type(mtrr, base) != *type)
            return false;
        base += block;
    }
    return true;
}

#define BASE_RESERVED BITS(11, 8)
#define MASK_RESERVED BITS(10, 0)
#define DEF_TYPE_RESERVED (BITS(63, 12) | BITS(9, 8))

static bool type_valid(const struct mtrr *mtrr, unsigned type)
{
    return type == MEMTYPE_UC || type == MEMTYPE_WT || type == MEMTYPE_WP || type == MEMTYPE_WB ||
           (type == MEMTYPE_WC && mtrr->wc_supported);
}

/* The register, or NULL when this CPU has none by that number. */
static const uint64_t *msr_register(const struct mtrr *mtrr, uint32_t msr)
{
    uint32_t variable = msr - IA32_MTRR_PHYSBASE0;

    if (msr == IA32_MTRR_DEF_TYPE)
        return &mtrr->default_type;
    if (variable < 2 * mtrr->variable_count)
        return variable % 2 ? &mtrr->variable[variable / 2].mask : &mtrr->variable[variable / 2].base;
    for (unsigned n = 0; mtrr->fixed_supported && n < FIXED_REGISTERS; n++)
        if (msr == fixed_msr(n))
            return &mtrr->fixed[n];
    return NULL;
}

static bool value_valid(const struct mtrr *mtrr, uint32_t msr, uint64_t value)
{
    uint64_t low = value & BITS(11, 0);

    if (msr == IA32_MTRR_DEF_TYPE)
        return !(value & DEF_TYPE_RESERVED) && type_valid(mtrr, REGISTER_BYTE(value, 0)) &&
               (mtrr->fixed_supported || !(value & MTRR_DEF_TYPE_FE));
    if (msr >= IA32_MTRR_FIX64K_00000) {
        for (unsigned n = 0; n < 8; n++)
            if (!type_valid(mtrr, REGISTER_BYTE(value, n)))
                return false;
        return true;
    }
    if ((value ^ low) & ~mtrr->address_mask)
        return false;
    if ((msr - IA32_MTRR_PHYSBASE0) % 2)
        return !(low & MASK_RESERVED);
    return !(low & BASE_RESERVED) && type_valid(mtrr, REGISTER_BYTE(value, 0));
}

bool mtrr_msr_read(const struct mtrr *mtrr, uint32_t msr, uint64_t *value)
{
    const uint64_t *reg = msr_register(mtrr, msr);

    if (reg)
        *value = *reg;
    return reg;
}

bool mtrr_msr_write(struct mtrr *mtrr, uint32_t msr, uint64_t value)
{
    uint64_t *reg = (uint64_t *)(uintptr_t)msr_register(mtrr, msr);

    if (!reg || !value_valid(mtrr, msr, value))
        return false;
    *reg = value;
    return true;
}
