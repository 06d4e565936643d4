/* Entries of L2 and exits to L1: bare round trips, exits that L1 handles, a change of VMs, an interrupt. */
#include "guests/bench/bench.h"
#include "guests/lib/irq.h"
#include "guests/lib/msr_bits.h"

#define L2_MSR IA32_LSTAR

BENCH_ROUND_TRIPS(loop_nothing, ASM_HOST, "", "")
BENCH_ROUND_TRIPS(loop_handled, ASM_HOST, "", BENCH_HANDLE)
BENCH_ROUND_TRIPS(loop_store, ASM_HOST, "movb $0, (%[argument])\n", "")
BENCH_ROUND_TRIPS(loop_interrupt, ASM_HOST, "", "sti\nnop\ncli\n")
/* The argument points to one of two regions, in 16 aligned bytes. */
#define OTHER_VM "xor $8, %[argument]\nvmptrld (%[argument])\n"
BENCH_ROUND_TRIPS(loop_two_vms, ASM_HOST OTHER_VM ASM_HOST, OTHER_VM, "")

static void l2_cpuid(void)
{
    asm volatile("1: cpuid; jmp 1b");
}

static void l2_rdmsr(void)
{
    asm volatile("1: mov %0, %%ecx; rdmsr; jmp 1b" : : "i"(L2_MSR));
}

/* Each interrupt that L2 sends itself arrives at once; the exit leaves it pending for L1. */
static void l2_self_ipi(void)
{
    asm volatile("sti; 1: mov %0, %%eax; mov %1, %%edi; mov %%eax, (%%rdi); pause; jmp 1b"
                 :
                 : "i"(ICR_SELF | IRQ_VECTOR_SELF), "i"((uint32_t)LAPIC_BASE + LAPIC_ICR_LOW));
}

void prepare_vmcall(const struct bench_row *row)
{
    (void)row;
    bench_create(&bench_vm[0], l2_vmcall);
}

uint64_t batch_round_trips(const struct bench_row *row)
{
    return loop_nothing(row->turns, NULL);
}

static void prepare_without_bitmap(const struct bench_row *row)
{
    prepare_vmcall(row);
    vm_control_clear(PROC_CONTROLS, (uint32_t)PROC_USE_MSR_BITMAPS);
}

static void prepare_cpuid(const struct bench_row *row)
{
    (void)row;
    bench_create(&bench_vm[0], l2_cpuid);
}

static void prepare_rdmsr(const struct bench_row *row)
{
    (void)row;
    vm_create(&bench_vm[0], l2_rdmsr, VM_EPT);
    msr_bit_set(bench_vm[0].msr_bitmap, L2_MSR, MSR_READ);
    EXPECT_EXIT(&bench_vm[0], EXIT_RDMSR);
}

static uint64_t batch_handled(const struct bench_row *row)
{
    return loop_handled(row->turns, NULL);
}

static uint64_t batch_store(const struct bench_row *row)
{
    return loop_store(row->turns, bench_vm[0].msr_bitmap);
}

static void prepare_two_vms(const struct bench_row *row)
{
    (void)row;
    for (unsigned i = 0; i < BENCH_PAIR; i++)
        bench_create(&bench_vm[i], l2_vmcall);
}

static uint64_t batch_two_vms(const struct bench_row *row)
{
    const uint64_t regions[2] __attribute__((aligned(16))) = {bench_vm[0].vmcs, bench_vm[1].vmcs};

    vm_load(&bench_vm[0]);
    return loop_two_vms(row->turns, regions);
}

static void prepare_interrupt(const struct bench_row *row)
{
    (void)row;
    REQUIRE(!(cpu_rdmsr(IA32_APIC_BASE) & APIC_BASE_EXTD)); /* L2 would wait for ever */
    vm_create(&bench_vm[0], l2_self_ipi, VM_EPT);
    vm_control_set(PIN_CONTROLS, (uint32_t)PIN_EXTERNAL_INTERRUPT);
    EXPECT_EXIT(&bench_vm[0], EXIT_EXTERNAL_INTERRUPT);
    irq_window();
}

static uint64_t batch_interrupt(const struct bench_row *row)
{
    unsigned taken = trap_count[IRQ_VECTOR_SELF];
    uint64_t ticks = loop_interrupt(row->turns, NULL);

    CHECK_EQ(trap_count[IRQ_VECTOR_SELF] - taken, row->turns);
    return ticks;
}

const struct bench_row round_trip_rows[] = {
    {"vmcall", TURNS, prepare_vmcall, batch_round_trips, 0},
    {"vmcall-no-bitmap", TURNS, prepare_without_bitmap, batch_round_trips, 0},
    {"vmcall-bitmap-store", TURNS, prepare_vmcall, batch_store, 0},
    {"cpuid", TURNS, prepare_cpuid, batch_handled, 0},
    {"rdmsr", TURNS, prepare_rdmsr, batch_handled, 0},
    {"interrupt", TURNS, prepare_interrupt, batch_interrupt, 0},
    {"vmptrld-vmcall", TURNS, prepare_two_vms, batch_two_vms, 0},
    {0},
};
