#include "start/machine.h"

#include "boot/efi_table.h"
#include "kernel/cmdline.h"
#include "kernel/layout.h"
#include "kernel/log.h"
#include "kernel/msr.h"
#include "kernel/panic.h"
#include "kernel/percpu.h"
#include "kernel/serial.h"
#include "kernel/string.h"
#include "kernel/trace.h"
#include "kernel/version.h"
#include "kernel/x86.h"
#include "l1/l1_bios.h"
#include "l1/l1_load.h"
#include "l1/l1_plan.h"
#include "l1/l1_stash.h"
#include "mm/carveout.h"
#include "mm/hpt.h"
#include "mm/page.h"
#include "nested/evmcs/evmcs.h"
#include "nested/nested.h"
#include "nested/summary.h"
#include "vmx/inspect.h"
#include "vmx/io.h"
#include "vmx/msr_guest.h"
#include "vmx/startup.h"

#define L1_MIN_MIB 16
#define FOUR_GIB (4 * GIB)

extern uint8_t image_end[]; /* linker.ld */

struct bootinfo bootinfo;
struct acpi_info acpi;
static struct memmap machine_map; /* as the loader reported it */
static struct memmap free_map;    /* the same, where RAM with firmware's tables in it is no RAM */
static hpa_t bios_page;           /* answers L1's questions to the BIOS about memory; 0: none */
struct vm l1_vm;
struct ept02_shared ept02_shared;
struct merged_cache merged_cache;
struct l1_plan l1_plan_space;
static const char *const boot_disk_name[] = {"hd0", "hd1", "cd"};

static void option_line(bool error, const char *text)
{
    if (error)
        log_err("options", "%s", text);
    else
        log_warn("options", "%s", text);
}

/* gdb sees one processor, and looks at each exit: it comes with the records of the option trace=. */
static void prepare_gdb(void)
{
    if (!options.gdb)
        return;
    if (options.gdb == GDB_COM2)
        options.gdb = SERIAL_COM2;
    if (options.gdb == (options.console == LOG_ON_COM2 ? SERIAL_COM2 : options.console))
        machine_end(STATUS_ENVIRONMENT, "options gdb and console name the same UART: say console=com1, vga or none");
    options.cpus = 1;
    if (!options.trace)
        options.trace = TRACE_RECORDS;
}

void machine_read_boot_information(uint64_t mbi)
{
    const uint32_t *block = hpa_to_va(mbi);
    int error = bootinfo_parse(block, *block, &bootinfo);
    const struct boot_framebuffer *screen = &bootinfo.screen;
    if (hpt_reach(screen->base, (uint64_t)screen->pitch * screen->height))
        bootinfo.screen.type = SCREEN_INDEXED; /* L1 may still have it */
    if (screen->type != SCREEN_NONE || !bootinfo.efi_system_table)
        log_screen(screen, hpa_to_va(screen->base));
    if (error)
        machine_end(STATUS_ENVIRONMENT, "boot information: %s", bootinfo_error(error));
    if (cmdline_parse(bootinfo.command_line, &options, option_line))
        machine_end(STATUS_ENVIRONMENT, "a bad option value");
    if (options.log == LOG_DBG && !options.trace)
        options.trace = TRACE_RECORDS; /* the log is made of the trace's records */
    prepare_gdb();
    log_options();
    if (screen->type == SCREEN_RGB)
        log_dbg("screen", "%u by %u pixels at %lx", screen->width, screen->height, screen->base);
    inspect_say("version", "Nestor %s", NESTOR_VERSION);
    inspect_say("options", "%s", bootinfo.command_line);
}

/* Regions overlap in some firmware's maps: RAM is entered first, so that the less usable type wins. */
void machine_read_memory_map(void)
{
    int error = 0;
    for (unsigned pass = 0; pass < 2; pass++)
        for (unsigned i = 0; i < bootinfo.regions; i++) {
            const struct boot_region *region = &bootinfo.region[i];
            if ((region->type == REGION_RAM) == (pass == 0))
                error |= memmap_set(&machine_map, region->base, region->size, region->type);
        }
    free_map = machine_map;
    for (unsigned i = 0; i < efi_map_count(&bootinfo.efi_map); i++) {
        struct efi_descriptor d = efi_map_get(&bootinfo.efi_map, i);
        if (!efi_is_free(d.type))
            error |= memmap_set(&free_map, d.base, d.size, REGION_RESERVED);
    }
    if (error)
        machine_end(STATUS_ENVIRONMENT, "the memory map has more than %u regions", MEMMAP_MAX);
}

