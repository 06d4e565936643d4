#include "start/processors.h"

#include "kernel/cmdline.h"
#include "kernel/lapic.h"
#include "kernel/layout.h"
#include "kernel/log.h"
#include "kernel/msr.h"
#include "kernel/panic.h"
#include "kernel/percpu.h"
#include "kernel/smp.h"
#include "kernel/x86.h"
#include "mm/page.h"
#include "nested/nested.h"
#include "start/machine.h"
#include "vmx/inspect.h"
#include "vmx/kick.h"
#include "vmx/msr_guest.h"
#include "vmx/probe.h"
#include "vmx/run.h"
#include "vmx/startup.h"
#include "vmx/vmcs_present.h"
#include "vmx/vmcs_setup.h"

#define CPUID_ECX_VMX BIT(5)
#define TRAMPOLINE_LIMIT 0xa0000 /* conventional memory: start-up IPIs lead there */

/* The findings of a further processor about itself, made before it said that it started. */
static struct {
    bool has_vmx;
    uint64_t feature_control;
    struct vmx_caps caps;
} arrived;
static unsigned turn; /* number of the processor that may make its virtual processor */

static bool is_ours(uint32_t apic_id)
{
    for (unsigned i = 0; i < percpu_count; i++)
        if (percpu_cpus[i]->apic_id == apic_id)
            return true;
    return false;
}

void processors_hide_others(void)
{
    unsigned hidden = 0;
    for (unsigned i = 0; i < acpi.cpus; i++)
        if (acpi.cpu[i].enabled && !is_ours(acpi.cpu[i].apic_id)) {
            acpi_disable_cpu(hpa_to_va(acpi.madt), hpa_to_va(acpi.cpu[i].entry));
            hidden++;
        }
    if (hidden)
        log_warn("acpi", "%u further processors are hidden from L1", hidden);
}

/* The option trace= in whole powers of two. */
static void start_timed_trace(struct timed_ring *ring)
{
    uint64_t records = 1;

    if (!options.trace)
        return;
    while (records * 2 <= options.trace)
        records *= 2;
    ring->record = page_alloc_run((unsigned)(ALIGN_UP(records * sizeof(struct timed_record), PAGE_SIZE) / PAGE_SIZE));
    if (!ring->record)
        machine_end(STATUS_ENVIRONMENT, "no memory for the records of the option trace=: raise the option memory=");
    ring->records = records; /* from here on it is written */
}

static struct vcpu *create_vcpu(const struct l1_start *start)
{
    struct cpu *cpu = this_cpu();
    struct vcpu *vcpu = page_alloc_run((sizeof(*vcpu) + PAGE_SIZE - 1) / PAGE_SIZE);
    if (!vcpu)
        machine_end(STATUS_ENVIRONMENT, "no memory for a virtual processor: raise the option memory=");
    vcpu->vm = &l1_vm;
    vcpu->cpu = cpu;
    start_timed_trace(&cpu->timed);
    cpu->stack_word = cpu->stack_top - 16;
    vcpu->apic_base = rdmsr(IA32_APIC_BASE);
    mtrr_read(&vcpu->mtrr);
    msr_prepare_processor(&l1_vm);
    vcpu->feature_control = FEATURE_CONTROL_LOCK | FEATURE_CONTROL_VMX_OUTSIDE_SMX;
    if (vmx_enable(&l1_vm.caps) || vmcs01_create(vcpu, start) || nested_init(vcpu, &ept02_shared, &merged_cache))
        machine_end(STATUS_ENVIRONMENT, "VMX could not be set up");
    l1_vm.cpuid.proc2 = vmcs_read(PROC2_CONTROLS);
    l1_vm.cpuid.proc3 = l1_vm.caps.proc.may & PROC_TERTIARY ? vmcs_read(PROC3_CONTROLS) : 0;
    cpu->vcpu = vcpu; /* from here on its NMIs are looked at */
    l1_vm.vcpu[l1_vm.vcpus++] = vcpu;
    return vcpu;
}

static void *alloc_stack(void)
{
    uint8_t *stack = page_alloc_run(CPU_STACK_SIZE / PAGE_SIZE);
    return stack ? stack + CPU_STACK_SIZE : NULL;
}

static void arrive(void)
{
    arrived.has_vmx = cpuid(1, 0).ecx & CPUID_ECX_VMX;
    if (arrived.has_vmx) {
        arrived.feature_control = rdmsr(IA32_FEATURE_CONTROL);
        caps_read(&arrived.caps);
    }
}

/* A further processor: waits for its turn, as one after the other makes its virtual processor, then for L1. */
static NORETURN void run_processor(struct cpu *cpu)
{
    desc_load(cpu);
    arrive();
    __atomic_store_n(&cpu->started, true, __ATOMIC_RELEASE);
    while (__atomic_load_n(&turn, __ATOMIC_ACQUIRE) != cpu->id) {
        probe_serve(&l1_vm.caps);
        cpu_pause();
    }
    struct vcpu *vcpu = create_vcpu(&l1_plan_space.start);
    vcpu->waiting = WAITING_L1;
    __atomic_store_n(&turn, turn + 1, __ATOMIC_RELEASE);
    startup_reset(vcpu);
    vcpu_run(vcpu);
}

/* L1 is offered what all processors have. */
static void meet_processor(uint32_t apic_id)
{
    bool locked_off = (arrived.feature_control & FEATURE_CONTROL_LOCK) &&
                      !(arrived.feature_control & FEATURE_CONTROL_VMX_OUTSIDE_SMX);
    const char *missing = arrived.has_vmx && !locked_off ? caps_meet(&l1_vm.caps, &arrived.caps) : "VMX";
    if (missing)
        machine_end(STATUS_ENVIRONMENT,
                    "the processor with APIC ID %u does not share with the others what Nestor needs: %s. Leave it out "
                    "by the option cpus=, or turn it off in the firmware's set-up",
                    apic_id, missing);
}

