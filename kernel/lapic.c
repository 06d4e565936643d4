#include "kernel/lapic.h"

#include "kernel/layout.h"
#include "kernel/msr.h"
#include "kernel/x86.h"

#define X2APIC_ID 0x802
#define APIC_BASE_ADDRESS BITS(51, 12)
#define LAPIC_ID_ID BITS(31, 24)
#define LAPIC_TPR 0x80
#define LAPIC_EOI 0xb0
#define LAPIC_SVR 0xf0
#define LAPIC_ISR 0x100 /* eight registers, 10H apart */
#define LAPIC_TIMER_INITIAL 0x380
#define SVR_RESET 0xff
#define SEND_TRIES 1000000u /* for an IPI to leave */

static bool is_x2apic(void)
{
    return (rdmsr(IA32_APIC_BASE) & APIC_BASE_EXTD) != 0;
}

static volatile uint32_t *reg(uint32_t offset)
{
    return hpa_to_va((rdmsr(IA32_APIC_BASE) & APIC_BASE_ADDRESS) + offset);
}

uint32_t lapic_id(void)
{
    if (is_x2apic())
        return (uint32_t)rdmsr(X2APIC_ID);
    return (uint32_t)GET(*reg(LAPIC_ID), LAPIC_ID_ID);
}

bool lapic_reaches(uint32_t apic_id)
{
    return apic_id < 0xff || is_x2apic();
}

static void wait_until_sent(void)
{
    for (unsigned i = 0; i < SEND_TRIES && (*reg(LAPIC_ICR) & ICR_PENDING); i++)
        cpu_pause();
}

void lapic_send(uint32_t apic_id, uint32_t command)
{
    if (is_x2apic()) {
        /* The store that the IPI tells of must be seen first: this WRMSR does not serialise. SDM 3A 11.12.3 "MSR Access
         * in x2APIC Mode" */
        __asm__ volatile("mfence; lfence" : : : "memory");
        wrmsr(X2APIC_ICR, (uint64_t)apic_id << 32 | command);
        return;
    }
    wait_until_sent();
    uint32_t high = *reg(LAPIC_ICR_HIGH);
    *reg(LAPIC_ICR_HIGH) = (uint32_t)PUT(apic_id, ICR_DESTINATION);
    *reg(LAPIC_ICR) = command;
    wait_until_sent();
    *reg(LAPIC_ICR_HIGH) = high;
}

void lapic_write(uint32_t offset, uint32_t value)
{
    if (!is_x2apic())
        *reg(offset) = value;
}

/* A register in either mode. SDM 3A 11.12.1.2 "x2APIC Register Address Space" */
static uint32_t read_any(uint32_t offset)
{
    return is_x2apic() ? (uint32_t)rdmsr(X2APIC_MSR_FIRST + offset / 16) : *reg(offset);
}

static void write_any(uint32_t offset, uint32_t value)
{
    if (is_x2apic())
        wrmsr(X2APIC_MSR_FIRST + offset / 16, value);
    else
        *reg(offset) = value;
}

/* x2APIC mode stays. SDM 3A 11.12.5.1 "x2APIC States" */
void lapic_reset(void)
{
    write_any(LAPIC_TIMER_INITIAL, 0);
    write_any(LAPIC_TPR, 0);
    for (unsigned i = 0; i < 8; i++)
        for (unsigned tries = 0; tries < 32 && read_any(LAPIC_ISR + 0x10 * i); tries++)
            write_any(LAPIC_EOI, 0);
    write_any(LAPIC_SVR, SVR_RESET);
}
