/* Two processors: a flush that one asks the other for, an interrupt from one's L2 to the other's, a store to a page
 * that the other's L2 is run with, and a VMCS that moves from one to the other.
 * All is timed on the first processor; bench_vm[1] is run by the second one. */
#include "guests/bench/bench.h"
#include "guests/lib/counters.h"
#include "guests/lib/irq.h"
#include "guests/lib/msr_bits.h"
#include "guests/lib/page.h"
#include "guests/lib/paging.h"
#include "guests/smp/second.h"

#define TURNS_SMP 64
#define WINDOW GIB         /* the address of L2's whose entry of EPT12 changes */
#define PATIENCE 10000000u /* pauses */
#define ICR_ASSERT 0x4000u
#define ICR_HIGH (LAPIC_ICR_LOW + 0x10)
#define SECOND_IN_ICR (1u << 24)
#define X2APIC_ICR 0x830
#define VECTOR_L2 0x51    /* what L1 injects for an IPI of L2's */
#define EVENT 0x80000051u /* the same, as an event of an entry */
#define MSR IA32_LSTAR

static unsigned round;                           /* the turns of this batch */
static uint64_t *entry;                          /* of EPT12 for the window */
static uint64_t page[2];                         /* what it leads to; each begins with its own number */
static volatile uint64_t seen;                   /* by L2 at the window */
static volatile uint64_t asked, answered, taken; /* IPIs: by L2 here, by L2 there, and by its handler */
static struct {
    volatile uint64_t exits, go, runs; /* of RDMSR; that L1 has undone; L2's, up to its first RDMSR */
} store;
static struct {
    uint64_t region;
    volatile uint64_t at; /* the processor whose turn it is */
} moved;

/* L2's registers are kept where it may be anywhere when it exits. */
BENCH_ROUND_TRIPS(loop_flush, ASM_HOST, "",
                  "sti\nnop\ncli\npush %%rax\nmov $1, %%eax\ninvept (%[argument]), %%rax\npop %%rax\n")
BENCH_ROUND_TRIPS(loop_deliver, ASM_HOST, "push %%rax\nmov %[event], %%eax\nvmwrite %[argument], %%rax\npop %%rax\n",
                  "sti\nnop\ncli\nmov $0x80000051, %k[argument]\n")
BENCH_ROUND_TRIPS(loop_ask, ASM_HOST, BENCH_HANDLE "mov $0xfee00300, %%edx\nmov %k[argument], (%%rdx)\n", "")
/* The argument points to `store`. Of two kinds of exits RDMSR is a turn. */
BENCH_ROUND_TRIPS(loop_intercept, ASM_HOST, "",
                  "mov %[reason], %%eax\nvmread %%rax, %%rcx\n" BENCH_HANDLE "cmp $31, %%ecx\njne 1b\n"
                  "mov (%[argument]), %%rax\ninc %%rax\nmov %%rax, (%[argument])\n"
                  "5: pause\ncmp 8(%[argument]), %%rax\njne 5b\n")

/* VMPTRLD, VMLAUNCH and VMCLEAR whenever it is this processor's turn. The rest of the turns is left. */
static unsigned loop_move(unsigned count, uint64_t mine)
{
    uint64_t left = count;

    asm volatile("1: mov %[patience], %%ecx\n"
                 "5: pause\ndec %%ecx\njz 3f\ncmp %[mine], 8(%[moved])\njne 5b\n"
                 "vmptrld (%[moved])\n" ASM_HOST "vmlaunch\njmp 3f\n"
                 "2:\n" BENCH_HANDLE "mov %[reason], %%eax\nvmread %%rax, %%rdx\ncmp $18, %%edx\njne 3f\n"
                 "vmclear (%[moved])\nxorq $1, 8(%[moved])\ndec %[left]\njnz 1b\n3:\n"
                 : [left] "+r"(left)
                 : [mine] "r"(mine), [moved] "r"(&moved), [patience] "i"(PATIENCE), BENCH_FIELDS
                 : L2_CLOBBERS);
    return (unsigned)left;
}

static void l2_watch(void)
{
    asm volatile("sti; nop; vmcall; 1: mov %0, %%ecx; mov (%%rcx), %%rax; mov %%rax, %1; pause; jmp 1b"
                 :
                 : "i"(WINDOW), "m"(seen));
}

