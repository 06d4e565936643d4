/* More than Nestor keeps: VMCSs of one processor, and tables of one EPT (docs/LIMITS.md). */
#include "guests/bench/bench.h"
#include "guests/lib/page.h"
#include "guests/lib/paging.h"

#define ROUNDS 5 /* of all VMCSs: the first is another one where L1 has just written HOST_RIP */
#define SWITCHES (ROUNDS * BENCH_VMS)

/* Tables of 512 pages each, of which L2 touches one in each. Nothing else is at their addresses. */
#define TOUCHES 1100
#define STRIDE (LARGE_2M + PAGE_SIZE)
#define WINDOW GIB
#define TABLES (TOUCHES * STRIDE / LARGE_2M + 1)

/* The argument points to the regions, of which the last comes first. */
#define NEXT_VM "vmptrld -8(%[argument], %[left], 8)\n"
BENCH_LOOP(loop_switch, NEXT_VM)
BENCH_ROUND_TRIPS(loop_switch_enter,
                  "mov %[left], %%rcx\n4: vmptrld -8(%[argument], %%rcx, 8)\n" ASM_HOST "dec %%rcx\njnz 4b\n", NEXT_VM,
                  "")

/* All have one EPT, as the virtual processors of one guest. */
static void prepare_switch(const struct bench_row *row)
{
    (void)row;
    for (unsigned i = 0; i < BENCH_VMS; i++) {
        vm_create(&bench_vm[i], l2_vmcall, i ? VM_NO_EPT : VM_EPT);
        vmx_set(EPT_POINTER, ept_pointer(bench_vm[0].ept, false));
        vm_secondary_set((uint32_t)PROC2_EPT);
        EXPECT_EXIT(&bench_vm[i], EXIT_VMCALL);
    }
}

static void list_regions(uint64_t *regions)
{
    for (unsigned i = 0; i < SWITCHES; i++)
        regions[i] = bench_vm[i % BENCH_VMS].vmcs;
}

/* The last one was regions[0]; this also tells vm_load() of it. */
static void check_last(void)
{
    CHECK_EQ(vmx_current(), bench_vm[0].vmcs);
    REQUIRE_EQ(vmx_vmptrld(&bench_vm[0].vmcs), 0);
}

static uint64_t batch_switch(const struct bench_row *row)
{
    uint64_t regions[SWITCHES], ticks;

    list_regions(regions);
    ticks = loop_switch(row->turns, (uint64_t)regions, 0);
    check_last();
    return ticks;
}

static uint64_t batch_switch_enter(const struct bench_row *row)
{
    uint64_t regions[SWITCHES], ticks;

    list_regions(regions);
    ticks = loop_switch_enter(row->turns, regions);
    CHECK_EQ(vmx_get(EXIT_REASON), EXIT_VMCALL);
    check_last();
    return ticks;
}

static uint64_t target; /* 2 MiB of memory behind all tables */
static uint64_t touches;
static volatile uint64_t l2_touched;

static void l2_stride(void)
{
    uint64_t next = WINDOW, left = touches;

    asm volatile("1: mov (%0), %%rax; add %2, %0; dec %1; jnz 1b"
                 : "+r"(next), "+r"(left)
                 : "i"(STRIDE)
                 : "rax", "memory");
    l2_touched = (next - WINDOW) / STRIDE;
}

static void open_tables(void)
{
    for (unsigned t = 0; t < TABLES; t++) {
        uint64_t *table = page_alloc();
        for (unsigned i = 0; i < LARGE_2M / PAGE_SIZE; i++)
            table[i] = (target + i * PAGE_SIZE) | EPT_RWX | EPT_WB;
        *paging_entry(bench_vm[0].ept, WINDOW + t * LARGE_2M, LARGE_2M) = (uint64_t)table | EPT_RWX;
    }
    bench_hide_tables();
}

/* INVEPT, and an L2 that touches its pages; all of it. */
static uint64_t invalidate_and_touch(unsigned count)
{
    const struct inv_descriptor of_vm = {.low = ept_pointer(bench_vm[0].ept, false)};
    uint64_t start, ticks;

    vm_set_code(&bench_vm[0], l2_stride);
    touches = count;
    l2_touched = 0;
    start = cpu_rdtsc();
    REQUIRE_EQ(vmx_invept(INVEPT_SINGLE, &of_vm), 0);
    EXPECT_DONE(&bench_vm[0]);
    ticks = cpu_rdtsc() - start;
    CHECK_EQ(l2_touched, count);
    return ticks;
}

static void prepare_tables(const struct bench_row *row)
{
    target = (uint64_t)page_alloc_run(LARGE_2M / PAGE_SIZE, LARGE_2M);
    vm_create(&bench_vm[0], l2_stride, VM_EPT);
    open_tables();
    (void)invalidate_and_touch(row->turns);
}

/* Tables that are not there yet. */
static uint64_t batch_first(const struct bench_row *row)
{
    open_tables();
    return invalidate_and_touch(row->turns);
}

/* Nobody has stored to the tables. */
static uint64_t batch_again(const struct bench_row *row)
{
    return invalidate_and_touch(row->turns);
}

const struct bench_row many_rows[] = {
    {"vmptrld-many", SWITCHES, prepare_switch, batch_switch, 0},
    {"vmptrld-many-vmcall", SWITCHES, prepare_switch, batch_switch_enter, 0},
    {"touch-tables", TOUCHES, prepare_tables, batch_first, 0},
    {"touch-tables-again", TOUCHES, prepare_tables, batch_again, 0},
    {0},
};
