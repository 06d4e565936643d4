/* Interrupts that one processor posts to the L2 of the other, as a hypervisor sends an IPI of its guest: each comes
 * once, without an exit. Some notifications find nothing, and some find L1.
 * SDM 3C 30.6 "Posted-Interrupt Processing" */
#include "guests/lib/check.h"
#include "guests/lib/cpu.h"
#include "guests/lib/msr_bits.h"
#include "guests/lib/page.h"
#include "guests/lib/posted.h"
#include "guests/lib/vm.h"
#include "guests/smp/second.h"
#include "guests/smp/smp.h"

#define VECTOR_LOW 0x51u
#define VECTOR_HIGH 0xa3u
#define VECTOR_NOTIFICATION 0xf2u
#define ICR_ASSERT 0x4000u
#define TURNS 300             /* of L2 between two exits */
#define PATIENCE 100000000ull /* TSC ticks */
#define ON BIT(0)

struct posted {
    uint64_t requests[4];
    uint64_t control;
    uint64_t free[3];
};

static struct vm vm;
static struct posted *posted;
static volatile uint64_t low, high, others; /* interrupts that L2 took */
static volatile bool end, up;
static uint64_t exits;

static void take(uint64_t vector)
{
    if (vector == VECTOR_LOW)
        low++;
    else if (vector == VECTOR_HIGH)
        high++;
    else
        others++;
    cpu_wrmsr(X2APIC_EOI, 0);
}

static void l2_turns(void)
{
    asm volatile("int %0; int %1" : : "i"(VECTOR_LOW), "i"(VECTOR_HIGH)); /* their stack is mapped now */
    low = high = 0;
    up = true;
    asm volatile("sti");
    while (!end) {
        for (unsigned i = 0; i < TURNS; i++)
            cpu_pause();
        asm volatile("vmcall" : : "a"(0) : "memory");
    }
    asm volatile("cli; vmcall" : : "a"((uint64_t)L2_DONE) : "memory");
}

static void run_l2(void)
{
    second_vmx_on();
    while (vm_run(&vm) == EXIT_VMCALL && vm.regs[RAX] != L2_DONE) {
        vm_skip(&vm);
        exits++;
    }
    vm_clear(&vm);
    second_vmx_off();
}

static void notify(void)
{
    if (!(__atomic_fetch_or(&posted->control, ON, __ATOMIC_SEQ_CST) & ON))
        second_send(ICR_ASSERT | VECTOR_NOTIFICATION);
}

static void post(unsigned vector)
{
    __atomic_fetch_or(&posted->requests[vector / 64], 1ull << vector % 64, __ATOMIC_SEQ_CST);
}

static bool comes(const volatile uint64_t *value, uint64_t wanted)
{
    uint64_t start = cpu_rdtsc();

    while (*value < wanted && cpu_rdtsc() - start < PATIENCE)
        cpu_pause();
    return *value == wanted;
}

static void prepare(void)
{
    uint64_t *virtual_apic;

    vm_start(&vm, l2_turns, 0);
    virtual_apic = page_alloc();
    posted = page_alloc();
    posted_on(virtual_apic, posted, VECTOR_NOTIFICATION);
    vm_clear(&vm);
    vmx_stop();
    end = up = false;
    exits = others = 0;
    second_do(run_l2);
    while (!up)
        cpu_pause();
}

static void rounds(void)
{
    for (uint64_t round = 1; round <= smp_posts; round++) {
        post(VECTOR_LOW);
        notify();
        if (round % 3 == 0)
            second_send(ICR_ASSERT | VECTOR_NOTIFICATION); /* finds nothing, mostly */
        post(VECTOR_HIGH);
        notify();
        REQUIRE(comes(&high, round));
        REQUIRE(comes(&low, round));
    }
}

void test_posts(void)
{
    void (*hook)(uint64_t vector) = trap_hook;

    if (!vm_control_offered(PIN_CONTROLS, (uint32_t)PIN_POSTED_INTERRUPTS)) {
        print("# no posted interrupts\n");
        return;
    }
    trap_hook = take;
    prepare();
    rounds();
    end = true;
    REQUIRE(second_finishes());
    trap_hook = hook;
    CHECK_EQ(vm.exit.reason, EXIT_VMCALL);
    CHECK_EQ(others, 0);
    CHECK(exits > 0);
    print("# %lu rounds of posted interrupts, each came once\n", smp_posts);
}
