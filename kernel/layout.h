/* Nestor's own address space: where its image and the direct map of physical memory lie.
 * boot/entry.asm and linker.ld follow these numbers; mm/hpt.c builds the final tables.
 * Anyone may include it. On the host (unit tests) the two conversions are identities set by the test. */
#ifndef KERNEL_LAYOUT_H
#define KERNEL_LAYOUT_H

#include "kernel/base.h"

#define IMAGE_LINK_BASE 0xffffffff80000000ull /* where linker.ld links everything but the 32-bit entry */
#define IMAGE_LOAD_BASE 0x200000ull /* where the boot loader puts it, or elsewhere; it moves to the carve-out */
#define DIRECT_MAP_BASE 0xffff800000000000ull /* physical address 0 */
#define DIRECT_MAP_SIZE (1ull << 46)

#ifdef __STDC_HOSTED__
#if __STDC_HOSTED__
#define LAYOUT_HOST 1
#endif
#endif

#ifdef LAYOUT_HOST
/* Unit tests: a test's array stands for physical memory. */
extern uint8_t *layout_host_memory;
static inline void *hpa_to_va(hpa_t hpa)
{
    return layout_host_memory + hpa;
}
static inline hpa_t va_to_hpa(const void *va)
{
    return (hpa_t)((const uint8_t *)va - layout_host_memory);
}
#else
/* Physical base of the image: where the loader put it until mm/hpt moved it; and the former for ever. */
extern hpa_t layout_image_hpa, layout_load_base;

/* Of what boot/entry.asm has in its sections .low_*, which stay where the loader put them. */
static inline hpa_t low_to_hpa(const void *label)
{
    return (hpa_t)label - IMAGE_LOAD_BASE + layout_load_base;
}

static inline void *hpa_to_va(hpa_t hpa)
{
    return (void *)(DIRECT_MAP_BASE + hpa);
}

/* Of an address in the image or in the direct map. */
static inline hpa_t va_to_hpa(const void *va)
{
    uint64_t address = (uint64_t)va;
    return address >= IMAGE_LINK_BASE ? address - IMAGE_LINK_BASE + layout_image_hpa : address - DIRECT_MAP_BASE;
}
#endif

#endif
