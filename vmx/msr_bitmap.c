#include "vmx/msr_bitmap.h"

/* Four bitmaps of 1024 bytes: reads of low MSRs, reads of high ones, writes of low, writes of high. SDM 3C 25.6.9
 * "MSR-Bitmap Address" */
int msr_bitmap_bit(uint32_t msr, enum msr_access access)
{
    uint32_t base = access == MSR_READ ? MSR_BITMAP_READ_LOW * 8 : MSR_BITMAP_WRITE_LOW * 8;

    if (msr < MSR_BITMAP_RANGE)
        return (int)(base + msr);
    if (msr - MSR_BITMAP_HIGH_BASE < MSR_BITMAP_RANGE)
        return (int)(base + MSR_BITMAP_READ_HIGH * 8 + (msr - MSR_BITMAP_HIGH_BASE));
    return -1;
}

bool msr_bitmap_test(const uint8_t *bitmap, uint32_t msr, enum msr_access access)
{
    int bit = msr_bitmap_bit(msr, access);

    /* An MSR in neither range always exits. */
    return bit < 0 || (bitmap[bit / 8] & BIT(bit % 8));
}

void msr_bitmap_set(uint8_t *bitmap, uint32_t msr, enum msr_access access)
{
    int bit = msr_bitmap_bit(msr, access);

    if (bit >= 0)
        bitmap[bit / 8] |= (uint8_t)BIT(bit % 8);
}

void msr_bitmap_clear(uint8_t *bitmap, uint32_t msr, enum msr_access access)
{
    int bit = msr_bitmap_bit(msr, access);

    if (bit >= 0)
        bitmap[bit / 8] &= (uint8_t)~BIT(bit % 8);
}

/* The report's sentence as code: an access of L2 must exit if L0 or L1 wants it to, so the page is the OR of both.
 * merged_or() does the same with fewer loads; this is the plain form that tests compare with. */
void msr_bitmap_merge(void *merged, const void *l0, const void *l1)
{
    uint64_t *out = merged;
    const uint64_t *a = l0, *b = l1;

    for (unsigned i = 0; i < PAGE_SIZE / sizeof *out; i++)
        out[i] = a[i] | b[i];
}
