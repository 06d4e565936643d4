#include "kernel/desc.h"

#include "kernel/msr.h"
#include "kernel/percpu.h"
#include "kernel/trap.h"
#include "kernel/x86.h"

/* SDM 3A 3.4.5 "Segment Descriptors"; accessed, so that the processor never writes them. */
#define DESCRIPTOR_CODE64 0x00af9b000000ffffull
#define DESCRIPTOR_DATA 0x00cf93000000ffffull
/* SDM 3A 8.2.3 "TSS Descriptor in 64-bit Mode" */
#define TSS_LIMIT BITS(15, 0)
#define TSS_BASE_23_0 BITS(39, 16)
#define TSS_TYPE BITS(43, 40)
#define TSS_TYPE_AVAILABLE 9
#define TSS_PRESENT BIT(47)
#define TSS_BASE_31_24 BITS(63, 56)

/* SDM 3A 6.14.1 "64-Bit Mode IDT" */
struct gate {
    uint16_t offset_15_0;
    uint16_t selector;
    uint8_t ist;
    uint8_t type;
    uint16_t offset_31_16;
    uint32_t offset_63_32;
    uint32_t reserved;
};
_Static_assert(sizeof(struct gate) == 16, "64-bit gate");
#define GATE_INTERRUPT 0x8e /* present, DPL 0 */

#define CPUID_EDX_MCE BIT(7)

static struct gate idt[IDT_ENTRIES];

static const uint8_t ist_of_vector[IDT_ENTRIES] = {
    [VECTOR_DF] = IST_DF,
    [VECTOR_NMI] = IST_NMI,
    [VECTOR_MC] = IST_MC,
};

static void fill_idt(void)
{
    for (unsigned vector = 0; vector < IDT_ENTRIES; vector++)
        idt[vector] = (struct gate){
            .offset_15_0 = (uint16_t)GET(trap_stubs[vector], BITS(15, 0)),
            .selector = SELECTOR_CODE,
            .ist = ist_of_vector[vector],
            .type = GATE_INTERRUPT,
            .offset_31_16 = (uint16_t)GET(trap_stubs[vector], BITS(31, 16)),
            .offset_63_32 = (uint32_t)GET(trap_stubs[vector], BITS(63, 32)),
        };
}

static void fill_tss(struct cpu *cpu)
{
    cpu->tss.io_map_base = sizeof cpu->tss;
    for (unsigned ist = IST_NONE + 1; ist < IST_COUNT; ist++)
        cpu->tss.ist[ist - 1] = (uint64_t)(cpu->ist_stacks[ist - 1] + IST_STACK_SIZE);
}

static void fill_gdt(struct cpu *cpu)
{
    uint64_t base = (uint64_t)&cpu->tss;

    cpu->gdt[SELECTOR_CODE / 8] = DESCRIPTOR_CODE64;
    cpu->gdt[SELECTOR_DATA / 8] = DESCRIPTOR_DATA;
    cpu->gdt[SELECTOR_TSS / 8] = PUT(sizeof cpu->tss - 1, TSS_LIMIT) | PUT(base, TSS_BASE_23_0) |
                                 PUT(TSS_TYPE_AVAILABLE, TSS_TYPE) | TSS_PRESENT |
                                 PUT(GET(base, BITS(31, 24)), TSS_BASE_31_24);
    cpu->gdt[SELECTOR_TSS / 8 + 1] = GET(base, BITS(63, 32));
}

static void load_tables(const struct cpu *cpu)
{
    struct descriptor_pointer gdtr = {.limit = sizeof cpu->gdt - 1, .base = (uint64_t)cpu->gdt};
    struct descriptor_pointer idtr = {.limit = sizeof idt - 1, .base = (uint64_t)idt};

    __asm__ volatile("lgdt %0" : : "m"(gdtr));
    __asm__ volatile("pushq %0\n\t"
                     "leaq 1f(%%rip), %%rax\n\t"
                     "pushq %%rax\n\t"
                     "lretq\n"
                     "1:\tmovl %1, %%ds\n\t"
                     "movl %1, %%es\n\t"
                     "movl %1, %%ss\n\t"
                     "movl %2, %%fs\n\t"
                     "movl %2, %%gs\n\t"
                     "lldt %w2\n\t"
                     :
                     : "i"(SELECTOR_CODE), "r"(SELECTOR_DATA), "r"(0)
                     : "rax", "memory");
    __asm__ volatile("lidt %0" : : "m"(idtr));
}

/* With CR4.MCE clear a machine check is a shutdown, which tells nobody anything. SDM 3A 6.15 "Exception and Interrupt
 * Reference" */
static void enable_machine_checks(void)
{
    if (cpuid(1, 0).edx & CPUID_EDX_MCE)
        write_cr4(read_cr4() | CR4_MCE);
}

void desc_load_without_task(struct cpu *cpu)
{
    fill_idt(); /* the same each time: a processor that is served by it meanwhile notices nothing */
    fill_tss(cpu);
    fill_gdt(cpu);
    load_tables(cpu);
    wrmsr(IA32_GS_BASE, (uint64_t)cpu);
    enable_machine_checks();
}

void desc_load(struct cpu *cpu)
{
    desc_load_without_task(cpu);
    __asm__ volatile("ltr %w0" : : "r"(SELECTOR_TSS) : "memory");
}

uint64_t desc_idt_base(void)
{
    return (uint64_t)idt;
}