static void l2_answer(void)
{
    asm volatile("sti; nop; vmcall; 1: mov %0, %%rax; mov %%rax, %1; pause; jmp 1b" : : "m"(taken), "m"(answered));
}

static void l2_ask(void)
{
    asm volatile("1: incq %0; mov %2, %%ecx; xor %%eax, %%eax; xor %%edx, %%edx; wrmsr\n"
                 "2: pause; mov %0, %%rax; cmp %%rax, %1; jne 2b; jmp 1b"
                 :
                 : "m"(asked), "m"(answered), "i"(X2APIC_ICR));
}

/* A store counts from the next entry on, so L2 exits before each RDMSR. Some entries come before a store is asked for:
 * a bitmap that is stored to before each entry is not traced. L1 leaves RBX set. */
static void l2_rdmsr(void)
{
    asm volatile("vmcall; 1: vmcall; vmcall; vmcall; incq %0\n"
                 "2: vmcall; xor %%ebx, %%ebx; mov %1, %%ecx; rdmsr; test %%ebx, %%ebx; jz 2b; jmp 1b"
                 :
                 : "m"(store.runs), "i"(MSR));
}

static void l2_moved(void)
{
    asm volatile("1: mov %0, %%ecx; rdmsr; vmcall; jmp 1b" : : "i"(MSR));
}

static bool comes(const volatile uint64_t *value, uint64_t wanted)
{
    for (unsigned left = PATIENCE; left && *value != wanted; left--)
        cpu_pause();
    return *value == wanted;
}

static void kick(void)
{
    irq_lapic_write(LAPIC_ICR_LOW, ICR_ASSERT | IRQ_VECTOR_SELF);
}

/* The firmware may have left both to us, on each processor. */
static void enter(void)
{
    irq_init();
    bench_unlock_vmx();
    second_vmx_on();
}

static void leave(void)
{
    vm_clear(&bench_vm[1]);
    second_vmx_off();
}

static void finish_second(void)
{
    second_do(leave);
    REQUIRE(second_finishes());
}

static void hand_over(void (*code)(void), uint32_t pin)
{
    vm_create(&bench_vm[1], code, VM_EPT);
    vm_control_set(PIN_CONTROLS, pin);
    vm_clear(&bench_vm[1]);
    second_do(enter);
    REQUIRE(second_finishes());
    bench_finish = finish_second;
    irq_lapic_write(ICR_HIGH, SECOND_IN_ICR);
}

/* L2's code from its beginning, behind the VMCALL there. */
static void restart(void (*code)(void))
{
    vm_set_code(&bench_vm[1], code);
    EXPECT_EXIT(&bench_vm[1], EXIT_VMCALL);
    vm_skip(&bench_vm[1]);
}

static void prepare_flush(const struct bench_row *row)
{
    (void)row;
    hand_over(l2_watch, (uint32_t)PIN_EXTERNAL_INTERRUPT);
    for (unsigned i = 0; i < ARRAY_SIZE(page); i++) {
        page[i] = (uint64_t)page_alloc();
        *(uint64_t *)page[i] = i;
    }
    entry = paging_entry(bench_vm[1].ept, WINDOW, PAGE_SIZE);
    *entry = page[0] | EPT_RWX | EPT_WB;
}

static void flush_there(void)
{
    const struct inv_descriptor of_vm = {.low = ept_pointer(bench_vm[1].ept, false)};

    restart(l2_watch);
    (void)loop_flush(round + 1, &of_vm);
    CHECK_EQ(vmx_get(EXIT_REASON), EXIT_EXTERNAL_INTERRUPT);
}

static uint64_t batch_flush(const struct bench_row *row)
{
    uint64_t now = (*entry & PAGING_ADDRESS) == page[1], start;

    round = row->turns;
    seen = UINT64_MAX;
    second_do(flush_there);
    REQUIRE(comes(&seen, now));
    start = cpu_rdtsc();
    for (unsigned i = 0; i < row->turns; i++) {
        now = !now;
        *(volatile uint64_t *)entry = page[now] | EPT_RWX | EPT_WB;
        kick();
        REQUIRE(comes(&seen, now));
    }
    start = cpu_rdtsc() - start;
    kick();
    REQUIRE(second_finishes());
    return start;
}

