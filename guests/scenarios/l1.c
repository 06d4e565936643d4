/* The machine that L1 sees outside VMX operation and in root operation: interrupts, registers, CPUID, odd
 * instructions. */
#include "guests/lib/cpu.h"
#include "guests/lib/irq.h"
#include "guests/lib/page.h"
#include "guests/scenarios/scenario.h"

#define XCR0_X87 BIT(0)
#define XCR0_SSE BIT(1)
#define CPUID_XSAVE_LEAF 0xd
#define WAIT_LIMIT 1000000

static uint64_t read_xcr0(void)
{
    uint32_t low, high;

    asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low | (uint64_t)high << 32;
}

static void write_xcr(uint32_t number, uint64_t value)
{
    asm volatile("xsetbv" : : "c"(number), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)));
}

static void xsetbv(void)
{
    uint64_t cr4 = cpu_read_cr4();

    CHECK_FAULT(write_xcr(0, XCR0_X87), VECTOR_UD);
    cpu_write_cr4(cr4 | CR4_OSXSAVE);
    write_xcr(0, XCR0_X87 | XCR0_SSE);
    CHECK_EQ(read_xcr0(), XCR0_X87 | XCR0_SSE);
    CHECK(cpu_cpuid(CPUID_XSAVE_LEAF, 0).ebx >= 576);
    CHECK_FAULT(write_xcr(0, 0), VECTOR_GP);
    CHECK_FAULT(write_xcr(0, BIT(2) | XCR0_X87), VECTOR_GP); /* AVX without SSE */
    CHECK_FAULT(write_xcr(7, XCR0_X87), VECTOR_GP);
    CHECK_EQ(read_xcr0(), XCR0_X87 | XCR0_SSE);
    write_xcr(0, XCR0_X87);
    CHECK_EQ(read_xcr0(), XCR0_X87);
    cpu_write_cr4(cr4);
}

static const char *without_xsave(void)
{
    return cpu_cpuid(1, 0).ecx & CPUID1_ECX_XSAVE ? NULL : "no XSAVE";
}

/* OSXSAVE in CPUID follows CR4. */
static void cpuid_follows_cr4(void)
{
    const uint32_t osxsave = 1u << 27;
    uint64_t cr4 = cpu_read_cr4();

    CHECK_EQ(cpu_cpuid(1, 0).ecx & osxsave, 0);
    cpu_write_cr4(cr4 | CR4_OSXSAVE);
    CHECK_EQ(cpu_cpuid(1, 0).ecx & osxsave, osxsave);
    cpu_write_cr4(cr4);
    CHECK(cpu_cpuid(1, 0).ecx & CPUID1_ECX_VMX);
}

/* The leaf is in EAX and the subleaf in ECX, whatever the upper halves of the registers hold. */
static void cpuid_upper_halves(void)
{
    static const uint64_t upper[] = {BIT(32), BIT(63), 0x7fff12345678ull << 16 & ~(uint64_t)UINT32_MAX,
                                     ~(uint64_t)UINT32_MAX};

    for (unsigned i = 0; i < ARRAY_SIZE(upper); i++)
        for (uint32_t leaf = 0; leaf < 3; leaf++) {
            struct cpuid want = cpu_cpuid(leaf, 0);
            uint64_t a = upper[i] | leaf, b, c = upper[i], d;
            asm volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
            CHECK_EQ(a, want.eax);
            CHECK_EQ(c, want.ecx);
            CHECK_EQ(d, want.edx);
        }
}

/* CR4.VMXE is L1's to set and clear, and reads as L1 left it. */
static void vmxe(void)
{
    for (unsigned i = 0; i < 3; i++) {
        cpu_write_cr4(cpu_read_cr4() & ~CR4_VMXE);
        CHECK_EQ(cpu_read_cr4() & CR4_VMXE, 0);
        cpu_write_cr4(cpu_read_cr4() | CR4_VMXE);
        CHECK_EQ(cpu_read_cr4() & CR4_VMXE, CR4_VMXE);
    }
    CHECK_FAULT(cpu_write_cr4(cpu_read_cr4() | BIT(31)), VECTOR_GP);
}

