/* The second processor stores to the bitmap that the first one's L2 runs with, and takes NMIs meanwhile. */
#include "guests/lib/check.h"
#include "guests/lib/counters.h"
#include "guests/lib/cpu.h"
#include "guests/lib/msr_bits.h"
#include "guests/lib/vm.h"
#include "guests/smp/second.h"
#include "guests/smp/smp.h"

#define SPREAD 4099       /* pauses, a few times as many as one entry takes */
#define SPREAD_EARLY 1031 /* and as many as an entry takes that merges */
#define MSR IA32_LSTAR
#define KEPT IA32_VMX_MISC /* L1 lets it pass, and Nestor has a value of its own for it */

static volatile uint64_t go;        /* round that the second processor may begin; 0: end */
static volatile uint64_t signalled; /* round whose bit is set */
static struct vm vm;
static uint64_t kept_value;
static uint64_t entered, lost, bare;
static uint64_t early; /* exits before the signal: allowed, the bit is set first */

/* In rounds of two of the eight kinds the store may come at any moment of the entry that merges. */
static bool is_early(uint64_t round)
{
    return round % 8 == 2 || round % 8 == 5;
}

/* Never leaves the guest by itself, so that it keeps what it has cached of EPT01. */
static void store_in_each_round(void)
{
    uint64_t done = signalled;

    for (uint64_t round = go; round; round = go) {
        if (round == done) {
            cpu_pause();
            continue;
        }
        for (uint64_t spin = round * 7919 % (is_early(round) ? SPREAD_EARLY : SPREAD); spin; spin--)
            cpu_pause();
        msr_bit_set(vm.msr_bitmap, MSR, MSR_READ);
        done = signalled = round; /* after the bit: stores are seen in order */
    }
}

/* L2: an RDMSR of each kind between two calls. */
static void l2_code(void)
{
    for (;;) {
        (void)cpu_rdmsr(MSR);
        uint64_t value = cpu_rdmsr(KEPT);
        asm volatile("vmcall" : : "a"(0), "b"(value) : "memory");
    }
}

/* One turn of L2: whether the first RDMSR exited. L2 stands in front of it before and after. */
static bool rdmsr_exits(void)
{
    bool exited = vm_run(&vm) == EXIT_RDMSR;

    if (exited) {
        vm_skip(&vm);
        (void)vm_run(&vm);
    }
    REQUIRE_EQ(vm.exit.reason, EXIT_VMCALL);
    vm_skip(&vm);
    entered++;
    bare += vm.regs[RBX] != kept_value;
    return exited;
}

/* One round in four has an NMI together with the kick that protects the page, one behind it. The others have none: the
 * second processor then keeps the right to store that it has cached, unless it is kicked. */
static void race_round(uint64_t round)
{
    bool told, exited;

    msr_bit_clear(vm.msr_bitmap, MSR, MSR_READ);
    if (round % 4 == 1)
        second_send_nmi();
    if (!is_early(round))
        CHECK(!rdmsr_exits());
    if (round % 4 == 3)
        second_send_nmi();
    go = round;
    do {
        told = signalled == round;
        exited = rdmsr_exits();
        early += exited && !told;
    } while (!told);
    lost += !exited;
}

static void prepare(void)
{
    vm_start(&vm, l2_code, 0);
    kept_value = cpu_rdmsr(KEPT);
    go = signalled = UINT64_MAX;
    second_do(store_in_each_round);
}

void test_race(void)
{
    unsigned nmis = second_nmis;
    uint32_t kept = counter_read(COUNTER_L2_MSR_EXITS_L0), untraced = counter_read(COUNTER_BITMAP_UNTRACED);

    prepare();
    for (uint64_t round = 1; round <= smp_rounds; round++) {
        race_round(round);
        REQUIRE(second_took_nmis());
    }
    go = 0;
    REQUIRE(second_finishes());
    kept = counter_read(COUNTER_L2_MSR_EXITS_L0) - kept;
    untraced = counter_read(COUNTER_BITMAP_UNTRACED) - untraced;
    print("# %lu rounds, %lu entries, %lu lost, %lu seen before the signal, %u NMIs\n", smp_rounds, entered, lost,
          early, second_nmis - nmis);
    print("# %lu entries without L0's bits, %u times untraced\n", bare, untraced);
    CHECK_EQ(lost, 0);
    CHECK_EQ(bare, 0);
    if (counters_present())
        CHECK_EQ(kept, (uint32_t)entered);
    vmx_stop();
}
