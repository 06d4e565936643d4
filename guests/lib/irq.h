/* Interrupts of an L1 image: the 8259s are masked, the local APIC's timer and self-IPIs are the sources.
 * irq_init() once. The trap handler counts what arrives (trap_count[]) and signals EOI for the two vectors below. */
#ifndef GUESTS_LIB_IRQ_H
#define GUESTS_LIB_IRQ_H

#include "kernel/base.h"

#define IRQ_VECTOR_TIMER 0x40
#define IRQ_VECTOR_SELF 0x41
#define LAPIC_BASE 0xfee00000ull
#define LAPIC_ID 0x20
#define LAPIC_TPR 0x80
#define LAPIC_ICR_LOW 0x300
#define ICR_SELF 0x40000

void irq_init(void);
/* One interrupt after so many ticks of the APIC's clock. */
void irq_timer_start(uint32_t ticks);
void irq_timer_stop(void);
void irq_self_ipi(uint8_t vector);
void irq_self_nmi(void);
void irq_eoi(void);
uint32_t irq_lapic_read(uint32_t offset);
void irq_lapic_write(uint32_t offset, uint32_t value);
/* Lets pending interrupts in for a moment. */
void irq_window(void);

#endif