static void cr0_bits(void)
{
    uint64_t cr0 = cpu_read_cr0();

    cpu_write_cr0(cr0 & ~CR0_NE);
    CHECK_EQ(cpu_read_cr0() & CR0_NE, 0);
    cpu_write_cr0(cr0 | CR0_TS);
    CHECK_EQ(cpu_read_cr0() & CR0_TS, CR0_TS);
    asm volatile("clts");
    CHECK_EQ(cpu_read_cr0() & CR0_TS, 0);
    CHECK_FAULT(cpu_write_cr0((cr0 & ~CR0_CD) | CR0_NW), VECTOR_GP);
    CHECK_FAULT(cpu_write_cr0(cr0 & ~CR0_PE), VECTOR_GP);
    cpu_write_cr0(cr0);
    CHECK_EQ(cpu_read_cr0(), cr0);
}

/* CD and NW, which no VM entry loads: alone, and together with a bit that a hypervisor has to look at. */
static void cache_disable(void)
{
    uint64_t cr0 = cpu_read_cr0();

    cpu_write_cr0(cr0 | CR0_CD);
    CHECK_EQ(cpu_read_cr0() & (CR0_CD | CR0_NW), CR0_CD);
    cpu_write_cr0(cr0 | CR0_CD | CR0_NW);
    CHECK_EQ(cpu_read_cr0() & (CR0_CD | CR0_NW), CR0_CD | CR0_NW);
    cpu_write_cr0(cr0 & ~CR0_NE);
    CHECK_EQ(cpu_read_cr0() & (CR0_CD | CR0_NW), 0);
    cpu_write_cr0(cr0 | CR0_NE | CR0_CD);
    CHECK_EQ(cpu_read_cr0() & (CR0_CD | CR0_NW), CR0_CD);
    (void)cpu_cpuid(0, 0);
    CHECK_EQ(cpu_read_cr0() & (CR0_CD | CR0_NW), CR0_CD);
    cpu_write_cr0(cr0);
    CHECK_EQ(cpu_read_cr0() & (CR0_CD | CR0_NW), 0);
}

static void timer_interrupt(void)
{
    trap_count[IRQ_VECTOR_TIMER] = 0;
    irq_timer_start(1000);
    asm volatile("sti");
    for (unsigned i = 0; i < WAIT_LIMIT && !trap_count[IRQ_VECTOR_TIMER]; i++)
        cpu_pause();
    asm volatile("cli");
    CHECK_EQ(trap_count[IRQ_VECTOR_TIMER], 1);
}

static void halt_until_interrupt(void)
{
    trap_count[IRQ_VECTOR_TIMER] = 0;
    irq_timer_start(50000);
    asm volatile("sti; hlt; cli");
    CHECK_EQ(trap_count[IRQ_VECTOR_TIMER], 1);
}

static void nmi(void)
{
    trap_count[VECTOR_NMI] = 0;
    for (unsigned n = 1; n <= 3; n++) {
        irq_self_nmi();
        for (unsigned i = 0; i < WAIT_LIMIT && trap_count[VECTOR_NMI] < n; i++)
            cpu_pause();
        CHECK_EQ(trap_count[VECTOR_NMI], n);
    }
}

/* An interrupt that waits is taken after the instruction that follows STI, also if that one exits to Nestor. */
static void interrupt_after_shadow(void)
{
    uint64_t region, expected;

    vmx_start();
    trap_count[IRQ_VECTOR_SELF] = 0;
    irq_self_ipi(IRQ_VECTOR_SELF);
    asm volatile("lea 1f(%%rip), %0; sti; vmptrst %1; 1: nop; nop; cli"
                 : "=&r"(expected), "=m"(region)
                 :
                 : "cc", "memory");
    CHECK_EQ(trap_count[IRQ_VECTOR_SELF], 1);
    CHECK_EQ(trap_rip, expected);
    trap_count[IRQ_VECTOR_SELF] = 0;
    irq_self_ipi(IRQ_VECTOR_SELF);
    asm volatile("lea 1f(%%rip), %0; sti; cpuid; 1: nop; nop; cli"
                 : "=&r"(expected)
                 : "a"(0), "c"(0)
                 : "rbx", "rdx", "memory");
    CHECK_EQ(trap_count[IRQ_VECTOR_SELF], 1);
    CHECK_EQ(trap_rip, expected);
}

