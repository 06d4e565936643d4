/* The block that each processor has of its own, reached through GS.
 * percpu_init() and desc_load() first, on that processor.
 * Anyone may use this_cpu() and count. */
#ifndef KERNEL_PERCPU_H
#define KERNEL_PERCPU_H

#include "kernel/counters.h"
#include "kernel/desc.h"
#include "kernel/trace.h"

#define CPU_STACK_SIZE 16384
#define IST_STACK_SIZE 8192 /* a panic prints its lines on one of these */

#define STRAIGHT_WORDS 112

struct cpu {
    struct cpu *self;                  /* first: this_cpu() reads it at GS:0 */
    void *stack_word;                  /* where an exit finds its stack: vmx/entry.asm */
    uint64_t straight[STRAIGHT_WORDS]; /* vmx/straight.h */
    unsigned id;                       /* index in percpu_cpus */
    uint32_t apic_id;
    struct timed_ring timed; /* its exit_tsc is written by vmx/entry.asm */
    volatile bool nmi_seen;  /* an NMI came while Nestor ran; vmx/ hands it on and clears this */
    volatile bool started;   /* its first C code runs */
    /* Another processor has sent it an NMI that is Nestor's own (vmx/kick): 0 or 1, atomic. */
    uint32_t kick_pending;
    uint32_t locks_held;   /* bits: ranks of the locks that it holds; CHECKED=1 only */
    volatile bool stopped; /* for the end of the run */
    uint8_t *stack_top;    /* of the run stack */
    void *vmxon_region;    /* kept for the next VMXON; vmx/ sets it */
    void *vcpu;            /* the struct vcpu that it runs; vmx/ sets it */
    uint64_t counters[COUNTER_COUNT];
    struct tss tss;
    uint64_t gdt[GDT_ENTRIES];
    struct trace_ring trace;
    uint8_t ist_stacks[IST_COUNT - 1][IST_STACK_SIZE] __attribute__((aligned(16)));
};
_Static_assert(offsetof(struct cpu, self) == 0, "this_cpu() reads GS:0");

extern struct cpu *percpu_cpus[MAX_CPUS];
extern unsigned percpu_count;
/* The block of the processor that boots. */
extern struct cpu percpu_boot_cpu;

/* Enters `cpu` (zeroed memory) into percpu_cpus under the next index. -1 when there are MAX_CPUS already. */
MUST_CHECK int percpu_init(struct cpu *cpu, uint32_t apic_id);

#if __STDC_HOSTED__
__attribute__((weak)) struct cpu percpu_host_cpu;
static inline struct cpu *this_cpu(void)
{
    return &percpu_host_cpu;
}
#else
static inline struct cpu *this_cpu(void)
{
    struct cpu *cpu;
    __asm__("movq %%gs:0, %0" : "=r"(cpu));
    return cpu;
}
#endif

static inline void count_add(enum counter counter, uint64_t n)
{
    this_cpu()->counters[counter] += n;
}

static inline void count(enum counter counter)
{
    count_add(counter, 1);
}

/* Writes down what happened, in this processor's ring: few instructions, as each exit does it. */
static inline void trace(enum trace_type type, uint32_t a, uint64_t b)
{
    struct trace_ring *ring = &this_cpu()->trace;

    ring->record[ring->written++ % TRACE_RECORDS] = (struct trace_record){(uint64_t)type << 32 | a, b};
}

/* For what is a level, not a count: PAGES_FREE. The sum over all processors is the level. */
static inline void count_subtract(enum counter counter, uint64_t n)
{
    this_cpu()->counters[counter] -= n;
}

/* Sum over all processors; COUNTER_MAGIC gives COUNTER_MAGIC_VALUE. */
uint64_t counters_total(enum counter counter);

#endif