/* Takes it from L1. */
static void reserve(hpa_t base, uint64_t size)
{
    if (memmap_set(&l1_vm.map, base, size, REGION_RESERVED) || memmap_set(&free_map, base, size, REGION_RESERVED) ||
        (bootinfo.efi_map.size && !efi_map_reserve(&bootinfo.efi_map, base, size)))
        machine_end(STATUS_ENVIRONMENT, "the memory map has no room for Nestor's own entry");
}

void machine_check_cpu(void)
{
    if (!(cpuid(1, 0).ecx & BIT(5)))
        machine_end(STATUS_ENVIRONMENT, "this CPU lacks VMX, or it is hidden: AMD's have none; switch VT-x on in the "
                                        "firmware's set-up, or nested virtualization in the hypervisor below");
    uint64_t control = options.fault == FAULT_VMX_LOCKED ? FEATURE_CONTROL_LOCK : rdmsr(IA32_FEATURE_CONTROL);
    if ((control & FEATURE_CONTROL_LOCK) && !(control & FEATURE_CONTROL_VMX_OUTSIDE_SMX))
        machine_end(STATUS_ENVIRONMENT, "the firmware locked VMX off: enable virtualization in its set-up");
    caps_read(&l1_vm.caps);
    const char *missing = caps_missing(&l1_vm.caps);
    if (missing)
        machine_end(STATUS_ENVIRONMENT, "this CPU lacks a feature that Nestor needs: %s", missing);
    if (l1_vm.caps.usable_bits < l1_vm.caps.address_bits)
        log_info("memory", "%u of %u address bits are KeyIDs of memory encryption: L1 cannot use those",
                 l1_vm.caps.address_bits - l1_vm.caps.usable_bits, l1_vm.caps.address_bits);
}

void machine_print_cpu(void)
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
        if (l1_vm.caps.proc2.may & controls[i].bit) {
            size_t used = strlen(line), length = strlen(controls[i].name);
            memcpy(line + used, " ", 1);
            memcpy(line + used + 1, controls[i].name, length + 1);
        }
    const char *huge = l1_vm.caps.ept_vpid & EPT_CAP_1G ? " EPT-1G" : "";
    const char *ad = l1_vm.caps.ept_vpid & EPT_CAP_AD ? " EPT-A/D" : "";
    log_raw("nestor: CPU features: %s%s%s", line, huge, ad);
    inspect_say("cpu", "%s%s%s", line, huge, ad);
}

static struct memmap_region own_image(void)
{
    return (struct memmap_region){layout_load_base, (uint64_t)image_end - IMAGE_LINK_BASE, REGION_RESERVED};
}

static uint64_t usable_cpus(void)
{
    uint64_t cpus = 0;

    for (unsigned i = 0; i < acpi.cpus; i++)
        cpus += acpi.cpu[i].enabled;
    return MIN(MAX(cpus, 1), options.cpus ? options.cpus : MAX_CPUS);
}

uint64_t machine_carveout_size(void)
{
    uint64_t mib = carveout_mib(memmap_ram_size(&machine_map) / MIB, usable_cpus());
    mib += usable_cpus() * ALIGN_UP(options.trace * sizeof(struct timed_record), MIB) / MIB;

    return ALIGN_UP(MAX(options.memory ? options.memory : mib, 8) * MIB, LARGE_2M);
}

void machine_use_carveout(hpa_t base, uint64_t size)
{
    if (hpt_reach(base, size))
        machine_end(STATUS_ENVIRONMENT, "memory at %lx is out of reach", base);
    l1_vm.map = machine_map;
    reserve(base, size);
    l1_vm.ept01.carveout_base = base;
    l1_vm.ept01.carveout_size = size;
    log_dbg("memory", "the loader put the image at %lx", layout_load_base);
    log_info("memory", "%llu MiB of RAM, Nestor's carve-out at %lx, %llu MiB", memmap_ram_size(&machine_map) / MIB,
             base, size / MIB);
    inspect_say("memory", "%llu MiB of RAM, Nestor's carve-out at %lx, %llu MiB", memmap_ram_size(&machine_map) / MIB,
                base, size / MIB);
}

