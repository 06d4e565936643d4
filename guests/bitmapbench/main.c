/* The cost of L2's MSR bitmap, in ticks and by Nestor's counters, for one policy (the option bitmap=) or bare. One line
 * for each row of the table in docs/BITMAP.md; tools/bench-bitmap runs this under each policy and prints the table. */
#include "guests/lib/check.h"
#include "guests/lib/counters.h"
#include "guests/lib/cpu.h"
#include "guests/lib/msr_bits.h"
#include "guests/lib/page.h"
#include "guests/lib/start.h"
#include "guests/lib/vm.h"
#ifdef ENLIGHTENED
#include "guests/evmcs/evmcs.h"
#endif

#define ACCESSES 1000
#define ENTRIES 1000
#define VMS 8
#define RANGE 0x2000u /* MSRs of each of the two ranges that a bitmap covers */
#define HIGH 0xc0000000u
#define L2_MSRS 4 /* MSRs that L2 reads in row entry-changed-msrs */

static struct vm vm[VMS];
static uint64_t l2_ticks;

enum { MERGES, FAULTS, EXITS_L2, COUNTED };
static const enum counter counters[COUNTED] = {COUNTER_BITMAP_MERGES, COUNTER_WATCH_FAULTS, COUNTER_EXITS_L2};

struct sample {
    uint64_t ticks, count[COUNTED];
};

static struct sample sample(void)
{
    struct sample now = {0};

    for (unsigned i = 0; counters_present() && i < COUNTED; i++)
        now.count[i] = counter_read(counters[i]);
    now.ticks = cpu_rdtsc();
    return now;
}

/* One line: name, turns, ticks of all, then the counters. `ticks` 0: the time since `start`. */
static void row(const char *name, uint64_t turns, const struct sample *start, uint64_t ticks)
{
    uint64_t end = cpu_rdtsc();
    struct sample now = sample();

    print("row %s %lu %lu", name, turns, ticks ? ticks : end - start->ticks);
    for (unsigned i = 0; i < COUNTED; i++)
        print(" %lu", now.count[i] - start->count[i]);
    print("\n");
}

