/* Descriptor tables: a GDT and a TSS with emergency stacks per processor, one IDT for all.
 * desc_load() once per processor, with its struct cpu filled by percpu_init().
 * start/ loads them; vmx/ writes the selectors and bases into the host area of a VMCS. */
#ifndef KERNEL_DESC_H
#define KERNEL_DESC_H

#include "kernel/base.h"

#define SELECTOR_CODE 0x08
#define SELECTOR_DATA 0x10
#define SELECTOR_TSS 0x18 /* two entries */

/* SDM 3A 8.7 "Task Management in 64-bit Mode" */
struct PACKED tss {
    uint32_t reserved0;
    uint64_t rsp[3];
    uint64_t reserved1;
    uint64_t ist[7]; /* IST1..IST7 */
    uint64_t reserved2;
    uint16_t reserved3;
    uint16_t io_map_base;
};
_Static_assert(sizeof(struct tss) == 104, "64-bit TSS");

#define GDT_ENTRIES 5
#define IDT_ENTRIES 256

/* Each of these may strike while the stack pointer is of no use, or while another of them is handled. */
enum ist { IST_NONE, IST_DF, IST_NMI, IST_MC, IST_COUNT };

struct cpu;

/* Fills the GDT and the TSS of `cpu` and loads them and the IDT; GS base becomes `cpu`. */
void desc_load(struct cpu *cpu);
/* All but TR, which nothing makes null again: a processor that may go back to a firmware without a task keeps it so,
 * and has no stacks of its own for the exceptions of enum ist meanwhile. */
void desc_load_without_task(struct cpu *cpu);
/* For the host area of a VMCS. */
uint64_t desc_idt_base(void);

#endif
