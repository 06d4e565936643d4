/* The composition root: reads as a table of contents of what Nestor does from its first instruction to L1's. It alone
 * sees all layers. Each step ends the run by itself, with one line that says why, when it cannot be done. */
#include "boot/bootinfo.h"
#include "kernel/acpi.h"
#include "kernel/cmdline.h"
#include "kernel/lapic.h"
#include "kernel/layout.h"
#include "kernel/log.h"
#include "kernel/msr.h"
#include "kernel/panic.h"
#include "kernel/percpu.h"
#include "kernel/smp.h"
#include "kernel/string.h"
#include "kernel/version.h"
#include "kernel/x86.h"
#include "mm/hpt.h"
#include "mm/page.h"
#include "nested/nested.h"
#include "nested/summary.h"
#include "vmx/io.h"
#include "vmx/kick.h"
#include "vmx/l1_bios.h"
#include "vmx/l1_load.h"
#include "vmx/msr.h"
#include "vmx/run.h"
#include "vmx/startup.h"
#include "vmx/vmcs_setup.h"

#define STATUS_ENVIRONMENT 1 /* the machine, the options or L1's image are not what Nestor needs */
#define CARVEOUT_MIN_MIB 32
#define CARVEOUT_BASE_MIB 24
#define CARVEOUT_RAM_SHARE 64 /* and one page in so many, for tables that grow with RAM */
#define L1_MIN_MIB 16
#define CARVEOUT_CPU_MIB 2 /* and this much for each processor but one */
#define FOUR_GIB (4 * GIB)
#define TRAMPOLINE_LIMIT 0xa0000 /* conventional memory: start-up IPIs lead there */
/* In the order of the values of the option "startup". */
enum { STARTUP_AUTO, STARTUP_EXIT, STARTUP_TRAP };

extern uint8_t image_end[]; /* linker.ld */

void kernel_main(uint32_t magic, uint64_t mbi);

static struct bootinfo bootinfo;
static struct acpi_info acpi;
static struct memmap machine_map; /* as the loader reported it */
static hpa_t bios_page;           /* answers L1's questions to the BIOS about memory; 0: none */
static struct vm vm;
static struct ept12_shared ept12_shared;
static struct l1_plan l1_plan_space;
static struct vcpu *boot_vcpu;
static unsigned turn; /* number of the processor that may make its virtual processor */

static void option_line(bool error, const char *text)
{
    if (error)
        log_err("options", "%s", text);
    else
        log_warn("options", "%s", text);
}

static void read_boot_information(uint64_t mbi)
{
    const uint32_t *block = hpa_to_va(mbi);
    int error = bootinfo_parse(block, *block, &bootinfo);
    if (error)
        machine_end(STATUS_ENVIRONMENT, "boot information: %s", bootinfo_error(error));
    if (cmdline_parse(bootinfo.command_line, &options, option_line))
        machine_end(STATUS_ENVIRONMENT, "a bad option value");
    if (!bootinfo.modules)
        machine_end(STATUS_ENVIRONMENT, "no L1: give its kernel as the first multiboot2 module");
}

/* Regions overlap in some firmware's maps: RAM is entered first, so that the less usable type wins. */
static void read_memory_map(void)
{
    int error = 0;
    for (unsigned pass = 0; pass < 2; pass++)
        for (unsigned i = 0; i < bootinfo.regions; i++) {
            const struct boot_region *region = &bootinfo.region[i];
            if ((region->type == REGION_RAM) == (pass == 0))
                error |= memmap_set(&machine_map, region->base, region->size, region->type);
        }
    if (error)
        machine_end(STATUS_ENVIRONMENT, "the memory map has more than %u regions", MEMMAP_MAX);
}

static void check_cpu(void)
{
    if (!(cpuid(1, 0).ecx & BIT(5)))
        machine_end(STATUS_ENVIRONMENT, "this CPU lacks VMX (or the firmware hides it)");
    uint64_t control = rdmsr(IA32_FEATURE_CONTROL);
    if (!(control & FEATURE_CONTROL_LOCK))
        wrmsr(IA32_FEATURE_CONTROL, control | FEATURE_CONTROL_LOCK | FEATURE_CONTROL_VMX_OUTSIDE_SMX);
    else if (!(control & FEATURE_CONTROL_VMX_OUTSIDE_SMX))
        machine_end(STATUS_ENVIRONMENT, "the firmware locked VMX off: enable virtualization in its set-up");
    caps_read(&vm.caps);
    const char *missing = caps_missing(&vm.caps);
    if (missing)
        machine_end(STATUS_ENVIRONMENT, "this CPU lacks a feature that Nestor needs: %s", missing);
    caps12_compute(&vm.caps, &vm.caps12);
    vm.capability_msr = caps12_msr;
}

