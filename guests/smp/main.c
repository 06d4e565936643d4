/* Two processors: the second one stores to the bitmap that the first one's L2 runs with, takes NMIs meanwhile, and is taken
 * away and brought back. Words of the command line: rounds=N (1000). */
#include "guests/lib/check.h"
#include "guests/lib/cpu.h"
#include "guests/lib/desc.h"
#include "guests/lib/irq.h"
#include "guests/lib/mem.h"
#include "guests/lib/msr_bits.h"
#include "guests/lib/page.h"
#include "guests/lib/start.h"
#include "guests/lib/vm.h"

#define AP_PAGE 0x8000 /* as in ap.asm */
#define AP_STACK_SIZE 16384
#define SECOND_APIC_ID 1
#define ICR 0x300
#define ICR_HIGH 0x310
#define SPREAD 4099 /* pauses, a few times as many as one entry takes */
#define ICR_INIT 0x4500u
#define ICR_STARTUP 0x4600u
#define ICR_NMI 0x4400u
#define PATIENCE 100000000ull /* TSC ticks */
#define RESTARTS 10
#define MSR IA32_LSTAR

extern const uint8_t ap_code[], ap_code_end[];
void smp_second(void) NORETURN;

uint8_t ap_stack[AP_STACK_SIZE] __attribute__((aligned(16)));
extern uint8_t ap_stack_top[];
asm(".globl ap_stack_top\n.set ap_stack_top, ap_stack + 16384");

static volatile uint64_t starts;    /* how often the second processor came up */
static volatile uint64_t go;        /* round that the second processor may begin */
static volatile uint64_t signalled; /* round whose bit is set */
static volatile uint64_t entered;   /* entries into L2, to spread the stores in time */
static struct vm vm;

/* Never leaves the guest by itself, so that it keeps what it has cached of EPT01. */
void smp_second(void)
{
    struct table_register idtr = {4095, desc_idt_base()};
    uint64_t done = signalled;

    asm volatile("lidt %0" : : "m"(idtr));
    starts++;
    for (;;) {
        uint64_t round = go;
        if (round == done) {
            cpu_pause();
            continue;
        }
        for (uint64_t spin = round * 7919 % SPREAD; spin; spin--)
            cpu_pause();
        msr_bit_set(vm.msr_bitmap, MSR, MSR_READ);
        done = signalled = round; /* after the bit: stores are seen in order */
    }
}

static void send(uint32_t command)
{
    irq_lapic_write(ICR_HIGH, SECOND_APIC_ID << 24);
    irq_lapic_write(ICR, command);
}

static bool wait_until(volatile uint64_t *value, uint64_t wanted)
{
    uint64_t start = cpu_rdtsc();

    while (*value != wanted && cpu_rdtsc() - start < PATIENCE)
        cpu_pause();
    return *value == wanted;
}

static void start_second(void)
{
    uint64_t before = starts;

    send(ICR_INIT);
    send(ICR_STARTUP | AP_PAGE >> 12);
    REQUIRE(wait_until(&starts, before + 1));
}

/* L2: one RDMSR between two calls. */
static void l2_code(void)
{
    for (;;) {
        (void)cpu_rdmsr(MSR);
        asm volatile("vmcall" : : "a"(0) : "memory");
    }
}

/* One entry: whether the RDMSR exited. L2 stands in front of its RDMSR before and after. */
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
    return exited;
}

static uint64_t lost;
static uint64_t early; /* exits before the signal: allowed, the bit is set first */

static unsigned nmis_sent;

static void send_nmi(void)
{
    send(ICR_NMI);
    nmis_sent++;
}

/* One round in four has an NMI together with the kick that protects the page, one behind it. The others have none: the
 * second processor then keeps the right to store that it has cached, unless it is kicked. */
static void race_round(uint64_t round)
{
    bool told, exited;

    msr_bit_clear(vm.msr_bitmap, MSR, MSR_READ);
    if (round % 4 == 1)
        send_nmi();
    CHECK(!rdmsr_exits());
    if (round % 4 == 3)
        send_nmi();
    go = round;
    do {
        told = signalled == round;
        exited = rdmsr_exits();
        early += exited && !told;
    } while (!told);
    lost += !exited;
    while (signalled != round)
        cpu_pause();
}

static uint64_t rounds = 1000;

static bool wait_for_nmis(unsigned wanted)
{
    uint64_t start = cpu_rdtsc();

    while (trap_count[VECTOR_NMI] != wanted && cpu_rdtsc() - start < PATIENCE)
        cpu_pause();
    return trap_count[VECTOR_NMI] == wanted;
}

static void test_race(void)
{
    unsigned nmis = trap_count[VECTOR_NMI];

    vmx_start();
    vm_create(&vm, l2_code, 0);
    vm_control_set(PROC_CONTROLS, PROC_USE_MSR_BITMAPS);
    vmx_set(MSR_BITMAP, (uint64_t)vm.msr_bitmap);
    for (uint64_t round = 1; round <= rounds; round++) {
        race_round(round);
        REQUIRE(wait_for_nmis(nmis + nmis_sent));
    }
    print("# %lu rounds, %lu entries, %lu lost, %lu seen before the signal, %u NMIs\n", rounds, entered, lost, early,
          trap_count[VECTOR_NMI] - nmis);
    CHECK_EQ(lost, 0);
    vmx_stop();
}

static void test_start(void)
{
    memcpy((void *)AP_PAGE, ap_code, (size_t)(ap_code_end - ap_code));
    start_second();
}

/* INIT takes the running processor away; the start-up IPI brings it back from the beginning. */
static void test_restart(void)
{
    for (unsigned i = 0; i < RESTARTS; i++)
        start_second();
}

static const struct {
    const char *name;
    void (*body)(void);
} tests[] = {{"start", test_start}, {"restart", test_restart}, {"race", test_race}, {"restart_again", test_restart}};

uint8_t guest_main(const char *args)
{
    unsigned failed = 0;

    for (; *args; args++)
        if (!memcmp(args, "rounds=", 7))
            for (rounds = 0, args += 7; *args >= '0' && *args <= '9'; args++)
                rounds = 10 * rounds + (uint64_t)(*args - '0');
    print("1..%u\n", (unsigned)ARRAY_SIZE(tests));
    for (unsigned i = 0; i < ARRAY_SIZE(tests); i++) {
        bool passed = check_run(tests[i].body);
        print("%sok %u - %s\n", passed ? "" : "not ", i + 1, tests[i].name);
        failed += !passed;
    }
    return failed != 0;
}
