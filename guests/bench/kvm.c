/* Exits as Linux KVM has them of its guests: with VPID, unrestricted guest, virtual NMIs, and EFER, PAT and debug
 * registers loaded both ways. And what an L1 without EPT sees. */
#include "guests/bench/bench.h"
#include "guests/lib/irq.h"
#include "guests/lib/msr_bits.h"
#include "guests/lib/page.h"
#include "guests/lib/paging.h"

#define DR7_RESET 0x400
#define EVENT_VALID 0x80000000u
#define ONE_BY_ONE 8
#define PORT 0x80
#define X2APIC_EOI 0x80b
#define X2APIC_ICR 0x830
#define TIMER_LONG 0x1000000u
#define TIMER_NONE 0u
#define DEVICE GIB /* where L2 finds no memory */
#define MISCONFIGURED (EPT_W | EPT_X)
#define ASM_DEVICE_LOAD_LENGTH "2"

/* The field's number, then its value. */
#define WRITE_FIELD(field) "mov %[" field "], %%eax\nvmwrite %[argument], %%rax\n"

BENCH_ROUND_TRIPS(loop_nothing, ASM_HOST, "", "")
BENCH_ROUND_TRIPS(loop_handled, ASM_HOST, "", BENCH_HANDLE)
BENCH_ROUND_TRIPS(loop_inject, ASM_HOST, WRITE_FIELD("event"), "")
/* L2 halts, and is woken by an event. */
BENCH_ROUND_TRIPS(loop_wake, ASM_HOST, WRITE_FIELD("event"), BENCH_HANDLE)
BENCH_ROUND_TRIPS(loop_host_fs, ASM_HOST, WRITE_FIELD("host_fs"), "")
BENCH_ROUND_TRIPS(loop_timer, ASM_HOST, WRITE_FIELD("timer"), "")
/* The argument points to the virtual-APIC page: an entry with a priority below the threshold would fail. */
BENCH_ROUND_TRIPS(loop_threshold, ASM_HOST,
                  "movb $0x20, 0x80(%[argument])\n"
                  "mov $1, %%edx\nmov %[threshold], %%eax\nvmwrite %%rdx, %%rax\n",
                  "")
BENCH_ROUND_TRIPS(loop_window, ASM_HOST, "xor $4, %[argument]\n" WRITE_FIELD("proc"), "")
/* Of an exit without an instruction length. */
BENCH_ROUND_TRIPS(loop_device, ASM_HOST, "",
                  "mov %[reason], %%eax\nvmread %%rax, %%rdx\n"
                  "mov %[qualification], %%eax\nvmread %%rax, %%rdx\n"
                  "mov %[gpa], %%eax\nvmread %%rax, %%rdx\n"
                  "mov %[guest_rip], %%eax\nvmread %%rax, %%rdx\n"
                  "add $" ASM_DEVICE_LOAD_LENGTH ", %%rdx\nvmwrite %%rdx, %%rax\n")
/* The argument points to the region's address. VMRESUME is not come to. */
BENCH_ROUND_TRIPS(loop_clear, ASM_HOST, "vmclear (%[argument])\nvmptrld (%[argument])\nvmlaunch\njmp 3f\n", "")

static void l2_open(void)
{
    asm volatile("sti; nop; 1: vmcall; jmp 1b");
}

static void l2_cpuid(void)
{
    asm volatile("1: cpuid; jmp 1b");
}

static void l2_out(void)
{
    asm volatile("1: out %%al, %0; jmp 1b" : : "i"(PORT));
}

static void l2_hlt(void)
{
    asm volatile("1: hlt; jmp 1b");
}

static void l2_open_hlt(void)
{
    asm volatile("sti; nop; 1: hlt; jmp 1b");
}

/* Loads of two bytes each: L1's loop leaves no register as it was. */
static void l2_device(void)
{
    asm volatile("1: mov %0, %%ecx; mov (%%rcx), %%eax; jmp 1b" : : "i"(DEVICE));
}

static void l2_lower_tpr(void)
{
    asm volatile("1: xor %eax, %eax; mov %rax, %cr8; jmp 1b");
}

static void l2_load_cr3(void)
{
    asm volatile("1: mov %cr3, %rax; mov %rax, %cr3; jmp 1b");
}

static void l2_invlpg(void)
{
    asm volatile("1: invlpg (%rsp); jmp 1b");
}

static uint32_t l2_msr;

static void l2_wrmsr(void)
{
    asm volatile("1: mov %0, %%ecx; xor %%eax, %%eax; xor %%edx, %%edx; wrmsr; jmp 1b" : : "m"(l2_msr));
}