static void print_cpu(void)
{
    static const struct {
        const char *name;
        uint32_t bit;
    } controls[] = {
        {"VPID", PROC2_VPID},
        {"INVPCID", PROC2_INVPCID},
        {"RDTSCP", PROC2_RDTSCP},
        {"XSAVES", PROC2_XSAVES},
        {"PML", PROC2_PML},
        {"APICv", PROC2_VIRTUAL_INTERRUPTS},
        {"VMCS-shadowing", PROC2_VMCS_SHADOWING},
        {"TSC-scaling", PROC2_TSC_SCALING},
    };
    char line[160] = "EPT unrestricted-guest MSR-bitmaps";
    for (unsigned i = 0; i < ARRAY_SIZE(controls); i++)
        if (vm.caps.proc2.may & controls[i].bit) {
            size_t used = strlen(line), length = strlen(controls[i].name);
            memcpy(line + used, " ", 1);
            memcpy(line + used + 1, controls[i].name, length + 1);
        }
    log_raw("nestor: CPU features: %s%s%s", line, vm.caps.ept_vpid & EPT_CAP_1G ? " EPT-1G" : "",
            vm.caps.ept_vpid & EPT_CAP_AD ? " EPT-A/D" : "");
}

/* Nestor's memory, at the top of RAM below 4 GiB, is cut out of what L1 sees. */
static void choose_carveout(void)
{
    uint64_t mib = options.memory;
    if (!mib)
        mib = MAX(CARVEOUT_MIN_MIB, CARVEOUT_BASE_MIB + memmap_ram_size(&machine_map) / MIB / CARVEOUT_RAM_SHARE);
    if (!options.memory)
        mib += CARVEOUT_CPU_MIB * (MIN(MAX(acpi.cpus, 1u), options.cpus ? options.cpus : MAX_CPUS) - 1);
    uint64_t size = ALIGN_UP(MAX(mib, 8) * MIB, LARGE_2M);
    hpa_t base = memmap_find_top(&machine_map, size, LARGE_2M, FOUR_GIB, NULL, 0);
    vm.map = machine_map;
    if (!base || memmap_ram_size(&machine_map) < size + L1_MIN_MIB * MIB ||
        memmap_set(&vm.map, base, size, REGION_RESERVED))
        machine_end(STATUS_ENVIRONMENT,
                    "too little memory: Nestor wants %llu MiB of adjoining RAM below 4 GiB and L1 %u MiB", size / MIB,
                    L1_MIN_MIB);
    vm.ept01.carveout_base = base;
    vm.ept01.carveout_size = size;
    log_info("memory", "%llu MiB of RAM, Nestor's carve-out at %lx, %llu MiB", memmap_ram_size(&machine_map) / MIB,
             base, size / MIB);
}

static void reserve_bios_page(void)
{
    bios_page = l1_bios_reserve(&vm.map);
    if (!bios_page)
        log_info("memory", "no BIOS: nobody answers INT 15h for L1");
}

static void stash_modules(void)
{
    static struct l1_move moves[BOOTINFO_MAX_MODULES];
    const struct memmap_region image = {IMAGE_LOAD_BASE, (uint64_t)image_end - IMAGE_LINK_BASE, REGION_RESERVED};
    const char *error = l1_stash_plan(&vm.map, L1_STASH_LIMIT, bootinfo.module, bootinfo.modules, &image, 1, moves);
    if (error)
        machine_end(STATUS_ENVIRONMENT, "modules: %s", error);
    l1_stash(moves, bootinfo.modules, bootinfo.module);
}

static void move_to_carveout(void)
{
    hpa_t base = vm.ept01.carveout_base;
    uint64_t image_size = ALIGN_UP((uint64_t)image_end - IMAGE_LINK_BASE, PAGE_SIZE);
    if (image_size >= vm.ept01.carveout_size)
        machine_end(STATUS_ENVIRONMENT, "the option memory= is too small");
    page_init(hpa_to_va(base + image_size), hpa_to_va(base + vm.ept01.carveout_size));
    if (hpt_relocate(base, MAX(FOUR_GIB, ALIGN_UP(memmap_ram_end(&machine_map), LARGE_1G))))
        machine_end(STATUS_ENVIRONMENT, "the option memory= is too small");
}

