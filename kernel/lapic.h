/* The local APIC, as far as Nestor itself needs it: L1 owns it.
 * Needs the direct map.
 * kernel/smp starts processors with it, vmx/kick sends NMIs, vmx/startup does L1's writes. */
#ifndef KERNEL_LAPIC_H
#define KERNEL_LAPIC_H

#include "kernel/base.h"

#define LAPIC_ID 0x20
#define LAPIC_LDR 0xd0
#define LAPIC_ICR 0x300
#define LAPIC_ICR_HIGH 0x310
#define ICR_VECTOR BITS(7, 0)
#define ICR_DELIVERY BITS(10, 8)
#define ICR_DELIVERY_NMI 4
#define ICR_DELIVERY_INIT 5
#define ICR_DELIVERY_STARTUP 6
#define ICR_LOGICAL BIT(11)
#define ICR_PENDING BIT(12)
#define ICR_ASSERT BIT(14)
#define ICR_SHORTHAND BITS(19, 18)
#define ICR_DESTINATION BITS(31, 24) /* of the high half, in xAPIC mode */

/* This processor's APIC ID, 32 bits wide in x2APIC mode. */
uint32_t lapic_id(void);
/* True if the APIC's mode can name a processor with that ID: xAPIC mode has 8 bits, and FFH is all. */
bool lapic_reaches(uint32_t apic_id);
/* Sends `command` (the low half of the ICR) to one processor. The high half of the ICR is what it was afterwards: L1
 * may be between its two writes. */
void lapic_send(uint32_t apic_id, uint32_t command);
/* A register of the memory-mapped APIC. Nothing in x2APIC mode. */
void lapic_write(uint32_t offset, uint32_t value);
/* Does to the APIC what INIT does, as far as software can: disabled by software, no timer, nothing in service. */
void lapic_reset(void);

#endif
