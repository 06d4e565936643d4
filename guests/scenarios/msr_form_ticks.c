/* The cost to L2 of an access that nobody intercepts, in each form: the ticks of a loop, which tests/vm/msr-forms.t
 * compares with those of the bare CPU. */
#include "guests/lib/cpu.h"
#include "guests/scenarios/scenario.h"

#define ACCESSES 256
#define BATCHES 4 /* the first one brings L2's pages in */
#define CPUID7_1_EAX_MSRLIST BIT(27)

/* The MSR is LSTAR, C0000082H; the register RBX. */
#define WRMSRNS ".byte 0x0f, 0x01, 0xc6"
#define RDMSR_IMMEDIATE ".byte 0xc4, 0xe7, 0x7b, 0xf6, 0xc3; .long 0xc0000082"
#define WRMSRNS_IMMEDIATE ".byte 0xc4, 0xe7, 0x7a, 0xf6, 0xc3; .long 0xc0000082"
#define RDMSRLIST ".byte 0xf2, 0x0f, 0x01, 0xc6"
#define WRMSRLIST ".byte 0xf3, 0x0f, 0x01, 0xc6"

static volatile uint64_t l2_ticks;
static uint64_t list_msr[64] __attribute__((aligned(64))), list_value[64] __attribute__((aligned(64)));

#define L2_LOOP(name, instruction)                                                                                     \
    static void name(void)                                                                                             \
    {                                                                                                                  \
        uint64_t left = ACCESSES, start, value = cpu_rdmsr(IA32_LSTAR);                                                \
        asm volatile("mov %0, %%rbx" : : "r"(value) : "rbx");                                                          \
        start = cpu_rdtsc();                                                                                           \
        asm volatile("1: mov %[low], %%eax; mov %[low], %%ebx; mov %[msr], %%ecx; xor %%edx, %%edx; " instruction      \
                     "; dec %[left]; jnz 1b"                                                                           \
                     : [left] "+r"(left)                                                                               \
                     : [low] "r"((uint32_t)value), [msr] "i"(IA32_LSTAR), "S"(list_msr), "D"(list_value)               \
                     : "rax", "rbx", "rcx", "rdx", "memory");                                                          \
        l2_ticks = cpu_rdtsc() - start;                                                                                \
    }
L2_LOOP(l2_rdmsr, "rdmsr")
L2_LOOP(l2_wrmsr, "wrmsr")
L2_LOOP(l2_wrmsrns, WRMSRNS)
L2_LOOP(l2_rdmsr_immediate, RDMSR_IMMEDIATE)
L2_LOOP(l2_wrmsrns_immediate, WRMSRNS_IMMEDIATE)
L2_LOOP(l2_rdmsrlist, "mov $255, %%ecx; " RDMSRLIST)
L2_LOOP(l2_wrmsrlist, "mov $255, %%ecx; " WRMSRLIST)

static void measure(struct vm *vm, const char *name, void (*code)(void))
{
    uint64_t best = UINT64_MAX;

    for (unsigned i = 0; i < BATCHES; i++) {
        vm_set_code(vm, code);
        EXPECT_DONE(vm); /* so no access has exited to L1 */
        best = MIN(best, l2_ticks);
    }
    print("# ticks %s %lu\n", name, best);
}

static void ticks(void)
{
    static const struct {
        const char *name;
        void (*code)(void);
    } forms[] = {{"rdmsr", l2_rdmsr},
                 {"wrmsr", l2_wrmsr},
                 {"wrmsrns", l2_wrmsrns},
                 {"rdmsr-immediate", l2_rdmsr_immediate},
                 {"wrmsrns-immediate", l2_wrmsrns_immediate},
                 {"rdmsrlist", l2_rdmsrlist},
                 {"wrmsrlist", l2_wrmsrlist}};
    struct vm vm;

    for (unsigned i = 0; i < ARRAY_SIZE(list_msr); i++) {
        list_msr[i] = IA32_LSTAR;
        list_value[i] = cpu_rdmsr(IA32_LSTAR);
    }
    vm_start(&vm, l2_rdmsr, 0);
    vm_control_set(PROC_CONTROLS, (uint32_t)PROC_TERTIARY);
    vmx_set(PROC3_CONTROLS, PROC3_MSR_LIST);
    for (unsigned i = 0; i < ARRAY_SIZE(forms); i++)
        measure(&vm, forms[i].name, forms[i].code);
}

/* Whoever has lists has the others. An emulated CPU has the immediate forms without their bit in CPUID. */
static const char *without_forms(void)
{
    bool lists = cpu_cpuid(0, 0).eax >= 7 && cpu_cpuid(7, 0).eax >= 1 && cpu_cpuid(7, 1).eax & CPUID7_1_EAX_MSRLIST;

    if (!lists)
        return "no RDMSRLIST";
    return FAULT_OF(asm volatile(RDMSR_IMMEDIATE : : : "memory", "rbx")) == NO_FAULT ? NULL : "no immediate RDMSR";
}

const struct scenario msr_form_tick_scenarios[] = {
    {"msrform-ticks", ticks, without_forms},
    {0},
};
