/* MSRs: accesses of L2 that L1 lets pass, and the lists of MSRs that an entry loads and an exit stores and loads. */
#include "guests/bench/bench.h"
#include "guests/lib/page.h"

#define ACCESSES 256

static uint32_t l2_msr;
static volatile uint64_t l2_ticks;

/* The loop is what KVM's figures were taken with: one access, DEC, JNZ. */
static void l2_read(void)
{
    uint64_t left = ACCESSES, start = cpu_rdtsc();

    asm volatile("1: rdmsr; dec %0; jnz 1b" : "+r"(left) : "c"(l2_msr) : "rax", "rdx", "memory");
    l2_ticks = cpu_rdtsc() - start;
}

static void l2_write(void)
{
    uint64_t left = ACCESSES, value = cpu_rdmsr(l2_msr), start = cpu_rdtsc();

    asm volatile("1: wrmsr; dec %0; jnz 1b"
                 : "+r"(left)
                 : "c"(l2_msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32))
                 : "memory");
    l2_ticks = cpu_rdtsc() - start;
}

static void prepare_access(const struct bench_row *row)
{
    l2_msr = row->argument;
    vm_create(&bench_vm[0], l2_read, VM_EPT);
}

static uint64_t run(void (*code)(void))
{
    vm_set_code(&bench_vm[0], code);
    EXPECT_DONE(&bench_vm[0]);
    return l2_ticks;
}

static uint64_t batch_read(const struct bench_row *row)
{
    (void)row;
    return run(l2_read);
}

static uint64_t batch_write(const struct bench_row *row)
{
    (void)row;
    return run(l2_write);
}

/* Which list, and how long. SDM 3C 25.7.2 "VM-Exit Controls for MSRs" */
enum { ENTRY_LOAD, EXIT_STORE, EXIT_LOAD };
#define LIST(kind, count) ((uint32_t)(kind) << 16 | (count))
struct msr_entry {
    uint32_t index, reserved;
    uint64_t value;
};

static void prepare_list(const struct bench_row *row)
{
    static const enum vmcs_field fields[][2] = {
        [ENTRY_LOAD] = {ENTRY_MSR_LOAD_ADDR, ENTRY_MSR_LOAD_COUNT},
        [EXIT_STORE] = {EXIT_MSR_STORE_ADDR, EXIT_MSR_STORE_COUNT},
        [EXIT_LOAD] = {EXIT_MSR_LOAD_ADDR, EXIT_MSR_LOAD_COUNT},
    };
    static const uint32_t msrs[] = {IA32_STAR, IA32_LSTAR, IA32_CSTAR, IA32_FMASK, IA32_KERNEL_GS_BASE};
    unsigned kind = row->argument >> 16, count = row->argument & 0xffff;
    struct msr_entry *list = page_alloc();

    for (unsigned i = 0; i < count; i++)
        list[i] = (struct msr_entry){msrs[i % ARRAY_SIZE(msrs)], 0, cpu_rdmsr(msrs[i % ARRAY_SIZE(msrs)])};
    vm_create(&bench_vm[0], l2_vmcall, VM_EPT);
    vmx_set(fields[kind][0], (uint64_t)list);
    vmx_set(fields[kind][1], count);
    EXPECT_EXIT(&bench_vm[0], EXIT_VMCALL);
}

#define ACCESS(name, msr)                                                                                              \
    {"l2-rdmsr-" name, ACCESSES, prepare_access, batch_read, msr},                                                     \
    {                                                                                                                  \
        "l2-wrmsr-" name, ACCESSES, prepare_access, batch_write, msr                                                   \
    }
#define LISTS(name, kind)                                                                                              \
    {name "-1", TURNS, prepare_list, batch_round_trips, LIST(kind, 1)},                                                \
        {name "-8", TURNS, prepare_list, batch_round_trips, LIST(kind, 8)},                                            \
    {                                                                                                                  \
        name "-32", TURNS, prepare_list, batch_round_trips, LIST(kind, 32)                                             \
    }

const struct bench_row msr_rows[] = {
    ACCESS("lstar", IA32_LSTAR),
    ACCESS("star", IA32_STAR),
    ACCESS("sysenter-cs", IA32_SYSENTER_CS),
    ACCESS("sysenter-esp", IA32_SYSENTER_ESP),
    ACCESS("sysenter-eip", IA32_SYSENTER_EIP),
    ACCESS("fs-base", IA32_FS_BASE),
    ACCESS("gs-base", IA32_GS_BASE),
    ACCESS("kernel-gs-base", IA32_KERNEL_GS_BASE),
    ACCESS("pat", IA32_PAT),
    ACCESS("efer", IA32_EFER),
    ACCESS("tsc-aux", IA32_TSC_AUX),
    {"l2-rdmsr-tsc", ACCESSES, prepare_access, batch_read, IA32_TIME_STAMP_COUNTER},
    LISTS("msr-entry-load", ENTRY_LOAD),
    LISTS("msr-exit-store", EXIT_STORE),
    LISTS("msr-exit-load", EXIT_LOAD),
    {0},
};