/* One debug exception per instruction, whoever executes it. */
static void single_step(void)
{
    uint64_t region, last;

    vmx_start();
    trap_debug_counted = true;
    trap_count[VECTOR_DB] = 0;
    asm volatile("pushfq; orq $0x100, (%%rsp); popfq;"
                 "nop; vmptrst %1; nop; mov %%cr4, %%rax; mov %%rax, %%cr4; xor %%eax, %%eax; xor %%ecx, %%ecx; cpuid;"
                 "pushfq; andq $~0x100, (%%rsp); popfq; 1: lea 1b(%%rip), %0"
                 : "=r"(last), "=m"(region)
                 :
                 : "rax", "rbx", "rcx", "rdx", "cc", "memory");
    CHECK_EQ(trap_count[VECTOR_DB], 11);
    CHECK_EQ(trap_rip, last);
}

static void invalidate_caches(void)
{
    uint64_t value = 0x1234;

    asm volatile("wbinvd" : "+m"(value));
    CHECK_EQ(value, 0x1234);
}

static void user_privileged(void)
{
    asm volatile("wbinvd");
}

/* Instructions that a guest cannot have: the CPU says #UD, and so does whoever emulates them. */
static void undefined_instructions(void)
{
    CHECK_FAULT(asm volatile("ud2"), VECTOR_UD);
    CHECK_FAULT(asm volatile(".byte 0x0f, 0x37" : : "a"(0), "b"(0)), VECTOR_UD); /* GETSEC without CR4.SMXE */
    CHECK_FAULT(asm volatile("rsm"), VECTOR_UD);
    CHECK_EQ(fault_of_user(user_privileged), VECTOR_GP);
}

static void tsc_goes_on(void)
{
    uint64_t before = cpu_rdtsc();
    uint64_t start;

    for (unsigned i = 0; i < 100; i++) {
        uint64_t now = cpu_rdtsc();
        CHECK(now > before);
        before = now;
        (void)cpu_cpuid(0, 0);
    }
    start = cpu_rdmsr(IA32_TIME_STAMP_COUNTER);
    CHECK(start > before && start < cpu_rdtsc());
}

/* MSRs that L1 may write read back. */
static void msrs(void)
{
    static const struct {
        uint32_t msr;
        uint64_t value;
    } rows[] = {
        {IA32_STAR, 0x1234567800000000},  {IA32_LSTAR, 0x7fff12345678},   {IA32_FMASK, 0x47700},
        {IA32_KERNEL_GS_BASE, 0x5678000}, {IA32_SYSENTER_CS, 0x10},       {IA32_SYSENTER_ESP, 0x1000},
        {IA32_SYSENTER_EIP, 0x2000},      {IA32_PAT, 0x0007040600070406}, {IA32_EFER, EFER_SCE},
    };

    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        uint64_t own = cpu_rdmsr(rows[i].msr);
        uint64_t value = rows[i].msr == IA32_EFER ? own ^ rows[i].value : rows[i].value;
        cpu_wrmsr(rows[i].msr, value);
        CHECK_EQ(cpu_rdmsr(rows[i].msr), value);
        cpu_wrmsr(rows[i].msr, own);
    }
    CHECK_FAULT(cpu_wrmsr(IA32_LSTAR, NONCANONICAL_ADDRESS), VECTOR_GP);
    CHECK_FAULT(cpu_wrmsr(IA32_PAT, 0xff), VECTOR_GP);
    CHECK_FAULT(cpu_wrmsr(IA32_EFER, cpu_rdmsr(IA32_EFER) | BIT(1)), VECTOR_GP);
}

const struct scenario l1_scenarios[] = {
    {"l1-xsetbv", xsetbv, without_xsave},
    {"l1-cpuid-follows-cr4", cpuid_follows_cr4, without_xsave},
    {"l1-cpuid-upper-halves", cpuid_upper_halves, NULL},
    {"l1-vmxe", vmxe, NULL},
    {"l1-cr0-bits", cr0_bits, NULL},
    {"l1-cache-disable", cache_disable, NULL},
    {"l1-timer-interrupt", timer_interrupt, NULL},
    {"l1-halt-until-interrupt", halt_until_interrupt, NULL},
    {"l1-nmi", nmi, NULL},
    {"l1-interrupt-after-shadow", interrupt_after_shadow, NULL},
    {"l1-single-step", single_step, NULL},
    {"l1-invalidate-caches", invalidate_caches, NULL},
    {"l1-undefined-instructions", undefined_instructions, NULL},
    {"l1-tsc-goes-on", tsc_goes_on, NULL},
    {"l1-msrs", msrs, NULL},
    {0},
};
