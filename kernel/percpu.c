#include "kernel/percpu.h"

struct cpu *percpu_cpus[MAX_CPUS];
unsigned percpu_count;
struct cpu percpu_boot_cpu;

/* Where boot/entry.asm leaves the stack pointer; linker.ld keeps the page below it for a guard. */
__attribute__((section(".bss.stack"), aligned(16), used)) static uint8_t boot_stack[CPU_STACK_SIZE];

int percpu_init(struct cpu *cpu, uint32_t apic_id)
{
    if (percpu_count == MAX_CPUS)
        return -1;
    cpu->self = cpu;
    cpu->id = percpu_count;
    cpu->apic_id = apic_id;
    percpu_cpus[percpu_count++] = cpu;
    return 0;
}

uint64_t counters_total(enum counter counter)
{
    uint64_t total = 0;

    if (counter == COUNTER_MAGIC)
        return COUNTER_MAGIC_VALUE;
    for (unsigned i = 0; i < percpu_count; i++)
        total += percpu_cpus[i]->counters[counter];
    return total;
}
