/* L1's EPT with accessed and dirty flags: first reads and writes of L2, and the log of the pages that it wrote to.
 * SDM 3C 29.3.5 "Accessed and Dirty Flags for EPT", 29.3.6 "Page-Modification Logging" */
#include "guests/bench/bench.h"
#include "guests/lib/page.h"
#include "guests/lib/paging.h"

/* Guest-physical addresses of L2; each batch of touches takes a table of them, of which it uses the first pages. */
#define WINDOWS_START GIB
#define WINDOWS_END (2 * GIB)
#define TOUCHES 128
#define LOG_FIRST 511u
#define LOG_FULL 0xffffu

enum { WRITE = BIT(0), AFTER_READ = BIT(1), LOG = BIT(2) };

static uint64_t window, pages;
static uint64_t target;  /* the memory behind all windows */
static uint64_t *leaves; /* the entries of the window */
static const uint64_t *log;
static volatile uint64_t l2_ticks;

/* The argument points to the address that L2 comes to next. */
BENCH_ROUND_TRIPS(loop_full, ASM_HOST "mov (%[argument]), %%rdi\n", "",
                  "xor %%edx, %%edx\nmov %[pml_index], %%eax\nvmwrite %%rdx, %%rax\n")

#define L2_TOUCH(name, instruction)                                                                                    \
    static void name(void)                                                                                             \
    {                                                                                                                  \
        uint64_t next = window, left = pages, start = cpu_rdtsc();                                                     \
        asm volatile("1: " instruction "; add %2, %0; dec %1; jnz 1b"                                                  \
                     : "+r"(next), "+r"(left)                                                                          \
                     : "i"(PAGE_SIZE)                                                                                  \
                     : "rax", "memory");                                                                               \
        l2_ticks = cpu_rdtsc() - start;                                                                                \
    }
L2_TOUCH(l2_read, "mov (%0), %%rax")
L2_TOUCH(l2_write, "mov %%rax, (%0)")

/* Writes to one page after the other without end. */
static void l2_write_on(void)
{
    asm volatile("1: mov %%rax, (%0); add %1, %0; jmp 1b" : : "D"(WINDOWS_START), "i"(PAGE_SIZE) : "rax");
}

/* All that L2 has besides the windows is dirty already: only they are logged. */
static void mark_dirty(uint64_t *ept)
{
    for (uint64_t at = 0; at < 4 * GIB; at += LARGE_2M)
        *paging_entry(ept, at, LARGE_2M) |= EPT_ACCESSED | EPT_DIRTY;
}

static void create(void (*code)(void), bool logged)
{
    vm_create(&bench_vm[0], code, VM_EPT);
    REQUIRE(vmx_ept_vpid_cap() & EPT_CAP_AD);
    vmx_set(EPT_POINTER, ept_pointer(bench_vm[0].ept, true));
    mark_dirty(bench_vm[0].ept);
    target = (uint64_t)page_alloc_run(LARGE_2M / PAGE_SIZE, LARGE_2M);
    window = WINDOWS_START - LARGE_2M;
    if (!logged)
        return;
    REQUIRE(vm_control_offered(PROC2_CONTROLS, (uint32_t)PROC2_PML));
    log = page_alloc();
    vm_secondary_set((uint32_t)PROC2_PML);
    vmx_set(PML_ADDRESS, (uint64_t)log);
    vmx_set(PML_INDEX, LOG_FIRST);
}

static void prepare(const struct bench_row *row)
{
    create(l2_read, row->argument & LOG);
}

static void open_window(unsigned count)
{
    const struct inv_descriptor of_vm = {.low = vmx_get(EPT_POINTER)};

    window += LARGE_2M;
    pages = count;
    REQUIRE(window < WINDOWS_END);
    leaves = paging_entry(bench_vm[0].ept, window, PAGE_SIZE);
    for (unsigned i = 0; i < LARGE_2M / PAGE_SIZE; i++)
        leaves[i] = i < count ? (target + i * PAGE_SIZE) | EPT_RWX | EPT_WB : 0;
    bench_hide_tables();
    REQUIRE_EQ(vmx_invept(INVEPT_SINGLE, &of_vm), 0);
}

static unsigned flagged(uint64_t flag)
{
    unsigned count = 0;

    for (unsigned i = 0; i < LARGE_2M / PAGE_SIZE; i++)
        count += (leaves[i] & flag) != 0;
    return count;
}

static void run(void (*code)(void))
{
    vm_set_code(&bench_vm[0], code);
    EXPECT_DONE(&bench_vm[0]);
}

/* The log has the pages of the window, from its end downwards. */
static void check_log(unsigned count)
{
    CHECK_EQ(vmx_get(PML_INDEX), LOG_FIRST - count);
    CHECK_EQ(log[LOG_FIRST], window);
    CHECK_EQ(log[LOG_FIRST - count + 1], window + (count - 1) * PAGE_SIZE);
}

static uint64_t batch(const struct bench_row *row)
{
    open_window(row->turns);
    if (row->argument & AFTER_READ) {
        run(l2_read);
        CHECK_EQ(flagged(EPT_DIRTY), 0);
    }
    if (row->argument & LOG)
        vmx_set(PML_INDEX, LOG_FIRST);
    run(row->argument & WRITE ? l2_write : l2_read);
    CHECK_EQ(flagged(EPT_ACCESSED), row->turns);
    CHECK_EQ(flagged(EPT_DIRTY), row->argument & WRITE ? row->turns : 0);
    if (row->argument & LOG)
        check_log(row->turns);
    return l2_ticks;
}

/* One table of pages, all read before, is enough for the batches. The first write already meets a full log. */
static void prepare_full(const struct bench_row *row)
{
    create(l2_read, true);
    open_window(LARGE_2M / PAGE_SIZE);
    run(l2_read);
    REQUIRE(row->turns * BATCHES < pages);
    vm_set_code(&bench_vm[0], l2_write_on);
    vmx_set(PML_INDEX, LOG_FULL);
    EXPECT_EXIT(&bench_vm[0], EXIT_PML_FULL);
    vmx_set(PML_INDEX, 0);
}

/* Room for one page each time: a turn is one page in the log, and the exit of the next one. */
static uint64_t batch_full(const struct bench_row *row)
{
    unsigned before = flagged(EPT_DIRTY);
    uint64_t next = window + before * PAGE_SIZE;
    uint64_t ticks = loop_full(row->turns, &next);

    CHECK_EQ(vmx_get(EXIT_REASON), EXIT_PML_FULL);
    CHECK_EQ(flagged(EPT_DIRTY) - before, row->turns);
    CHECK_EQ(log[0], next + (row->turns - 1) * PAGE_SIZE);
    return ticks;
}

const struct bench_row flag_rows[] = {
    {"touch-ad-read", TOUCHES, prepare, batch, 0},
    {"touch-ad-write", TOUCHES, prepare, batch, WRITE},
    {"touch-ad-write-after-read", TOUCHES, prepare, batch, WRITE | AFTER_READ},
    {"pml-logged", TOUCHES, prepare, batch, WRITE | AFTER_READ | LOG},
    {"pml-full", TURNS_FEW, prepare_full, batch_full, 0},
    {0},
};
