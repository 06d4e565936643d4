/* The second processor's L2 stores to the bitmap that the first one's L2 runs with, through EPT12, and its EPT02 is so
 * large that taking the right to store from it lasts. Meanwhile it exits and enters, and stores again: what it caches
 * then it must have lost when the first one's L2 runs. */
#include "guests/lib/check.h"
#include "guests/lib/cpu.h"
#include "guests/lib/msr_bits.h"
#include "guests/lib/page.h"
#include "guests/lib/paging.h"
#include "guests/lib/vm.h"
#include "guests/smp/second.h"
#include "guests/smp/smp.h"

#define MSR IA32_LSTAR
#define OTHER_MSR 0x1fff /* L2 does not access it: its bit is for stores that change nothing */
#define WINDOW GIB
#define ALIAS ((uint8_t *)(2 * GIB)) /* where the writer has the page: it is searched for last */
#define TABLES 64u                   /* of EPT02, each of which is searched for the page */
#define SPREAD 1009                  /* pauses, fewer than the search takes */

static struct vm reader, writer;
static volatile uint64_t begin, ready, go, signalled; /* rounds; begin 0: the end */
static uint64_t lost;

static void pause_for(uint64_t pauses)
{
    for (; pauses; pauses--)
        cpu_pause();
}

static void reader_code(void)
{
    for (;;) {
        (void)cpu_rdmsr(MSR);
        asm volatile("vmcall" : : "a"(0) : "memory");
    }
}

/* Each round: has the right to store; exits and stores while it is being taken; stores the bit that counts, with no
 * exit between but those that Nestor makes. */
static void writer_code(void)
{
    uint64_t done = UINT64_MAX; /* as `begin` is before the first round */

    for (unsigned i = 0; i < TABLES; i++)
        (void)*(volatile uint64_t *)(WINDOW + i * LARGE_2M);
    for (uint64_t round = begin; round; round = begin) {
        if (round == done) {
            cpu_pause();
            continue;
        }
        msr_bit_set(ALIAS, OTHER_MSR, MSR_WRITE);
        ready = round;
        pause_for(SPREAD + round * 7919 % SPREAD);
        asm volatile("vmcall" : : "a"(0) : "memory");
        msr_bit_set(ALIAS, OTHER_MSR, MSR_WRITE);
        while (go != round)
            cpu_pause();
        msr_bit_set(ALIAS, MSR, MSR_READ);
        signalled = done = round;
        asm volatile("vmcall" : : "a"(0) : "memory"); /* what was cached in this round says nothing in the next */
    }
    asm volatile("vmcall" : : "a"((uint64_t)L2_DONE) : "memory");
}

static void run_writer(void)
{
    second_vmx_on();
    do {
        if (vm_run(&writer) == EXIT_VMCALL)
            vm_skip(&writer);
    } while (writer.exit.reason == EXIT_VMCALL && writer.regs[RAX] != L2_DONE);
    vm_clear(&writer);
    second_vmx_off();
}

static bool rdmsr_exits(void)
{
    bool exited = vm_run(&reader) == EXIT_RDMSR;

    if (exited) {
        vm_skip(&reader);
        (void)vm_run(&reader);
    }
    REQUIRE_EQ(reader.exit.reason, EXIT_VMCALL);
    vm_skip(&reader);
    return exited;
}

static void wait_for(const volatile uint64_t *value, uint64_t round)
{
    while (*value != round)
        cpu_pause();
}

static void prepare(bool own_bitmap)
{
    uint8_t *page;

    vm_start(&reader, reader_code, 0);
    vm_create(&writer, writer_code, VM_EPT);
    page = page_alloc();
    for (unsigned i = 0; i < TABLES; i++)
        *paging_entry(writer.ept, WINDOW + i * LARGE_2M, PAGE_SIZE) = (uint64_t)page | EPT_RWX | EPT_WB;
    *paging_entry(writer.ept, (uint64_t)ALIAS, PAGE_SIZE) = (uint64_t)reader.msr_bitmap | EPT_RWX | EPT_WB;
    if (own_bitmap)
        vmx_set(MSR_BITMAP, (uint64_t)reader.msr_bitmap);
    vm_clear(&writer);
    begin = go = signalled = ready = UINT64_MAX;
    second_do(run_writer);
}

static void race(bool own_bitmap)
{
    prepare(own_bitmap);
    for (uint64_t round = 1; round <= smp_l2_rounds; round++) {
        msr_bit_clear(reader.msr_bitmap, MSR, MSR_READ);
        begin = round;
        wait_for(&ready, round);
        CHECK(!rdmsr_exits());
        go = round;
        wait_for(&signalled, round);
        lost += !rdmsr_exits();
    }
    begin = 0;
    REQUIRE(second_finishes());
    CHECK_EQ(writer.exit.reason, EXIT_VMCALL);
    vmx_stop();
}

/* The page is the bitmap of the first processor's L2 alone, then of both. */
void test_race_of_l2(void)
{
    uint64_t lost_alone;

    lost = 0;
    race(false);
    lost_alone = lost;
    race(true);
    print("# %lu rounds of L2's stores, twice: %lu and %lu lost\n", smp_l2_rounds, lost_alone, lost - lost_alone);
    CHECK_EQ(lost, 0);
}