/* Nestor's memory, at the top of RAM below 4 GiB, or, where that has no such piece, at the top of all: it is cut out of
 * what L1 sees. The image that runs until then must not lie in it. */
void machine_choose_carveout(void)
{
    const struct memmap_region image = own_image();
    uint64_t size = machine_carveout_size();
    hpa_t base = memmap_find_top(&free_map, size, LARGE_2M, FOUR_GIB, &image, 1);

    if (!base)
        base = memmap_find_top(&free_map, size, LARGE_2M, ~0ull, &image, 1);
    if (!base || memmap_ram_size(&machine_map) < size + L1_MIN_MIB * MIB || hpt_reach(base, size))
        machine_end(STATUS_ENVIRONMENT,
                    "too little memory: Nestor wants %llu MiB of adjoining RAM (the option memory= changes that), L1 "
                    "%u MiB",
                    size / MIB, L1_MIN_MIB);
    machine_use_carveout(base, size);
}

void machine_find_previous_log(void)
{
    log_find_previous(hpa_to_va(l1_vm.ept01.carveout_base), l1_vm.ept01.carveout_size);
}

/* A multiboot 1 image on UEFI; what the firmware may have left in page 0 is of no use any more if that is RAM. */
static bool needs_stand_in(void)
{
    const struct boot_module *l1 = &bootinfo.module[0];

    return bootinfo.modules && !hpt_reach(l1->start, l1->size) &&
           l1_detect(hpa_to_va(l1->start), l1->size) == L1_MULTIBOOT1 &&
           memmap_is(&machine_map, 0, PAGE_SIZE, REGION_RAM);
}

void machine_reserve_bios_page(void)
{
    bool stand_in = bootinfo.efi_system_table && needs_stand_in();

    if (stand_in || (!bootinfo.efi_system_table && l1_bios_present()))
        bios_page = l1_bios_find(&free_map);
    if (bios_page)
        reserve(bios_page, PAGE_SIZE);
    else
        log_info("memory", "no BIOS: nobody answers INT 15h for L1");
    if (bios_page && stand_in)
        log_warn("memory",
                 "by multiboot 1 L1 is told nothing of UEFI, and there is no BIOS: it finds the memory map by INT 15h "
                 "and ACPI's root at %lx, no other service. Start nestor.efi in place of this, and L1 has all of UEFI",
                 bios_page + L1_BIOS_ROOT);
}

void machine_stash_modules(void)
{
    static struct l1_move moves[BOOTINFO_MAX_MODULES];
    const struct memmap_region image = own_image();
    const char *error = l1_stash_plan(&free_map, L1_STASH_LIMIT, bootinfo.module, bootinfo.modules, &image, 1, moves);
    if (error)
        machine_end(STATUS_ENVIRONMENT, "modules: %s", error);
    l1_stash(moves, bootinfo.modules, bootinfo.module);
}

void machine_move_to_carveout(void)
{
    hpa_t base = l1_vm.ept01.carveout_base;
    uint64_t image_size = ALIGN_UP((uint64_t)image_end - IMAGE_LINK_BASE, PAGE_SIZE);
    if (image_size >= l1_vm.ept01.carveout_size)
        machine_end(STATUS_ENVIRONMENT, "the option memory= is too small");
    page_init(hpa_to_va(base + image_size), hpa_to_va(base + l1_vm.ept01.carveout_size));
    if (hpt_relocate(base, MAX(FOUR_GIB, ALIGN_UP(memmap_ram_end(&machine_map), LARGE_1G))))
        machine_end(STATUS_ENVIRONMENT, "the option memory= is too small");
}

static bool read_physical(void *context, hpa_t address, void *buffer, uint64_t size)
{
    (void)context;
    if (address + size < size || hpt_reach(address, size))
        return false;
    memcpy(buffer, hpa_to_va(address), size);
    return true;
}

void machine_read_acpi(void)
{
    int error = acpi_parse(bootinfo.rsdp, bootinfo.rsdp_size, read_physical, NULL, &acpi);
    if (error)
        log_warn("acpi", "%s: L1's power-off will not be noticed", acpi_error(error));
    l1_vm.pm1a_control = acpi.pm1a_control;
    l1_vm.pm1b_control = acpi.pm1b_control;
    if (acpi.reset.valid && acpi.reset.is_io) {
        l1_vm.reset_port = (uint16_t)acpi.reset.address;
        l1_vm.reset_value = acpi.reset_value;
    }
}

