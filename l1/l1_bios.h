/* The BIOS's memory map as L1 may ask for it itself, in real mode by INT 15h: Nestor's memory is reserved there too.
 * The answers are given by l1/bios15.asm in a page of conventional memory that L1 is told to leave alone.
 * start/ reserves the page before L1's image is placed, and installs it before L1 runs. */
#ifndef L1_L1_BIOS_H
#define L1_L1_BIOS_H

#include "kernel/base.h"
#include "mm/memmap.h"

#define L1_BIOS_REGIONS 190      /* as many as the page has room for; further ones are left out */
#define L1_BIOS_TABLE_OFFSET 256 /* of the table in the page: TABLE in l1/bios15.asm */

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

/* The highest free page below 640 KiB, which the caller takes from L1. 0: there is none, or no BIOS. */
hpa_t l1_bios_find(const struct memmap *map);
void l1_bios_fill(const struct memmap *map, uint32_t bios_vector, struct l1_bios_table *table);
/* Writes the page, the interrupt vector, and the BIOS's word for the size of conventional memory. */
void l1_bios_install(const struct memmap *map, hpa_t page);

#endif
