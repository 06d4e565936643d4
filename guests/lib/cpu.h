/* Instructions that C has no words for, and the bits that go with them.
 * Needs nothing; nothing here expects VMX. Anyone may include it. */
#ifndef GUESTS_LIB_CPU_H
#define GUESTS_LIB_CPU_H

#include "kernel/x86_bits.h"

/* Bits that only guests know; the rest of these bits is in kernel/x86_bits.h. */
#define CR4_TSD BIT(2)
#define CR4_PCE BIT(8)

#define CPUID1_ECX_VMX BIT(5)
#define CPUID1_ECX_X2APIC BIT(21)
#define CPUID1_ECX_XSAVE BIT(26)
#define CPUID7_EBX_INVPCID BIT(10)

/* Linear addresses that no scenario maps: beyond the identity map, and not canonical. */
#define UNMAPPED_ADDRESS 0x7000000000ull
#define NONCANONICAL_ADDRESS 0x8000000000000000ull

struct cpuid {
    uint32_t eax, ebx, ecx, edx;
};

static inline uint8_t cpu_inb(uint16_t port)
{
    uint8_t value;
    asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port) : "memory");
    return value;
}

static inline uint32_t cpu_inl(uint16_t port)
{
    uint32_t value;
    asm volatile("inl %1, %0" : "=a"(value) : "Nd"(port) : "memory");
    return value;
}

static inline void cpu_outb(uint16_t port, uint8_t value)
{
    asm volatile("outb %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline void cpu_outw(uint16_t port, uint16_t value)
{
    asm volatile("outw %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline void cpu_outl(uint16_t port, uint32_t value)
{
    asm volatile("outl %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline uint64_t cpu_rdmsr(uint32_t msr)
{
    uint32_t low, high;
    asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr) : "memory");
    return low | (uint64_t)high << 32;
}

static inline void cpu_wrmsr(uint32_t msr, uint64_t value)
{
    asm volatile("wrmsr" : : "c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)) : "memory");
}

static inline struct cpuid cpu_cpuid(uint32_t leaf, uint32_t subleaf)
{
    struct cpuid out;
    asm volatile("cpuid" : "=a"(out.eax), "=b"(out.ebx), "=c"(out.ecx), "=d"(out.edx) : "a"(leaf), "c"(subleaf));
    return out;
}

static inline uint64_t cpu_rdtsc(void)
{
    uint32_t low, high;
    asm volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
    return low | (uint64_t)high << 32;
}

#define CPU_CONTROL_REGISTER(n)                                                                                        \
    static inline uint64_t cpu_read_cr##n(void)                                                                        \
    {                                                                                                                  \
        uint64_t value;                                                                                                \
        asm volatile("mov %%cr" #n ", %0" : "=r"(value) : : "memory");                                                 \
        return value;                                                                                                  \
    }                                                                                                                  \
    static inline void cpu_write_cr##n(uint64_t value)                                                                 \
    {                                                                                                                  \
        asm volatile("mov %0, %%cr" #n : : "r"(value) : "memory");                                                     \
    }
CPU_CONTROL_REGISTER(0)
CPU_CONTROL_REGISTER(3)
CPU_CONTROL_REGISTER(4)
CPU_CONTROL_REGISTER(8)

static inline uint64_t cpu_read_dr7(void)
{
    uint64_t value;
    asm volatile("mov %%dr7, %0" : "=r"(value));
    return value;
}

static inline void cpu_write_dr7(uint64_t value)
{
    asm volatile("mov %0, %%dr7" : : "r"(value));
}

static inline uint64_t cpu_flags(void)
{
    uint64_t value;
    asm volatile("pushfq; pop %0" : "=r"(value) : : "memory");
    return value;
}

static inline void cpu_invlpg(uint64_t address)
{
    asm volatile("invlpg (%0)" : : "r"(address) : "memory");
}

static inline void cpu_pause(void)
{
    asm volatile("pause" : : : "memory");
}

static inline unsigned cpu_physical_bits(void)
{
    return cpu_cpuid(0x80000008, 0).eax & 0xff;
}

#endif
