/* EPT: invalidations by L1, violations that L1 handles, first touches by L2 of what L1 has mapped. */
#include "guests/bench/bench.h"
#include "guests/lib/page.h"
#include "guests/lib/paging.h"

/* Guest-physical addresses of L2 that have no memory of their own; each batch takes a new window of them. */
#define WINDOWS_START GIB
#define WINDOWS_END (3 * GIB)

/* Powers of two. */
#define TOUCHES 128
#define TOUCHES_LARGE 32
#define RANDOM_SPAN 4 /* times as many pages in the window as touches */
/* APART: L2 does not map the tables of its EPT, as a guest of a real hypervisor does not. */
enum { SEQUENTIAL = BIT(0), LARGE = BIT(1), AGAIN = BIT(2), APART = BIT(3) };

static uint64_t next_window;
static uint64_t *window_table;
static uint64_t target; /* the memory behind all windows */
static uint64_t touched[TOUCHES], touches;
static volatile uint64_t l2_ticks;

BENCH_LOOP(loop_invept, "invept (%[argument]), %[other]\n")
BENCH_ROUND_TRIPS(loop_invept_single, ASM_HOST, "mov $1, %%eax\ninvept (%[argument]), %%rax\n", "")
BENCH_ROUND_TRIPS(loop_invept_all, ASM_HOST, "mov $2, %%eax\ninvept (%[argument]), %%rax\n", "")
BENCH_LOOP(loop_invvpid, "invvpid (%[argument]), %[other]\n")
BENCH_ROUND_TRIPS(loop_invvpid_vmcall, ASM_HOST, "mov $1, %%eax\ninvvpid (%[argument]), %%rax\n", "")
/* Maps where the violation was. */
struct violation {
    uint64_t entry; /* what each page gets */
    uint64_t *table;
    uint64_t address; /* of the violation that comes first */
};
BENCH_ROUND_TRIPS(loop_violation, ASM_HOST "mov 16(%[argument]), %%rdi\n", "",
                  "mov %[reason], %%eax\nvmread %%rax, %%rdx\n"
                  "mov %[qualification], %%eax\nvmread %%rax, %%rdx\n"
                  "mov %[gpa], %%eax\nvmread %%rax, %%rdx\n"
                  "shr $12, %%edx\nand $0x1ff, %%edx\n"
                  "mov (%[argument]), %%rax\nmov 8(%[argument]), %%rbx\nmov %%rax, (%%rbx, %%rdx, 8)\n")

static struct inv_descriptor descriptor(void)
{
    return (struct inv_descriptor){.low = ept_pointer(bench_vm[0].ept, false)};
}

static uint64_t batch_invept(const struct bench_row *row)
{
    const struct inv_descriptor of_vm = descriptor();

    return loop_invept(row->turns, (uint64_t)&of_vm, row->argument);
}

static uint64_t batch_invept_vmcall(const struct bench_row *row)
{
    const struct inv_descriptor of_vm = descriptor();

    return (row->argument == INVEPT_SINGLE ? loop_invept_single : loop_invept_all)(row->turns, &of_vm);
}

static void prepare_vpid(const struct bench_row *row)
{
    REQUIRE(vm_control_offered(PROC2_CONTROLS, (uint32_t)PROC2_VPID));
    prepare_vmcall(row);
    vm_secondary_set((uint32_t)PROC2_VPID);
    vmx_set(VPID, 1);
    EXPECT_EXIT(&bench_vm[0], EXIT_VMCALL);
}

static uint64_t batch_invvpid(const struct bench_row *row)
{
    const struct inv_descriptor of_vm = {.low = 1};

    return loop_invvpid(row->turns, (uint64_t)&of_vm, INVVPID_SINGLE);
}

static uint64_t batch_invvpid_vmcall(const struct bench_row *row)
{
    const struct inv_descriptor of_vm = {.low = 1};

    return loop_invvpid_vmcall(row->turns, &of_vm);
}

/* Touches one page after the other, with an exit at each. */
static void l2_walk(void)
{
    asm volatile("1: mov (%0), %%rax; add %1, %0; jmp 1b" : : "D"(WINDOWS_START), "i"(PAGE_SIZE) : "rax");
}

/* One table of 512 pages is enough for the batches. */
static void prepare_violation(const struct bench_row *row)
{
    vm_create(&bench_vm[0], l2_walk, VM_EPT);
    next_window = WINDOWS_START;
    window_table = paging_entry(bench_vm[0].ept, WINDOWS_START, PAGE_SIZE);
    for (unsigned i = 0; i < PAGE_SIZE / sizeof(*window_table); i++)
        window_table[i] = 0;
    REQUIRE(row->turns * BATCHES <= PAGE_SIZE / sizeof(*window_table));
    target = (uint64_t)page_alloc();
    EXPECT_EXIT(&bench_vm[0], EXIT_EPT_VIOLATION);
    CHECK_EQ(bench_vm[0].exit.gpa, WINDOWS_START);
}

/* The first entry of the batch runs into the violation that is already there, the last leaves one. */
static uint64_t batch_violation(const struct bench_row *row)
{
    const struct violation first = {target | EPT_RWX | EPT_WB, window_table, next_window};

    next_window += row->turns * PAGE_SIZE;
    return loop_violation(row->turns, &first);
}

