#include "kernel/lapic.h"

#include "kernel/layout.h"
#include "kernel/msr.h"
#include "kernel/x86.h"

#define X2APIC_ID 0x802
#define APIC_BASE_ADDRESS BITS(51, 12)
#define LAPIC_ID 0x20
#define LAPIC_ID_ID BITS(31, 24)

uint32_t lapic_id(void)
{
    uint64_t base = rdmsr(IA32_APIC_BASE);

    if (base & APIC_BASE_EXTD)
        return (uint32_t)rdmsr(X2APIC_ID);
    const volatile uint32_t *reg = hpa_to_va((base & APIC_BASE_ADDRESS) + LAPIC_ID);
    return (uint32_t)GET(*reg, LAPIC_ID_ID);
}
