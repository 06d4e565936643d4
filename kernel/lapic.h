/* The local APIC, as far as Nestor itself needs it: L1 owns it.
 * Needs the direct map.
 * kernel/main.c and later the start of further processors. */
#ifndef KERNEL_LAPIC_H
#define KERNEL_LAPIC_H

#include "kernel/base.h"

/* This processor's APIC ID, 32 bits wide in x2APIC mode. */
uint32_t lapic_id(void);

#endif