static void (*hook)(uint64_t vector);

static void take(uint64_t vector)
{
    if (vector == VECTOR_L2)
        taken++;
    else
        hook(vector);
}

static void finish_ipi(void)
{
    trap_hook = hook;
    finish_second();
}

static void prepare_ipi(const struct bench_row *row)
{
    (void)row;
    asked = answered = taken = 0;
    hand_over(l2_answer, (uint32_t)PIN_EXTERNAL_INTERRUPT);
    hook = trap_hook;
    trap_hook = take;
    bench_finish = finish_ipi;
    vm_create(&bench_vm[0], l2_ask, VM_EPT);
    msr_bit_set(bench_vm[0].msr_bitmap, X2APIC_ICR, MSR_WRITE);
    EXPECT_EXIT(&bench_vm[0], EXIT_WRMSR);
}

static void answer_there(void)
{
    restart(l2_answer);
    (void)loop_deliver(round + 1, NULL);
    CHECK_EQ(vmx_get(EXIT_REASON), EXIT_EXTERNAL_INTERRUPT);
}

/* L2 here waits for ever when no answer comes: then the run ends by its time. */
static uint64_t batch_ipi(const struct bench_row *row)
{
    uint64_t before = taken, ticks;

    round = row->turns;
    answered = UINT64_MAX;
    second_do(answer_there);
    REQUIRE(comes(&answered, before));
    ticks = loop_ask(row->turns, (void *)(uintptr_t)(ICR_ASSERT | IRQ_VECTOR_SELF));
    kick();
    REQUIRE(second_finishes());
    CHECK_EQ(taken - before, row->turns);
    CHECK_EQ(asked, taken + 1);
    return ticks;
}

static void prepare_store(const struct bench_row *row)
{
    (void)row;
    hand_over(l2_rdmsr, 0);
}

static void intercept_there(void)
{
    restart(l2_rdmsr);
    (void)loop_intercept(round, &store);
}

/* Only from the store to the exit. */
static uint64_t batch_store(const struct bench_row *row)
{
    uint64_t ticks = 0;

    round = row->turns;
    store.exits = store.go = store.runs = 0;
    second_do(intercept_there);
    for (unsigned i = 1; i <= row->turns; i++) {
        uint64_t start;
        REQUIRE(comes(&store.runs, i));
        start = cpu_rdtsc();
        msr_bit_set(bench_vm[1].msr_bitmap, MSR, MSR_READ);
        REQUIRE(comes(&store.exits, i));
        ticks += cpu_rdtsc() - start;
        msr_bit_clear(bench_vm[1].msr_bitmap, MSR, MSR_READ);
        store.go = i;
    }
    REQUIRE(second_finishes());
    return ticks;
}

static void prepare_move(const struct bench_row *row)
{
    (void)row;
    hand_over(l2_moved, 0);
    moved.region = bench_vm[1].vmcs;
    moved.at = 0;
}

static void move_there(void)
{
    REQUIRE_EQ(loop_move(round / 2, 1), 0);
}

/* Half of the turns here, the other half there. Where Nestor counts, it has made no merge since the first batch. */
static uint64_t batch_move(const struct bench_row *row)
{
    uint32_t merges = counters_present() ? counter_read(COUNTER_BITMAP_MERGES) : 0;
    uint64_t start;

    round = row->turns;
    second_do(move_there);
    start = cpu_rdtsc();
    REQUIRE_EQ(loop_move(round / 2, 0), 0);
    REQUIRE(comes(&moved.at, 0));
    start = cpu_rdtsc() - start;
    REQUIRE(second_finishes());
    if (counters_present())
        CHECK(counter_read(COUNTER_BITMAP_MERGES) - merges <= 2);
    return start;
}

const struct bench_row smp_rows[] = {
    {"smp-invept", TURNS_SMP, prepare_flush, batch_flush, 0},
    {"smp-ipi", TURNS_SMP, prepare_ipi, batch_ipi, 0},
    {"smp-bitmap-store", TURNS_SMP, prepare_store, batch_store, 0},
    {"smp-migrate", TURNS_SMP, prepare_move, batch_move, 0},
    {0},
};
