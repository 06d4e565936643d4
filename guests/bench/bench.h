/* A row of the benchmark: one operation, repeated in batches; its figure is the cheapest batch.
 * main.c starts each row outside VMX operation with no page allocated, then calls prepare() and batch() in it.
 * The tables of rows are for main.c; what is below them is for the rows. */
#ifndef GUESTS_BENCH_BENCH_H
#define GUESTS_BENCH_BENCH_H

#include "guests/lib/check.h"
#include "guests/lib/cpu.h"
#include "guests/lib/vm.h"

struct bench_row {
    const char *key;
    unsigned turns;                                 /* of one batch */
    void (*prepare)(const struct bench_row *row);   /* once, in VMX operation; NULL: nothing */
    uint64_t (*batch)(const struct bench_row *row); /* the ticks that all turns took */
    uint32_t argument;                              /* what the functions of a group make of it */
};

#define BATCHES 8
#define TURNS 256
#define TURNS_FEW 32 /* where each turn needs something of its own */

/* Each list ends with a row without a key. */
extern const struct bench_row l1_rows[];
extern const struct bench_row round_trip_rows[];
extern const struct bench_row kvm_rows[];
extern const struct bench_row memory_rows[];
extern const struct bench_row flag_rows[];
extern const struct bench_row many_rows[];
extern const struct bench_row msr_rows[];
extern const struct bench_row smp_rows[]; /* with two processors, after second_start() */

/* Counts of a turn, each times 100: VM entries, VMREAD, VMWRITE, VMPTRLD, VMCLEAR, INVEPT, INVVPID. count_row() needs
 * the row prepared, and a Nestor for which counters_vmx_present(). */
#define BENCH_COUNTS 8
void count_row(const struct bench_row *row, uint32_t *hundredths);

/* The L2s of a row. One that prepare() makes is cleared by main.c when the row is through. */
#define BENCH_VMS 80
#define BENCH_PAIR 2 /* of most rows that have more than one */
extern struct vm bench_vm[BENCH_VMS];

/* Makes a VM with EPT and enters it once, so that the next entry is a VMRESUME. The code has to exit at once. */
void bench_create(struct vm *vm, void (*code)(void));

/* Lets the processor enter VMX operation, if nobody has decided that yet. */
void bench_unlock_vmx(void);
/* If prepare() sets it, it is called before they are cleared. */
extern void (*bench_finish)(void);

/* Takes the tables of bench_vm[0]'s EPT from L2, as a guest of a real hypervisor does not map them. */
void bench_hide_tables(void);

/* Code of L2: exits again as soon as it is resumed. L1's loops leave L2 no register as it was: such code loads its
 * own. */
void l2_vmcall(void);
/* Round trips of the current VM with nothing done in L1. */
uint64_t batch_round_trips(const struct bench_row *row);
/* Makes bench_vm[0] with l2_vmcall(). */
void prepare_vmcall(const struct bench_row *row);

/* Text of an asm statement: the TSC into %[start], for the end of the prologue. Changes RAX and RDX. */
#define ASM_START "rdtsc\nshl $32, %%rdx\nor %%rdx, %%rax\nmov %%rax, %[start]\n"
/* Left for the code of L2 and of L1's handlers. The registers from R8 on are the loop's own. */
#define L2_CLOBBERS "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "cc", "memory"

/* The current VMCS leads its exits to label 2 of the loop. bench_done() puts back what vm_enter() needs. */
#define ASM_HOST                                                                                                       \
    "mov %[host_rsp], %%eax\nvmwrite %%rsp, %%rax\n"                                                                   \
    "mov %[host_rip], %%eax\nlea 2f(%%rip), %%rdx\nvmwrite %%rdx, %%rax\n"

/* A function that runs a loop of L1 with an entry of L2 in each turn: `before` the VMRESUME and `after` the exit. */
#define BENCH_ROUND_TRIPS(name, prologue, before, after)                                                               \
    static uint64_t name(unsigned turns, const void *argument)                                                         \
    {                                                                                                                  \
        uint64_t start, left = turns;                                                                                  \
        asm volatile(prologue ASM_START "1:\n" before "vmresume\njmp 3f\n"                                             \
                                        "2:\n" after "dec %[left]\njnz 1b\n"                                           \
                                        "3:\n"                                                                         \
                     : [left] "+r"(left), [start] "=&r"(start), [argument] "+r"(argument)                              \
                     : BENCH_FIELDS                                                                                    \
                     : L2_CLOBBERS);                                                                                   \
        return bench_done(start, left);                                                                                \
    }

#define BENCH_FIELDS                                                                                                   \
    [host_rsp] "i"(HOST_RSP), [host_rip] "i"(HOST_RIP), [guest_rip] "i"(GUEST_RIP), [reason] "i"(EXIT_REASON),         \
        [length] "i"(EXIT_INSTRUCTION_LENGTH), [qualification] "i"(EXIT_QUALIFICATION),                                \
        [gpa] "i"(GUEST_PHYSICAL_ADDRESS), [event] "i"(ENTRY_INTERRUPTION_INFO), [host_fs] "i"(HOST_FS_BASE),          \
        [timer] "i"(PREEMPTION_TIMER), [threshold] "i"(TPR_THRESHOLD), [proc] "i"(PROC_CONTROLS),                      \
        [pml_index] "i"(PML_INDEX)

/* The least that a hypervisor does at an exit for an instruction: it reads why, how long and where it is, and skips
 * it. */
#define BENCH_HANDLE                                                                                                   \
    "mov %[reason], %%eax\nvmread %%rax, %%rdx\n"                                                                      \
    "mov %[length], %%eax\nvmread %%rax, %%rbx\n"                                                                      \
    "mov %[guest_rip], %%eax\nvmread %%rax, %%rdx\n"                                                                   \
    "add %%rbx, %%rdx\nvmwrite %%rdx, %%rax\n"

/* The ticks since `start`; requires that no turn is left. */
uint64_t bench_done(uint64_t start, uint64_t left);

/* The same for a loop of L1 alone. `argument` and `other` are operands. */
#define BENCH_LOOP(name, body)                                                                                         \
    static uint64_t name(unsigned turns, uint64_t argument, uint64_t other)                                            \
    {                                                                                                                  \
        uint64_t start, left = turns;                                                                                  \
        asm volatile(ASM_START "1:\n" body "dec %[left]\njnz 1b\n"                                                     \
                     : [left] "+r"(left), [start] "=&r"(start)                                                         \
                     : [argument] "r"(argument), [other] "r"(other)                                                    \
                     : L2_CLOBBERS);                                                                                   \
        return cpu_rdtsc() - start;                                                                                    \
    }

#endif
