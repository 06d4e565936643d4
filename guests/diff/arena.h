/* L2's memory: 32 pages that every mode sees at linear addresses 0 to 1FFFFH, and nothing else.
 * arena_init() once; arena_reset() at the start of each block. With EPT the guest-physical addresses are the linear
 * ones; without it, page tables of their own lead to the host's. */
#ifndef GUESTS_DIFF_ARENA_H
#define GUESTS_DIFF_ARENA_H

#include "kernel/base.h"

enum arena_page {
    PAGE_IVT,      /* real mode's vectors */
    PAGE_CODE,     /* the snippet; VMCALLs fill the rest */
    PAGE_STACK,    /* the stack, and that of rings 1 and 0 after a change of ring */
    PAGE_DATA,     /* plain memory */
    PAGE_SPECIAL,  /* its EPT entry is varied */
    PAGE_TABLES,   /* GDT and LDT */
    PAGE_IDT64,    /* gates of IA-32e mode */
    PAGE_IDT32,    /* gates of 32-bit protected mode */
    PAGE_HANDLERS, /* one VMCALL per vector: RIP tells which */
    PAGE_TSS,
    PAGE_APIC,   /* the APIC-access page */
    PAGE_KERNEL, /* supervisor only */
    PAGE_READ,   /* not writable */
    PAGE_NX,     /* not executable */
    PAGE_ABSENT, /* not present */
    PAGE_SPARE,
    PAGE_PML4,
    PAGE_PDPT,
    PAGE_PD,
    PAGE_PT,
    PAGE_PD32,
    PAGE_PT32,
    PAGE_PDPTES,    /* of PAE paging */
    PAGE_PML4_HOST, /* the same once more, with the host's addresses: for L2s without EPT */
    PAGE_PDPT_HOST,
    PAGE_PD_HOST,
    PAGE_PT_HOST,
    PAGE_PD32_HOST,
    PAGE_PT32_HOST,
    PAGE_PDPTES_HOST,
    ARENA_PAGES = 32
};

#define AT(page) ((uint64_t)(page)*PAGE_SIZE)
#define STACK_TOP (AT(PAGE_STACK) + 0x800)
#define RING_STACK_TOP (AT(PAGE_STACK) + 0xf00)
#define TSS32_AT (AT(PAGE_TSS) + 0x400)
#define TSS32_OTHER_AT (AT(PAGE_TSS) + 0x800)
#define LDT_AT (AT(PAGE_TABLES) + 0x800)
#define HANDLER_SIZE 4

/* Selectors of L2's GDT. */
#define L2_CODE64 0x08
#define L2_DATA 0x10
#define L2_CODE32 0x18
#define L2_USER_DATA 0x23
#define L2_USER_CODE64 0x2b
#define L2_USER_CODE32 0x33
#define L2_TSS 0x38
#define L2_CODE16 0x48
#define L2_DATA16 0x50
#define L2_LDT 0x58
#define L2_TSS_OTHER 0x68
#define L2_ABSENT 0x70
#define L2_CONFORMING 0x78
#define L2_READ_ONLY 0x80
#define L2_GDT_LIMIT 0x87

void arena_init(void);
void arena_reset(void);
/* Where L1 sees an address of L2. */
void *arena_at(uint64_t address);
/* The address of a page as L2's CR3, PDPTEs and the like have to name it. */
uint64_t arena_physical(enum arena_page page, bool ept);
/* EPT12 is there twice: with and without A/D flags, for one EPTP's flag must not change under cached translations. */
uint64_t arena_eptp(bool accessed_dirty);
/* EPT12's entry for a page at a level, by its span; the leaf spans PAGE_SIZE. */
uint64_t *arena_ept_entry(bool accessed_dirty, enum arena_page page, uint64_t span);
/* The table of sub-page write permissions, and its entry for a page at a level; level 1 is the vector. arena_reset()
 * makes it whole, and nothing permitted. */
uint64_t arena_spptp(void);
uint64_t *arena_sppt_entry(enum arena_page page, unsigned level);
/* The bits that count of eight bytes of a page: not RF in what may be flags on the stack, or at address 0 where that
 * wraps, for a delivery that did not come to its handler (BOCHS 18 in l2report.c). */
uint64_t arena_compared(enum arena_page page, uint64_t quad);
uint64_t arena_hash(enum arena_page page);
/* Puts back what is watched after each operation, and the code page when L2 may have written to it. */
void arena_restore(enum arena_page page, unsigned offset, unsigned size);

#endif
