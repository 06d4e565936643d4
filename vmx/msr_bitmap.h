/* MSR bitmaps: one 4 KiB page, a bit per MSR and direction (SDM 3C 25.6.9 "MSR-Bitmap Address").
 * Pure.
 * vmx/msr_policy builds L0's, nested/bitmap/ merges L0's with L1's. */
#ifndef VMX_MSR_BITMAP_H
#define VMX_MSR_BITMAP_H

#include "kernel/base.h"

#define MSR_BITMAP_READ_LOW 0x000u
#define MSR_BITMAP_READ_HIGH 0x400u
#define MSR_BITMAP_WRITE_LOW 0x800u
#define MSR_BITMAP_WRITE_HIGH 0xc00u
#define MSR_BITMAP_HIGH_BASE 0xc0000000u
#define MSR_BITMAP_RANGE 0x2000u /* MSRs in each of the two ranges */

enum msr_access { MSR_READ, MSR_WRITE };

/* Bit number in the page for an MSR's access, or -1 when the MSR lies in neither range: such an access always exits. */
int msr_bitmap_bit(uint32_t msr, enum msr_access access);
/* True if an access exits under the bitmap. */
bool msr_bitmap_test(const uint8_t *bitmap, uint32_t msr, enum msr_access access);
void msr_bitmap_set(uint8_t *bitmap, uint32_t msr, enum msr_access access);
void msr_bitmap_clear(uint8_t *bitmap, uint32_t msr, enum msr_access access);
/* merged = l0 | l1, 4096 bytes; the pages may not overlap but merged == l1 is allowed. */
void msr_bitmap_merge(void *merged, const void *l0, const void *l1);

#endif
