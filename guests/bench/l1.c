/* Work of L1's own: VMX instructions, and other instructions that exit to L0. */
#include "guests/bench/bench.h"

BENCH_LOOP(loop_vmread, "vmread %[argument], %%rax\n")
BENCH_LOOP(loop_vmwrite, "vmwrite %[other], %[argument]\n")
/* The argument points to the two regions. */
BENCH_LOOP(loop_vmptrld, "vmptrld (%[argument])\nvmptrld 8(%[argument])\n")
BENCH_LOOP(loop_vmxon, "vmxoff\nvmxon (%[argument])\n")
BENCH_LOOP(loop_cpuid, "xor %%eax, %%eax\ncpuid\n")
BENCH_LOOP(loop_rdmsr, "mov %[argument], %%rcx\nrdmsr\n")
BENCH_LOOP(loop_cr0, "mov %[argument], %%cr0\nmov %[other], %%cr0\n")
BENCH_LOOP(loop_cr4, "mov %[argument], %%cr4\nmov %[other], %%cr4\n")

static void prepare(const struct bench_row *row)
{
    (void)row;
    for (unsigned i = BENCH_PAIR; i-- > 0;)
        bench_create(&bench_vm[i], l2_vmcall);
}

static uint64_t batch_vmread(const struct bench_row *row)
{
    return loop_vmread(row->turns, row->argument, 0);
}

static uint64_t batch_vmwrite(const struct bench_row *row)
{
    return loop_vmwrite(row->turns, row->argument, vmx_get(row->argument));
}

static uint64_t batch_vmptrld(const struct bench_row *row)
{
    const uint64_t regions[2] = {bench_vm[0].vmcs, bench_vm[1].vmcs};

    return loop_vmptrld(row->turns / 2, (uint64_t)regions, 0);
}

static uint64_t batch_vmxon(const struct bench_row *row)
{
    uint64_t region = vmx_on_region();

    return loop_vmxon(row->turns, (uint64_t)&region, 0);
}

static uint64_t batch_cpuid(const struct bench_row *row)
{
    return loop_cpuid(row->turns, 0, 0);
}

static uint64_t batch_rdmsr(const struct bench_row *row)
{
    return loop_rdmsr(row->turns, row->argument, 0);
}

/* TS goes on and off, as a kernel does that saves the FPU's registers late. */
static uint64_t batch_cr0(const struct bench_row *row)
{
    uint64_t cr0 = cpu_read_cr0();

    return loop_cr0(row->turns / 2, cr0 ^ CR0_TS, cr0);
}

/* PCE, which changes no translation, goes on and off. */
static uint64_t batch_cr4(const struct bench_row *row)
{
    uint64_t cr4 = cpu_read_cr4();

    return loop_cr4(row->turns / 2, cr4 ^ CR4_PCE, cr4);
}

const struct bench_row l1_rows[] = {
    {"vmread-exit-reason", TURNS, prepare, batch_vmread, EXIT_REASON},
    {"vmread-host-rip", TURNS, prepare, batch_vmread, HOST_RIP},
    {"vmread-ept-pointer", TURNS, prepare, batch_vmread, EPT_POINTER},
    {"vmwrite-guest-rip", TURNS, prepare, batch_vmwrite, GUEST_RIP},
    {"vmwrite-msr-bitmap", TURNS, prepare, batch_vmwrite, MSR_BITMAP},
    {"vmwrite-ept-pointer", TURNS, prepare, batch_vmwrite, EPT_POINTER},
    {"vmptrld", TURNS, prepare, batch_vmptrld, 0},
    {"l1-vmxoff-vmxon", TURNS, NULL, batch_vmxon, 0},
    {"l1-cpuid", TURNS, NULL, batch_cpuid, 0},
    {"l1-rdmsr", TURNS, NULL, batch_rdmsr, IA32_VMX_BASIC},
    {"l1-mov-cr0", TURNS, NULL, batch_cr0, 0},
    {"l1-mov-cr4", TURNS, NULL, batch_cr4, 0},
    {0},
};