static void make(void (*code)(void))
{
    vm_create(&bench_vm[0], code, VM_EPT);
    vm_control_set(PIN_CONTROLS, (uint32_t)(PIN_VIRTUAL_NMIS | PIN_NMI));
    vm_secondary_set((uint32_t)(PROC2_VPID | PROC2_UNRESTRICTED));
    vmx_set(VPID, 1);
    vm_control_set(EXIT_CONTROLS,
                   (uint32_t)(EXITC_SAVE_DEBUG | EXITC_SAVE_PAT | EXITC_LOAD_PAT | EXITC_SAVE_EFER | EXITC_LOAD_EFER));
    vm_control_set(ENTRY_CONTROLS, (uint32_t)(ENTRY_LOAD_DEBUG | ENTRY_LOAD_PAT | ENTRY_LOAD_EFER));
    vmx_set(GUEST_PAT, cpu_rdmsr(IA32_PAT));
    vmx_set(HOST_PAT, cpu_rdmsr(IA32_PAT));
    vmx_set(GUEST_EFER, cpu_rdmsr(IA32_EFER));
    vmx_set(HOST_EFER, cpu_rdmsr(IA32_EFER));
    vmx_set(GUEST_DR7, DR7_RESET);
}

/* L2's code, how it is set up beyond that, and the exit that it has. */
struct shape {
    void (*code)(void);
    enum vmcs_field controls;
    uint32_t bits;
    uint16_t exit;
};

enum { VMCALL, OPEN, CPUID, IO, HALT, WAKE, WINDOW, TIMER_RUNS, TIMER_ENDS };
static const struct shape shapes[] = {
    [VMCALL] = {l2_vmcall, PIN_CONTROLS, 0, EXIT_VMCALL},
    [OPEN] = {l2_open, PIN_CONTROLS, 0, EXIT_VMCALL},
    [CPUID] = {l2_cpuid, PIN_CONTROLS, 0, EXIT_CPUID},
    [IO] = {l2_out, PROC_CONTROLS, (uint32_t)PROC_UNCOND_IO, EXIT_IO},
    [HALT] = {l2_hlt, PROC_CONTROLS, (uint32_t)PROC_HLT, EXIT_HLT},
    [WAKE] = {l2_open_hlt, PROC_CONTROLS, (uint32_t)PROC_HLT, EXIT_HLT},
    [WINDOW] = {l2_open, PIN_CONTROLS, 0, EXIT_VMCALL},
    [TIMER_RUNS] = {l2_vmcall, PIN_CONTROLS, (uint32_t)PIN_PREEMPTION_TIMER, EXIT_VMCALL},
    [TIMER_ENDS] = {l2_vmcall, PIN_CONTROLS, (uint32_t)PIN_PREEMPTION_TIMER, EXIT_PREEMPTION_TIMER},
};

static void prepare(const struct bench_row *row)
{
    const struct shape *shape = &shapes[row->argument];

    make(shape->code);
    vm_control_set(shape->controls, shape->bits);
    vmx_set(PREEMPTION_TIMER, row->argument == TIMER_RUNS ? TIMER_LONG : TIMER_NONE);
    EXPECT_EXIT(&bench_vm[0], shape->exit);
}

/* The leaf that L2 finds where it looks for a device. */
static void prepare_device(const struct bench_row *row)
{
    make(l2_device);
    *paging_entry(bench_vm[0].ept, DEVICE, PAGE_SIZE) = row->argument;
    EXPECT_EXIT(&bench_vm[0], row->argument ? EXIT_EPT_MISCONFIG : EXIT_EPT_VIOLATION);
}

static uint8_t *virtual_apic;

static void prepare_threshold(const struct bench_row *row)
{
    (void)row;
    virtual_apic = page_alloc();
    virtual_apic[LAPIC_TPR] = 0x20;
    make(l2_lower_tpr);
    vmx_set(VIRTUAL_APIC_ADDR, (uint64_t)virtual_apic);
    vmx_set(TPR_THRESHOLD, 1);
    vm_control_set(PROC_CONTROLS, (uint32_t)PROC_TPR_SHADOW);
    EXPECT_EXIT(&bench_vm[0], EXIT_TPR_BELOW_THRESHOLD);
}

static void prepare_wrmsr(const struct bench_row *row)
{
    l2_msr = row->argument;
    make(l2_wrmsr);
    msr_bit_set(bench_vm[0].msr_bitmap, l2_msr, MSR_WRITE);
    EXPECT_EXIT(&bench_vm[0], EXIT_WRMSR);
}

/* An L1 that keeps page tables for L2. */
static void prepare_paging(const struct bench_row *row)
{
    vm_create(&bench_vm[0], row->argument == EXIT_INVLPG ? l2_invlpg : l2_load_cr3, VM_NO_EPT);
    vm_control_set(PROC_CONTROLS, (uint32_t)(PROC_CR3_LOAD | PROC_INVLPG));
    EXPECT_EXIT(&bench_vm[0], (uint16_t)row->argument);
}

