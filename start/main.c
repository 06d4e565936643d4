/* The composition root: reads as a table of contents of what Nestor does from its first instruction to L1's. */
#include "debug/stub.h"
#include "kernel/cmdline.h"
#include "kernel/log.h"
#include "kernel/panic.h"
#include "kernel/percpu.h"
#include "kernel/version.h"
#include "mm/hpt.h"
#include "start/machine.h"
#include "start/processors.h"
#include "start/quirks.h"
#include "vmx/measure.h"
#include "vmx/run.h"
#include "vmx/trace_words.h"

void kernel_main(uint32_t magic, uint64_t mbi, uint64_t load_base);

void kernel_main(uint32_t magic, uint64_t mbi, uint64_t load_base)
{
    (void)magic; /* checked by boot/entry.asm */
    hpt_start(load_base);
    if (percpu_init(&percpu_boot_cpu, 0))
        panic("no processor");
    desc_load(&percpu_boot_cpu);
    log_init();
    log_raw("nestor: Nestor %s, a hypervisor for nested VMX", NESTOR_VERSION);
    machine_read_boot_information(mbi);
    machine_read_memory_map();
    machine_check_cpu();
    machine_print_cpu();
    machine_read_acpi();
    machine_choose_carveout();
    machine_find_previous_log();
    machine_reserve_bios_page();
    machine_stash_modules();
    machine_move_to_carveout();
    quirks_find();
    if (options.measure)
        measure_print(&l1_vm.caps);
    processors_start();
    machine_create_vm();
    machine_hide_sleep();
    machine_load_l1();
    struct vcpu *boot_vcpu = processors_create_vcpus();
    machine_on_end(machine_print_summary);
    trace_words_init();
    log_info("main", "L1 starts");
    debug_start(boot_vcpu);
    log_l1_starts();
    vcpu_run(boot_vcpu);
}
