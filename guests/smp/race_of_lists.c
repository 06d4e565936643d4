/* The exits of the second processor's L2 store to the bitmap that the first one's L2 runs with: a list of MSRs of
 * theirs lies in it. So L0 stores there itself, while the first processor's entries have the page traced and read it,
 * and while NMIs come. */
#include "guests/lib/check.h"
#include "guests/lib/cpu.h"
#include "guests/lib/msr_bits.h"
#include "guests/lib/page.h"
#include "guests/lib/vm.h"
#include "guests/smp/second.h"
#include "guests/smp/smp.h"

#define MSR IA32_SYSENTER_EIP
#define SPREAD 1499 /* pauses, some more than an entry takes that merges */
#define HOST_VALUE 0x5555000

struct msr_entry {
    uint32_t index, reserved;
    uint64_t value;
};

static struct vm reader, writer;
static struct msr_entry *stored, *loaded, *loaded_at_exit;
static volatile uint64_t go, signalled; /* rounds; go 0: the end */
static volatile uint64_t l2_saw;
static uint64_t lost, wrong;

static void reader_code(void)
{
    for (;;) {
        (void)cpu_rdmsr(MSR);
        asm volatile("vmcall" : : "a"(0) : "memory");
    }
}

/* The value of the list is the bits of the reads of MSRs 140H to 17FH. */
static void writer_code(void)
{
    for (;;) {
        l2_saw = cpu_rdmsr(IA32_KERNEL_GS_BASE);
        cpu_wrmsr(IA32_STAR, BIT(MSR - 0x140));
        (void)cpu_cpuid(0, 0);
    }
}

static void one_exit(uint64_t round)
{
    loaded->value = round << 12;
    wrong += vm_run(&writer) != EXIT_CPUID;
    vm_skip(&writer);
    wrong += l2_saw != round << 12;
    wrong += cpu_rdmsr(IA32_STAR) != HOST_VALUE;
}

static void run_writer(void)
{
    uint64_t done = UINT64_MAX;

    second_vmx_on();
    for (uint64_t round = go; round; round = go) {
        if (round == done) {
            cpu_pause();
            continue;
        }
        for (uint64_t spin = round * 7919 % SPREAD; spin; spin--)
            cpu_pause();
        one_exit(round);
        done = signalled = round;
    }
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

static void prepare(void)
{
    vm_start(&reader, reader_code, 0);
    vm_create(&writer, writer_code, 0);
    stored = (struct msr_entry *)(reader.msr_bitmap + 0x20);
    loaded = page_alloc();
    loaded_at_exit = page_alloc();
    stored[0] = (struct msr_entry){IA32_STAR, 0, 0};
    loaded[0] = (struct msr_entry){IA32_KERNEL_GS_BASE, 0, 0};
    loaded_at_exit[0] = (struct msr_entry){IA32_STAR, 0, HOST_VALUE};
    vmx_set(EXIT_MSR_STORE_ADDR, (uint64_t)stored);
    vmx_set(EXIT_MSR_STORE_COUNT, 1);
    vmx_set(ENTRY_MSR_LOAD_ADDR, (uint64_t)loaded);
    vmx_set(ENTRY_MSR_LOAD_COUNT, 1);
    vmx_set(EXIT_MSR_LOAD_ADDR, (uint64_t)loaded_at_exit);
    vmx_set(EXIT_MSR_LOAD_COUNT, 1);
    vm_clear(&writer);
    go = signalled = UINT64_MAX;
    second_do(run_writer);
}

/* Every entry that begins behind the signal must exit. */
static void race_round(uint64_t round)
{
    bool told, exited;

    msr_bit_clear(reader.msr_bitmap, MSR, MSR_READ);
    if (round % 2)
        CHECK(!rdmsr_exits());
    go = round;
    if (round % 4 == 3)
        second_send_nmi();
    do {
        told = signalled == round;
        exited = rdmsr_exits();
    } while (!told);
    lost += !exited;
}

void test_race_of_lists(void)
{
    prepare();
    for (uint64_t round = 1; round <= smp_rounds; round++) {
        race_round(round);
        REQUIRE(second_took_nmis());
    }
    go = 0;
    REQUIRE(second_finishes());
    print("# %lu rounds of stores of lists: %lu lost, %lu wrong\n", smp_rounds, lost, wrong);
    CHECK_EQ(lost, 0);
    CHECK_EQ(wrong, 0);
    vmx_stop();
}