static void l2_touch(void)
{
    uint64_t *next = touched, start, left = touches;

    asm volatile("mov (%1), %%rax" : : "r"(&left), "r"(next) : "rax", "memory");
    start = cpu_rdtsc();
    asm volatile("1: mov (%0), %%rax; mov (%%rax), %%rax; add $8, %0; dec %1; jnz 1b"
                 : "+r"(next), "+r"(left)
                 :
                 : "rax", "memory");
    l2_ticks = cpu_rdtsc() - start;
}

static void prepare_touch(const struct bench_row *row)
{
    (void)row;
    next_window = WINDOWS_START;
    target = (uint64_t)page_alloc_run(LARGE_2M / PAGE_SIZE, LARGE_2M);
    vm_create(&bench_vm[0], l2_touch, VM_EPT);
}

/* Takes each table of the tree that hangs on `table` from L2. Splitting a leaf for that may make another table, which
 * the walk comes to when it is behind, and the next call's when not. */
static void hide_tables(uint64_t *table, unsigned level)
{
    *paging_entry(bench_vm[0].ept, (uint64_t)table, PAGE_SIZE) = 0;
    for (unsigned i = 0; level > 1 && i < PAGE_SIZE / sizeof(*table); i++)
        if (table[i] && !(table[i] & PAGING_LARGE))
            hide_tables((uint64_t *)(table[i] & PAGING_ADDRESS), level - 1);
}

void bench_hide_tables(void)
{
    for (unsigned i = 0; i < 2; i++)
        hide_tables(bench_vm[0].ept, 4);
}

/* Maps the next window by leaves of the row's size, and writes down which pages to touch. */
static void open_window(const struct bench_row *row)
{
    uint64_t size = row->argument & LARGE ? LARGE_2M : PAGE_SIZE;
    uint64_t pages = (row->argument & SEQUENTIAL ? 1 : RANDOM_SPAN) * row->turns;
    uint32_t random = 1;

    for (uint64_t i = 0; i < pages; i++) {
        uint64_t *entry = paging_entry(bench_vm[0].ept, next_window + i * size, size);
        *entry = (size == LARGE_2M ? target | PAGING_LARGE : target + i * size % LARGE_2M) | EPT_RWX | EPT_WB;
    }
    if (row->argument & APART)
        bench_hide_tables();
    touches = row->turns;
    for (uint64_t i = 0; i < touches; i++) {
        /* A generator of period 2^k over the low bits: it repeats no page of the window. */
        random = random * 5 + 3;
        touched[i] = next_window + (row->argument & SEQUENTIAL ? i : random % pages) * size;
    }
    next_window += ALIGN_UP(pages * size, LARGE_2M);
    REQUIRE(next_window <= WINDOWS_END);
}

static uint64_t batch_touch(const struct bench_row *row)
{
    const struct inv_descriptor of_vm = descriptor();

    open_window(row);
    REQUIRE_EQ(vmx_invept(INVEPT_SINGLE, &of_vm), 0);
    vm_set_code(&bench_vm[0], l2_touch);
    EXPECT_DONE(&bench_vm[0]);
    if (row->argument & AGAIN) {
        REQUIRE_EQ(vmx_invept(INVEPT_SINGLE, &of_vm), 0);
        vm_set_code(&bench_vm[0], l2_touch);
        EXPECT_DONE(&bench_vm[0]);
    }
    return l2_ticks;
}

const struct bench_row memory_rows[] = {
    {"invept-single", TURNS, prepare_vmcall, batch_invept, INVEPT_SINGLE},
    {"invept-all", TURNS, prepare_vmcall, batch_invept, INVEPT_ALL},
    {"invept-single-vmcall", TURNS, prepare_vmcall, batch_invept_vmcall, INVEPT_SINGLE},
    {"invept-all-vmcall", TURNS, prepare_vmcall, batch_invept_vmcall, INVEPT_ALL},
    {"invvpid-single", TURNS, prepare_vpid, batch_invvpid, 0},
    {"invvpid-single-vmcall", TURNS, prepare_vpid, batch_invvpid_vmcall, 0},
    {"ept-violation", TURNS_FEW, prepare_violation, batch_violation, 0},
    {"touch-4k-sequential", TOUCHES, prepare_touch, batch_touch, SEQUENTIAL},
    {"touch-4k-random", TOUCHES, prepare_touch, batch_touch, 0},
    {"touch-2m-sequential", TOUCHES_LARGE, prepare_touch, batch_touch, LARGE | SEQUENTIAL},
    {"touch-2m-random", TOUCHES_LARGE, prepare_touch, batch_touch, LARGE},
    {"touch-4k-sequential-apart", TOUCHES, prepare_touch, batch_touch, SEQUENTIAL | APART},
    {"touch-4k-random-apart", TOUCHES, prepare_touch, batch_touch, APART},
    {"touch-2m-sequential-apart", TOUCHES_LARGE, prepare_touch, batch_touch, LARGE | SEQUENTIAL | APART},
    {"touch-4k-after-invept", TOUCHES, prepare_touch, batch_touch, SEQUENTIAL | AGAIN},
    {0},
};