static bool read_physical(void *context, hpa_t address, void *buffer, uint64_t size)
{
    (void)context;
    if (address + size < size || address + size > FOUR_GIB)
        return false;
    memcpy(buffer, hpa_to_va(address), size);
    return true;
}

static bool is_ours(uint32_t apic_id)
{
    for (unsigned i = 0; i < percpu_count; i++)
        if (percpu_cpus[i]->apic_id == apic_id)
            return true;
    return false;
}

/* L1 shall not start what Nestor does not run on: those are marked unusable in the MADT. */
static void hide_other_processors(void)
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

static void read_acpi(void)
{
    int error = acpi_parse(bootinfo.rsdp, bootinfo.rsdp_size, read_physical, NULL, &acpi);
    if (error)
        log_warn("acpi", "%s: L1's power-off will not be noticed", acpi_error(error));
    vm.pm1a_control = acpi.pm1a_control;
    vm.pm1b_control = acpi.pm1b_control;
}

static void choose_quirks(void)
{
    vm.quirks =
        quirks_choose((enum quirks_option)options.quirks, bootinfo.rsdp_size ? bootinfo.rsdp : NULL, cpuid(1, 0));
    vm.cpuid.x2apic_broken = vm.quirks.apic_enable_sticks;
    vm.startup_trapped = percpu_count > 1 && (options.startup == STARTUP_TRAP ||
                                              (options.startup == STARTUP_AUTO && vm.quirks.init_exit_sticks));
    if (vm.quirks.apic_enable_sticks)
        log_info("quirks", "Bochs: L1's APIC stays enabled, and L1 sees no x2APIC");
}

static void create_vm(void)
{
    vm.ept01.features = (struct ept_features){
        .pages_1g = (vm.caps.ept_vpid & EPT_CAP_1G) != 0,
        .access_dirty = (vm.caps.ept_vpid & EPT_CAP_AD) != 0,
        .address_bits = MIN(vm.caps.address_bits, 48),
    };
    vm.ept01.map = &vm.map;
    mtrr_read(&vm.ept01.mtrr);
    vm.watch.ept01 = &vm.ept01;
    spinlock_init(&vm.watch.lock, LOCK_WATCH);
    gmem_init(&vm.gmem, &vm.map, &vm.watch);
    if (ept_build(&vm.ept01) || (vm.startup_trapped && startup_trap(&vm)) || msr_policy_init(&vm) ||
        io_policy_init(&vm) || ept12_shared_init(&ept12_shared, &vm.gmem, &vm.ept01, &vm.watch))
        machine_end(STATUS_ENVIRONMENT, "no memory for L1's tables: raise the option memory=");
    ept12_shared.trace = options.ept12_tracing;
    if (options.fault == FAULT_SKIP_EPT02)
        vm.watch.protect_ept02 = NULL;
    vm.ept01.keep_split = options.fault == FAULT_NEVER_REJOIN;
    vm.cpuid.max_basic = cpuid(0, 0).eax;
    vm.cpuid.max_extended = cpuid(0x80000000, 0).eax;
    cpuid_find_plain(&vm.cpuid);
}

static void load_l1(void)
{
    const struct l1_input in = {
        .map = &vm.map,
        .module = bootinfo.module,
        .modules = bootinfo.modules,
        .image = hpa_to_va(bootinfo.module[0].start),
        .rsdp = bootinfo.rsdp,
        .rsdp_size = bootinfo.rsdp_size,
    };
    const char *error = l1_plan(&in, &l1_plan_space);
    if (error)
        machine_end(STATUS_ENVIRONMENT, "L1: %s", error);
    l1_load(&l1_plan_space);
    if (bios_page)
        l1_bios_install(&vm.map, bios_page);
}

static struct vcpu *create_vcpu(void)
{
    struct cpu *cpu = this_cpu();
    struct vcpu *vcpu = page_alloc_run((sizeof(*vcpu) + PAGE_SIZE - 1) / PAGE_SIZE);
    if (!vcpu)
        machine_end(STATUS_ENVIRONMENT, "no memory for a virtual processor: raise the option memory=");
    vcpu->vm = &vm;
    vcpu->cpu = cpu;
    cpu->stack_word = cpu->stack_top - 16;
    vcpu->apic_base = rdmsr(IA32_APIC_BASE);
    vcpu->feature_control = FEATURE_CONTROL_LOCK | FEATURE_CONTROL_VMX_OUTSIDE_SMX;
    if (vmx_enable(&vm.caps) || vmcs01_create(vcpu, &l1_plan_space.start) || nested_init(vcpu, &ept12_shared))
        machine_end(STATUS_ENVIRONMENT, "VMX could not be set up");
    vm.cpuid.proc2 = vmcs_read(PROC2_CONTROLS);
    cpu->vcpu = vcpu; /* from here on its NMIs are looked at */
    vm.vcpu[vm.vcpus++] = vcpu;
    return vcpu;
}

