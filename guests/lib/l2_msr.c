#include "guests/lib/l2_msr.h"

volatile uint64_t l2_msr_value;

void l2_rdmsr(void)
{
    uint32_t low, high;

    asm volatile("rdmsr" : "=a"(low), "=d"(high) : : "memory");
    l2_msr_value = low | (uint64_t)high << 32;
}

void l2_wrmsr(void)
{
    asm volatile("wrmsr" : : : "memory");
}
