/* Posted interrupts for the L2 of the current VMCS. SDM 3C 30.6 "Posted-Interrupt Processing" */
#ifndef GUESTS_LIB_POSTED_H
#define GUESTS_LIB_POSTED_H

#include "guests/lib/vm.h"

/* Turns them on, with virtual-interrupt delivery in x2APIC mode. `virtual_apic`: a page; `descriptor`: 64 bytes,
 * aligned to that. */
static inline void posted_on(void *virtual_apic, void *descriptor, uint8_t vector)
{
    vmx_set(VIRTUAL_APIC_ADDR, (uint64_t)virtual_apic);
    vmx_set(POSTED_DESC_ADDR, (uint64_t)descriptor);
    vmx_set(POSTED_VECTOR, vector);
    vm_control_set(PROC_CONTROLS, (uint32_t)PROC_TPR_SHADOW);
    vm_control_set(EXIT_CONTROLS, (uint32_t)EXITC_ACK_INTERRUPT);
    vm_control_set(PIN_CONTROLS, (uint32_t)(PIN_EXTERNAL_INTERRUPT | PIN_POSTED_INTERRUPTS));
    vm_secondary_set((uint32_t)(PROC2_X2APIC | PROC2_VIRTUAL_INTERRUPTS));
}

#endif