static void *alloc_stack(void)
{
    uint8_t *stack = page_alloc_run(CPU_STACK_SIZE / PAGE_SIZE);
    return stack ? stack + CPU_STACK_SIZE : NULL;
}

/* A further processor: waits for its turn, as one after the other makes its virtual processor, then for L1. */
static NORETURN void run_processor(struct cpu *cpu)
{
    desc_load(cpu);
    cpu->started = true;
    while (__atomic_load_n(&turn, __ATOMIC_ACQUIRE) != cpu->id)
        cpu_pause();
    uint64_t control = rdmsr(IA32_FEATURE_CONTROL);
    if (!(control & FEATURE_CONTROL_LOCK))
        wrmsr(IA32_FEATURE_CONTROL, control | FEATURE_CONTROL_LOCK | FEATURE_CONTROL_VMX_OUTSIDE_SMX);
    struct vcpu *vcpu = create_vcpu();
    vcpu->waiting = WAITING_L1;
    __atomic_store_n(&turn, turn + 1, __ATOMIC_RELEASE);
    startup_reset(vcpu);
    vcpu_run(vcpu);
}

static void start_processor(uint32_t apic_id, hpa_t page)
{
    struct cpu *cpu = page_alloc_run((sizeof(*cpu) + PAGE_SIZE - 1) / PAGE_SIZE);
    void *stack = alloc_stack();
    if (!cpu || !stack || percpu_init(cpu, apic_id))
        machine_end(STATUS_ENVIRONMENT, "no memory for processor %u: raise the option memory=", apic_id);
    cpu->stack_top = stack;
    if (!smp_start(cpu, stack, run_processor, page))
        machine_end(STATUS_ENVIRONMENT,
                    "processor with APIC ID %u does not start: leave it out by the option cpus=", apic_id);
}

/* In the order of the MADT, the boot processor apart. */
static void start_processors(void)
{
    struct cpu *self = this_cpu();
    uint64_t limit = options.cpus ? MIN(options.cpus, MAX_CPUS) : MAX_CPUS;
    hpa_t page = memmap_find_top(&vm.map, PAGE_SIZE, PAGE_SIZE, TRAMPOLINE_LIMIT, NULL, 0);
    self->apic_id = lapic_id();
    self->stack_top = alloc_stack();
    if (!self->stack_top)
        machine_end(STATUS_ENVIRONMENT, "the option memory= is too small");
    kick_init();
    for (unsigned i = 0; page && i < acpi.cpus && percpu_count < limit; i++)
        if (acpi.cpu[i].enabled && acpi.cpu[i].apic_id != self->apic_id)
            start_processor(acpi.cpu[i].apic_id, page);
    hide_other_processors();
    if (percpu_count > 1)
        log_info("smp", "%u processors run", percpu_count);
}

/* One after the other, this one first. */
static void create_vcpus(void)
{
    boot_vcpu = create_vcpu();
    for (turn = 1; __atomic_load_n(&turn, __ATOMIC_ACQUIRE) < percpu_count;)
        cpu_pause();
    if (vm.vcpus > 1)
        kick_watch(&vm);
}

static void print_summary(void)
{
    if (options.summary && boot_vcpu)
        summary_print(&vm);
}

void kernel_main(uint32_t magic, uint64_t mbi)
{
    (void)magic; /* checked by boot/entry.asm */
    if (percpu_init(&percpu_boot_cpu, 0))
        panic("no processor");
    desc_load(&percpu_boot_cpu);
    log_init();
    log_raw("nestor: Nestor %s, a hypervisor for nested VMX", NESTOR_VERSION);
    read_boot_information(mbi);
    read_memory_map();
    check_cpu();
    print_cpu();
    read_acpi();
    choose_carveout();
    reserve_bios_page();
    stash_modules();
    move_to_carveout();
    start_processors();
    choose_quirks();
    create_vm();
    load_l1();
    create_vcpus();
    machine_on_end(print_summary);
    log_info("main", "L1 starts");
    log_l1_starts();
    vcpu_run(boot_vcpu);
}
