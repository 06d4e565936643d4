/* The segment selectors of an L1 image, its descriptor tables and its TSS.
 * desc_init() once, early. Anyone may read the selectors and the tables' places. */
#ifndef GUESTS_LIB_DESC_H
#define GUESTS_LIB_DESC_H

#include "kernel/base.h"

#define SEL_CODE64 0x08
#define SEL_DATA 0x10
#define SEL_USER_DATA (0x18 | 3)
#define SEL_USER_CODE (0x20 | 3)
#define SEL_TSS 0x28 /* two slots */
#define SEL_CODE32 0x38
#define SEL_OTHER_TSS 0x40 /* a 32-bit TSS for 32-bit code to switch to */

struct table_register {
    uint16_t limit;
    uint64_t base;
} PACKED;

void desc_init(void);
uint64_t desc_gdt_base(void);
uint64_t desc_idt_base(void);
uint64_t desc_tss_base(void);
/* Fills one gate of the IDT; `dpl` 3 lets user mode use it by INT. */
void desc_set_gate(unsigned vector, uint64_t handler, unsigned dpl);

#endif