/* On wake-up from S3 the firmware would go on in L1 without Nestor: L1 is not offered it. */
void machine_hide_sleep(void)
{
    unsigned hidden = 0;
    for (unsigned i = 0; i < acpi.code_tables; i++) {
        uint32_t length;
        if (read_physical(NULL, acpi.code[i] + 4, &length, sizeof length) && !hpt_reach(acpi.code[i], length))
            hidden += acpi_hide_sleep(hpa_to_va(acpi.code[i]), length);
    }
    if (hidden)
        log_info("acpi", "suspend to RAM (S3) is hidden from L1: Nestor would not wake up with it");
}

void machine_create_vm(void)
{
    struct vmx_caps shown = l1_vm.caps;
    if (options.evmcs)
        evmcs_limit(&shown);
    caps12_compute(&shown, &l1_vm.caps12);
    l1_vm.cr4_hidden = l1_vm.caps.cr4_fixed1 & ~l1_vm.caps12.cr4_fixed1;
    l1_vm.capability_msr = caps12_msr;
    l1_vm.ept01.features = (struct ept_features){
        .pages_1g = (l1_vm.caps.ept_vpid & EPT_CAP_1G) != 0,
        .access_dirty = (l1_vm.caps.ept_vpid & EPT_CAP_AD) != 0,
        .address_bits = MIN(l1_vm.caps.usable_bits, 48),
    };
    l1_vm.ept01.map = &l1_vm.map;
    mtrr_read(&l1_vm.ept01.mtrr);
    l1_vm.watch.ept01 = &l1_vm.ept01;
    spinlock_init(&l1_vm.watch.lock, LOCK_WATCH);
    gmem_init(&l1_vm.gmem, &l1_vm.map, &l1_vm.watch);
    l1_vm.apic_stays_on |= percpu_count > 1;
    if (ept_build(&l1_vm.ept01) || (l1_vm.startup_trapped && startup_trap(&l1_vm)) || msr_policy_init(&l1_vm) ||
        io_policy_init(&l1_vm) || ept02_shared_init(&ept02_shared, &l1_vm.gmem, &l1_vm.ept01, &l1_vm.watch) ||
        nested_init_shared(&merged_cache, &l1_vm))
        machine_end(STATUS_ENVIRONMENT, "no memory for L1's tables: raise the option memory=");
    ept02_shared.trace = options.ept12_tracing;
    if (options.fault == FAULT_SKIP_EPT02)
        l1_vm.watch.protect_ept02 = NULL;
    l1_vm.ept01.keep_split = options.fault == FAULT_NEVER_REJOIN;
    l1_vm.cpuid.max_basic = cpuid(0, 0).eax;
    l1_vm.cpuid.max_extended = cpuid(0x80000000, 0).eax;
    cpuid_find_plain(&l1_vm.cpuid);
}

void machine_load_l1(void)
{
    const struct l1_input in = {
        .map = &l1_vm.map,
        .free = &free_map,
        .module = bootinfo.module,
        .modules = bootinfo.modules,
        .image = bootinfo.modules ? hpa_to_va(bootinfo.module[0].start) : NULL,
        .rsdp = bootinfo.rsdp,
        .rsdp_size = bootinfo.rsdp_size,
        .rsdp_place = efi_find_rsdp(bootinfo.efi_system_table, read_physical, NULL),
        .screen = &bootinfo.screen,
        .efi_system_table = bootinfo.efi_system_table,
        .efi_map = &bootinfo.efi_map,
        .has_bios = bios_page != 0,
        .boot_disk = (unsigned)options.boot,
        .end_port = (uint32_t)options.debug_exit,
    };
    const char *error = l1_plan(&in, &l1_plan_space);
    if (error)
        machine_end(STATUS_ENVIRONMENT, "L1: %s", error);
    l1_load(&l1_plan_space);
    if (l1_plan_space.kind == L1_DISK)
        log_info("main", "no module: L1 is what the BIOS boots from %s", boot_disk_name[options.boot]);
    if (bios_page)
        l1_bios_install(&l1_vm.map, bios_page);
    if (bios_page && bootinfo.efi_system_table)
        l1_bios_stand_in(bios_page, bootinfo.rsdp, bootinfo.rsdp_size);
}

void machine_print_summary(void)
{
    if (options.summary && l1_vm.vcpus)
        summary_print(&l1_vm);
    if (l1_vm.vcpus)
        inspect_export(&l1_vm);
}