static void prepare_fault(const struct bench_row *row)
{
    (void)row;
    vm_create(&bench_vm[0], l2_device, VM_NO_EPT);
    vmx_set(EXCEPTION_BITMAP, BIT(VECTOR_PF));
    vmx_set(GUEST_CR3, (uint64_t)paging_alloc_identity());
    *paging_entry((uint64_t *)vmx_get(GUEST_CR3), DEVICE, PAGE_SIZE) = 0;
    EXPECT_EXIT(&bench_vm[0], EXIT_EXCEPTION_NMI);
}

static uint64_t batch_handled(const struct bench_row *row)
{
    return loop_handled(row->turns, NULL);
}

/* Each turn is the first after HOST_RIP was written. */
static uint64_t batch_first(const struct bench_row *row)
{
    uint64_t ticks = 0;

    for (unsigned i = 0; i < row->turns; i++)
        ticks += (row->argument == VMCALL ? loop_nothing : loop_handled)(1, NULL);
    return ticks;
}

static uint64_t batch_device(const struct bench_row *row)
{
    return loop_device(row->turns, NULL);
}

static uint64_t batch_inject(const struct bench_row *row)
{
    uint64_t (*loop)(unsigned turns, const void *argument) = row->argument == WAKE ? loop_wake : loop_inject;
    unsigned taken = trap_count[IRQ_VECTOR_SELF];
    uint64_t ticks = loop(row->turns, (void *)(uintptr_t)(EVENT_VALID | IRQ_VECTOR_SELF));

    CHECK_EQ(trap_count[IRQ_VECTOR_SELF] - taken, row->turns);
    return ticks;
}

static uint64_t batch_host_fs(const struct bench_row *row)
{
    return loop_host_fs(row->turns, (void *)vmx_get(HOST_FS_BASE));
}

static uint64_t batch_timer(const struct bench_row *row)
{
    return loop_timer(row->turns, (void *)(uintptr_t)(row->argument == TIMER_RUNS ? TIMER_LONG : TIMER_NONE));
}

static uint64_t batch_window(const struct bench_row *row)
{
    return loop_window(row->turns, (void *)vmx_get(PROC_CONTROLS));
}

static uint64_t batch_threshold(const struct bench_row *row)
{
    return loop_threshold(row->turns, virtual_apic);
}

static uint64_t batch_clear(const struct bench_row *row)
{
    return loop_clear(row->turns, &bench_vm[0].vmcs);
}

const struct bench_row kvm_rows[] = {
    {"kvm-vmcall", TURNS, prepare, batch_round_trips, VMCALL},
    {"kvm-vmcall-first", ONE_BY_ONE, prepare, batch_first, VMCALL},
    {"kvm-handled", TURNS, prepare, batch_handled, CPUID},
    {"kvm-handled-first", ONE_BY_ONE, prepare, batch_first, CPUID},
    {"kvm-io", TURNS, prepare, batch_handled, IO},
    {"kvm-hlt", TURNS, prepare, batch_handled, HALT},
    {"kvm-hlt-wake", TURNS, prepare, batch_inject, WAKE},
    {"kvm-mmio-misconfig", TURNS, prepare_device, batch_device, (uint32_t)MISCONFIGURED},
    {"kvm-mmio-violation", TURNS, prepare_device, batch_device, 0},
    {"kvm-inject", TURNS, prepare, batch_inject, OPEN},
    {"kvm-window", TURNS, prepare, batch_window, WINDOW},
    {"kvm-host-fsbase", TURNS, prepare, batch_host_fs, VMCALL},
    {"kvm-timer", TURNS, prepare, batch_timer, TIMER_RUNS},
    {"kvm-timer-ends", TURNS, prepare, batch_timer, TIMER_ENDS},
    {"kvm-tpr-threshold", TURNS, prepare_threshold, batch_threshold, 0},
    {"kvm-wrmsr-eoi", TURNS, prepare_wrmsr, batch_handled, X2APIC_EOI},
    {"kvm-wrmsr-icr", TURNS, prepare_wrmsr, batch_handled, X2APIC_ICR},
    {"kvm-wrmsr-deadline", TURNS, prepare_wrmsr, batch_handled, IA32_TSC_DEADLINE},
    {"kvm-vmclear", TURNS, prepare, batch_clear, VMCALL},
    {"paging-cr3", TURNS, prepare_paging, batch_handled, EXIT_CR_ACCESS},
    {"paging-invlpg", TURNS, prepare_paging, batch_handled, EXIT_INVLPG},
    {"paging-fault", TURNS, prepare_fault, batch_device, 0},
    {0},
};
