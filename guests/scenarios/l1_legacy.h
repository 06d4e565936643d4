/* L1 outside long mode: an environment of its own (descriptor tables, TSS, paging or none) in which 32-bit code runs,
 * and from which everything comes back to 64-bit mode.
 * legacy_reset() before each use; then set what differs, legacy_run(), and look at what was recorded.
 * Scenarios of L1's own behaviour use it. */
#ifndef GUESTS_SCENARIOS_L1_LEGACY_H
#define GUESTS_SCENARIOS_L1_LEGACY_H

#include "kernel/base.h"

/* Selectors of the environment's GDT. l1_legacy.inc has some of them for assembly. */
enum {
    L_CODE64 = 0x08,
    L_DATA = 0x10,
    L_CODE32 = 0x18,
    L_CODE16 = 0x20, /* base 0, 64 KiB */
    L_DATA16 = 0x28,
    L_USER_CODE = 0x30 | 3,
    L_USER_DATA = 0x38 | 3,
    L_MAIN_TSS = 0x40, /* of the code that legacy_run() calls */
    L_TASK = 0x48,
    L_TASK16 = 0x50,
    L_HANDLER = 0x58, /* a second task */
    L_LDT = 0x60,
    L_GATE = 0x68,
    L_SCRATCH = 0x70,
    L_GDT_SIZE = 0x80,
    L_VECTOR_USER = 0x80, /* INT of it is allowed at CPL 3 */
};

struct tss32 {
    uint16_t link, reserved0;
    uint32_t esp0, ss0, esp1, ss1, esp2, ss2;
    uint32_t cr3, eip, eflags;
    uint32_t eax, ecx, edx, ebx, esp, ebp, esi, edi;
    uint32_t es, cs, ss, ds, fs, gs, ldt;
    uint16_t trap, io_map;
} PACKED;
_Static_assert(sizeof(struct tss32) == 104, "32-bit TSS");

struct tss16 {
    uint16_t link, sp0, ss0, sp1, ss1, sp2, ss2;
    uint16_t ip, flags;
    uint16_t ax, cx, dx, bx, sp, bp, si, di;
    uint16_t es, cs, ss, ds, ldt;
} PACKED;
_Static_assert(sizeof(struct tss16) == 44, "16-bit TSS");

/* Control registers of the environment. Without EFER.LME there is no long mode in it. */
struct legacy_control {
    uint32_t cr0, cr3, cr4, efer;
    uint32_t entry; /* 32-bit code, called with a flat stack */
    uint32_t flip;  /* bits of CR0 that change with PG when paging goes off */
};
extern struct legacy_control legacy_control;

/* The record that a trap of the environment left behind. */
struct legacy_trap {
    uint32_t vector, error, eip, cs, eflags, esp, ss, tr, cr2, dr6;
};
extern struct legacy_trap legacy_trap;
#define LEGACY_NO_TRAP 0xffffffffu
/* Traps by vector; those marked here are only counted (with an EOI from 0x40 on), the others end the excursion. */
extern volatile uint32_t legacy_trap_counts[256];
extern uint8_t legacy_trap_counted[256];

extern uint64_t legacy_gdt[L_GDT_SIZE / 8];
extern uint64_t legacy_idt[256];
extern uint64_t legacy_ldt[4];
extern struct tss32 legacy_main_tss;

/* Flat segments, no paging, gates to the recording handler, the main TSS. */
void legacy_reset(void);
/* Runs the code at `entry` and comes back when it returns or a trap ends it. */
void legacy_run(void (*entry)(void));
/* A gate descriptor; type 0x8e interrupt gate, 0x8f trap gate, 0x85 task gate. */
uint64_t legacy_gate(unsigned type, unsigned selector, uint32_t offset);
void legacy_set_descriptor(unsigned selector, uint32_t base, uint32_t limit, unsigned access, unsigned flags);
unsigned legacy_access(unsigned selector);

/* Tables that map 4 GiB one to one, for CR3: with pages of 4 MiB, or of 2 MiB under PAE. */
uint32_t *legacy_tables_32bit(void);
uint64_t *legacy_tables_pae(void);

#endif