static void bring_up(struct cpu *cpu, hpa_t page)
{
    cpu->started = false;
    if (!smp_start(cpu, cpu->stack_top, run_processor, page))
        machine_end(STATUS_ENVIRONMENT,
                    "processor with APIC ID %u does not start: leave it out by the option cpus=", cpu->apic_id);
    meet_processor(cpu->apic_id);
}

static struct cpu *add_processor(uint32_t apic_id)
{
    struct cpu *cpu = page_alloc_run((sizeof(*cpu) + PAGE_SIZE - 1) / PAGE_SIZE);
    void *stack = alloc_stack();
    if (!cpu || !stack || percpu_init(cpu, apic_id))
        machine_end(STATUS_ENVIRONMENT, "no memory for processor %u: raise the option memory=", apic_id);
    cpu->stack_top = stack;
    return cpu;
}

/* How Nestor learns of L1's INIT and start-up IPIs. */
static void choose_startup(hpa_t page)
{
    l1_vm.startup_trapped = options.startup == STARTUP_TRAP;
    if (options.startup != STARTUP_AUTO || probe_startup(percpu_cpus[1]))
        return;
    log_info("quirks", "INIT and start-up IPIs are no proper VM exits here: Nestor does those of L1 itself");
    l1_vm.startup_trapped = true;
    bring_up(percpu_cpus[1], page);
}

static void prepare_boot_processor(void)
{
    struct cpu *self = this_cpu();
    self->apic_id = lapic_id();
    self->stack_top = alloc_stack();
    if (!self->stack_top)
        machine_end(STATUS_ENVIRONMENT, "the option memory= is too small");
    kick_init();
}

void processors_take_over(unsigned processors)
{
    if (options.cpus && options.cpus < processors)
        machine_end(STATUS_ENVIRONMENT, "the option cpus= leaves none out under a firmware that uses all %u",
                    processors);
    prepare_boot_processor();
    for (unsigned i = 1; i < processors; i++)
        (void)add_processor(0); /* it tells its APIC ID when it comes */
    l1_vm.startup_trapped = processors > 1 && options.startup == STARTUP_TRAP;
    turn = 1;
}

void processors_meet_in_place(struct cpu *cpu)
{
    desc_load_without_task(cpu);
    cpu->apic_id = lapic_id();
    cpu->started = true;
    arrive();
    meet_processor(cpu->apic_id);
}

static bool has_failed(const bool *failed)
{
    return __atomic_load_n(failed, __ATOMIC_SEQ_CST);
}

struct vcpu *processors_join_l1(struct cpu *cpu, const struct in_place_state *present, const bool *failed)
{
    const struct l1_start start = {.present = present};
    desc_load_without_task(cpu);
    cpu->apic_id = lapic_id();
    while (__atomic_load_n(&turn, __ATOMIC_ACQUIRE) != cpu->id && !has_failed(failed))
        cpu_pause();
    struct vcpu *vcpu = has_failed(failed) ? NULL : create_vcpu(&start);
    if (vcpu && options.fault == FAULT_REFUSE_PROCESSOR)
        machine_end(STATUS_ENVIRONMENT, "the processor with APIC ID %u refuses (fault=)", cpu->apic_id);
    __atomic_store_n(&turn, turn + (vcpu != NULL), __ATOMIC_RELEASE);
    while (__atomic_load_n(&turn, __ATOMIC_ACQUIRE) < percpu_count && !has_failed(failed))
        cpu_pause();
    if (has_failed(failed))
        return NULL;
    desc_load(cpu);
    return vcpu;
}

void processors_make_boot_vcpu(void)
{
    (void)create_vcpu(&l1_plan_space.start);
    vmx_give_up();
}

static void watch_l1(void)
{
    if (l1_vm.vcpus > 1)
        kick_watch(&l1_vm);
    inspect_start(&l1_vm);
}

struct vcpu *processors_go_on(const struct in_place_state *present)
{
    struct vcpu *vcpu = this_cpu()->vcpu;

    if (vmx_enable(&l1_vm.caps))
        machine_end(STATUS_ENVIRONMENT, "VMX could not be set up");
    vmcs_load(vcpu->vmcs01);
    vmcs01_go_on(vcpu, present);
    watch_l1();
    return vcpu;
}

void processors_start(void)
{
    struct cpu *self = this_cpu();
    uint64_t limit = options.cpus ? MIN(options.cpus, MAX_CPUS) : MAX_CPUS;
    hpa_t page = memmap_find_top(&l1_vm.map, PAGE_SIZE, PAGE_SIZE, TRAMPOLINE_LIMIT, NULL, 0);
    prepare_boot_processor();
    for (unsigned i = 0; page && i < acpi.cpus && percpu_count < limit; i++)
        if (acpi.cpu[i].enabled && acpi.cpu[i].apic_id != self->apic_id && lapic_reaches(acpi.cpu[i].apic_id))
            bring_up(add_processor(acpi.cpu[i].apic_id), page);
    processors_hide_others();
    if (percpu_count == 1)
        return;
    choose_startup(page);
    log_info("smp", "%u processors run", percpu_count);
}

struct vcpu *processors_create_vcpus(void)
{
    struct vcpu *boot_vcpu = create_vcpu(&l1_plan_space.start);
    for (turn += !turn; __atomic_load_n(&turn, __ATOMIC_ACQUIRE) < percpu_count;)
        cpu_pause();
    watch_l1();
    return boot_vcpu;
}