/* The loop is what KVM's figures were taken with: one access, DEC, JNZ. */
#define L2_LOOP(name, instruction, msr)                                                                                \
    static void name(void)                                                                                             \
    {                                                                                                                  \
        uint64_t count = ACCESSES, value = cpu_rdmsr(msr), start = cpu_rdtsc();                                        \
        asm volatile("1: " instruction "; dec %0; jnz 1b"                                                              \
                     : "+r"(count)                                                                                     \
                     : "c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32))                                    \
                     : "memory");                                                                                      \
        l2_ticks = cpu_rdtsc() - start;                                                                                \
    }
L2_LOOP(l2_nothing, "nop", IA32_LSTAR)
L2_LOOP(l2_write_lstar, "wrmsr", IA32_LSTAR)
L2_LOOP(l2_write_sysenter, "wrmsr", IA32_SYSENTER_EIP)

static void l2_read_lstar(void)
{
    uint64_t count = ACCESSES, start = cpu_rdtsc();

    asm volatile("1: rdmsr; dec %0; jnz 1b" : "+r"(count) : "c"(IA32_LSTAR) : "rax", "rdx", "memory");
    l2_ticks = cpu_rdtsc() - start;
}

static void l2_read_gs(void)
{
    uint64_t count = ACCESSES, start = cpu_rdtsc();

    asm volatile("1: rdmsr; dec %0; jnz 1b" : "+r"(count) : "c"(IA32_GS_BASE) : "rax", "rdx", "memory");
    l2_ticks = cpu_rdtsc() - start;
}

/* MSRs that the CPU has, and of these the ones of which an access takes longer than one of LSTAR by L1: it exits. */
static unsigned l2_read, l2_slow_reads, l2_written, l2_slow_writes;
static uint64_t fast_read, fast_write;

static NOINLINE uint64_t time_read(uint32_t msr)
{
    uint64_t start = cpu_rdtsc();

    asm volatile("rdmsr" : : "c"(msr) : "rax", "rdx", "memory");
    return cpu_rdtsc() - start;
}

static NOINLINE uint64_t time_write(uint32_t msr, uint64_t value)
{
    uint64_t start = cpu_rdtsc();

    asm volatile("wrmsr" : : "c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)) : "memory");
    return cpu_rdtsc() - start;
}

/* Each is written with what it holds; but the time, which goes on meanwhile. */
static void l2_access_msr(uint32_t msr)
{
    volatile uint64_t value = 0;

    if (FAULT_OF(value = cpu_rdmsr(msr)) != NO_FAULT)
        return;
    l2_read++;
    l2_slow_reads += time_read(msr) > fast_read;
    if (msr == IA32_TIME_STAMP_COUNTER || FAULT_OF(cpu_wrmsr(msr, value)) != NO_FAULT)
        return;
    l2_written++;
    l2_slow_writes += time_write(msr, value) > fast_write;
}

static void l2_access_all(void)
{
    for (uint32_t i = 0; i < RANGE; i++) {
        l2_access_msr(i);
        l2_access_msr(HIGH + i);
    }
}

static void measure_all_msrs(void)
{
    fast_read = time_read(IA32_LSTAR);
    fast_write = time_write(IA32_LSTAR, cpu_rdmsr(IA32_LSTAR));
    vm_set_code(&vm[0], l2_access_all);
    EXPECT_DONE(&vm[0]);
    print("all-msrs read %u slow %u written %u slow %u\n", l2_read, l2_slow_reads, l2_written, l2_slow_writes);
}

/* Exits again as soon as it is resumed. */
static void l2_vmcall(void)
{
    asm volatile("1: vmcall; jmp 1b");
}

/* The same with some accesses to MSRs before. */
static void l2_msrs_and_vmcall(void)
{
    for (;;) {
        for (unsigned i = 0; i < L2_MSRS; i++)
            (void)cpu_rdmsr(IA32_LSTAR);
        asm volatile("mov $0x5afe, %%eax; vmcall" : : : "rax", "memory");
    }
}

static void measure_loop(const char *name, void (*code)(void))
{
    vm_set_code(&vm[0], code);
    struct sample start = sample();
    EXPECT_DONE(&vm[0]);
    row(name, ACCESSES, &start, l2_ticks);
}

static void enter(struct vm *one)
{
    REQUIRE_EQ(vm_enter(one), 0);
}

/* A store to the bitmap of vm[0]; and where its VMCS is an enlightened one, L1's word that there was one. */
static inline void store_to_bitmap(void)
{
    *(volatile uint8_t *)vm[0].msr_bitmap = 0;
#ifdef ENLIGHTENED
    evmcs_bitmap_written();
#endif
}

static void measure_entries(void)
{
    struct sample start;

    for (unsigned i = 0; i < VMS; i++) {
        vm_set_code(&vm[i], l2_vmcall);
        vm_load(&vm[i]);
        enter(&vm[i]);
    }
    vm_load(&vm[0]);
    start = sample();
    for (unsigned i = 0; i < ENTRIES; i++)
        enter(&vm[0]);
    row("entry-unchanged", ENTRIES, &start, 0);
    start = sample();
    for (unsigned i = 0; i < ENTRIES; i++) {
        store_to_bitmap();
        enter(&vm[0]);
    }
    row("entry-changed", ENTRIES, &start, 0);
    vm_set_code(&vm[0], l2_msrs_and_vmcall);
    start = sample();
    for (unsigned i = 0; i < ENTRIES; i++) {
        store_to_bitmap();
        enter(&vm[0]);
        vm_skip(&vm[0]);
    }
    row("entry-changed-msrs", ENTRIES, &start, 0);
    vm_set_code(&vm[0], l2_vmcall);
    for (unsigned i = 0; i < 5000; i++) /* so that a page at rest is traced again */
        enter(&vm[0]);
    start = sample();
    for (unsigned i = 0; i < ENTRIES; i++) {
        if (i % 4 == 0)
            store_to_bitmap();
        enter(&vm[0]);
    }
    row("entry-changed-4th", ENTRIES, &start, 0);
    start = sample();
    for (unsigned i = 0; i < ENTRIES; i++) {
        vm_load(&vm[i % VMS]);
        enter(&vm[i % VMS]);
    }
    row("entry-alternating", ENTRIES, &start, 0);
}

static void create(struct vm *of)
{
    vm_create(of, l2_nothing, 0);
#ifdef ENLIGHTENED
    evmcs_enlighten_bitmap();
#endif
}

static void measure(void)
{
    vmx_start();
    for (unsigned i = 0; i < VMS; i++)
        create(&vm[i]);
    measure_loop("loop-empty", l2_nothing);
    measure_loop("rdmsr-lstar", l2_read_lstar);
    measure_loop("wrmsr-lstar", l2_write_lstar);
    measure_loop("wrmsr-sysenter", l2_write_sysenter);
    measure_loop("rdmsr-gs-base", l2_read_gs);
    measure_entries();
    measure_all_msrs();
    vmx_stop();
}

uint8_t guest_main(const char *args)
{
    (void)args;
    vm_default_ept = vm_control_offered(PROC2_CONTROLS, (uint32_t)PROC2_EPT);
    return check_run(measure) ? 0 : 1;
}
