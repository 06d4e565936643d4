/* The composition root. For now it shows that the machine comes up. */
#include "kernel/log.h"
#include "kernel/panic.h"
#include "kernel/percpu.h"
#include "kernel/version.h"

void kernel_main(uint32_t magic, uint64_t mbi);

void kernel_main(uint32_t magic, uint64_t mbi)
{
    log_init();
    log_raw("Nestor %s", NESTOR_VERSION);
    if (percpu_init(&percpu_boot_cpu, 0))
        panic("no processor");
    desc_load(&percpu_boot_cpu);
    log_info("boot", "magic=%#x information at %#lx", magic, mbi);
    machine_end(1, "nothing to run");
}
