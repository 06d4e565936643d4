/* Faults of particular machines that Nestor steps around, one flag each, off on all others.
 * Pure but for the CPUID that the caller gives.
 * start/ decides once; the code that steps around a fault asks for its flag by name. */
#ifndef VMX_QUIRKS_H
#define VMX_QUIRKS_H

#include "kernel/x86.h"

struct quirks {
    /* Bochs 2.7: IA32_APIC_BASE.EN never comes back once it was cleared, and so x2APIC mode cannot be left. L1's
     * clearing of EN is remembered and not done, and L1 is told of no x2APIC. */
    bool apic_enable_sticks;
    /* Bochs 2.7: after an exit due to INIT every later entry exits for it again, and a processor that waits for a
     * start-up IPI in the guest comes out of it damaged. L1's IPIs for both are intercepted instead. */
    bool init_exit_sticks;
};

/* In the order of the values of the option "quirks". */
enum quirks_option { QUIRKS_AUTO, QUIRKS_NONE, QUIRKS_BOCHS };

/* `rsdp`: the ACPI root pointer, at least 20 bytes, or NULL; `leaf1`: CPUID.1. Bochs and QEMU have the same firmware
 * name in their ACPI tables, but a QEMU that has VMX runs under KVM and shows a hypervisor. */
struct quirks quirks_choose(enum quirks_option option, const uint8_t *rsdp, struct cpuid_result leaf1);

#endif
