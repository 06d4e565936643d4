/* The BIOS's memory map as L1 may ask for it itself, in real mode by INT 15h: Nestor's memory is reserved there too.
 * The answers are given by l1/bios15.asm in a page of conventional memory that L1 is told to leave alone. On UEFI a
 * multiboot 1 image, which is told nothing of it, finds the same page as a stand-in for a BIOS.
 * start/ reserves the page before L1's image is placed, and installs it before L1 runs. */
#ifndef L1_L1_BIOS_H
#define L1_L1_BIOS_H

#include "kernel/base.h"
#include "mm/memmap.h"

#define L1_BIOS_REGIONS 190      /* as many as the page has room for; further ones are left out */
#define L1_BIOS_TABLE_OFFSET 256 /* of the table in the page: TABLE in l1/bios15.asm */
#define L1_BIOS_SIZE 0xa0u       /* offsets in the page: there too */
#define L1_BIOS_REFUSE 0xb0u
#define L1_BIOS_RETURN 0xb8u
#define L1_BIOS_ROOT 0xc0u /* on a border of 16, in the first KiB: ACPI 6.5, 5.2.5.1 */

/* Only an installed page has one. As l1/bios15.asm reads it. */
struct PACKED l1_bios_table {
    uint32_t bios_vector; /* of INT 15h, as it was before */
    uint32_t count;
    uint16_t kib_from_1m, blocks_from_16m, kib_from_1m_all, unused;
    struct PACKED {
        uint64_t base, size;
        uint32_t type;
    } region[L1_BIOS_REGIONS];
};

/* True if page 0 looks like a BIOS's; on UEFI anything may be there. */
bool l1_bios_present(void);
/* The highest free page below 640 KiB, which the caller takes from L1. 0: there is none. */
hpa_t l1_bios_find(const struct memmap *map);
void l1_bios_fill(const struct memmap *map, uint32_t bios_vector, struct l1_bios_table *table);
/* Writes the page, the interrupt vector, and the BIOS's word for the size of conventional memory. */
void l1_bios_install(const struct memmap *map, hpa_t page);
/* Behind l1_bios_install(), where there is no BIOS but L1 knows nothing else: all other interrupts, too, and what is
 * found as an extended BIOS data area, with the root of ACPI's tables (`size` bytes) in it. */
void l1_bios_stand_in(hpa_t page, const uint8_t *rsdp, uint32_t size);

#endif
