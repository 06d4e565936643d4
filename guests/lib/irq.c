#include "guests/lib/irq.h"

#include "guests/lib/cpu.h"

#define PIC1_DATA 0x21
#define PIC2_DATA 0xa1
#define PIC_MASK_ALL 0xff

#define LAPIC_EOI 0xb0
#define LAPIC_SVR 0xf0
#define LAPIC_ICR_HIGH 0x310
#define LAPIC_LVT_TIMER 0x320
#define LAPIC_TIMER_INITIAL 0x380
#define LAPIC_TIMER_DIVIDE 0x3e0
#define SVR_ENABLE 0x100
#define SVR_VECTOR 0xff
#define ICR_NMI 0x400
#define LVT_MASKED 0x10000
#define DIVIDE_BY_1 0xb

void irq_lapic_write(uint32_t offset, uint32_t value)
{
    *(volatile uint32_t *)(LAPIC_BASE + offset) = value;
}

uint32_t irq_lapic_read(uint32_t offset)
{
    return *(volatile uint32_t *)(LAPIC_BASE + offset);
}

void irq_init(void)
{
    cpu_outb(PIC1_DATA, PIC_MASK_ALL);
    cpu_outb(PIC2_DATA, PIC_MASK_ALL);
    irq_lapic_write(LAPIC_SVR, SVR_ENABLE | SVR_VECTOR);
    irq_lapic_write(LAPIC_TPR, 0);
    irq_lapic_write(LAPIC_TIMER_DIVIDE, DIVIDE_BY_1);
    irq_timer_stop();
}

void irq_timer_start(uint32_t ticks)
{
    irq_lapic_write(LAPIC_LVT_TIMER, IRQ_VECTOR_TIMER);
    irq_lapic_write(LAPIC_TIMER_INITIAL, ticks);
}

void irq_timer_stop(void)
{
    irq_lapic_write(LAPIC_TIMER_INITIAL, 0);
    irq_lapic_write(LAPIC_LVT_TIMER, LVT_MASKED | IRQ_VECTOR_TIMER);
}

void irq_self_ipi(uint8_t vector)
{
    irq_lapic_write(LAPIC_ICR_HIGH, 0);
    irq_lapic_write(LAPIC_ICR_LOW, ICR_SELF | vector);
}

/* The self shorthand is for fixed interrupts only: an NMI has to name the processor. */
void irq_self_nmi(void)
{
    irq_lapic_write(LAPIC_ICR_HIGH, irq_lapic_read(LAPIC_ID));
    irq_lapic_write(LAPIC_ICR_LOW, ICR_NMI);
}

void irq_eoi(void)
{
    irq_lapic_write(LAPIC_EOI, 0);
}

void irq_window(void)
{
    asm volatile("sti; nop; nop; cli" : : : "memory");
}
