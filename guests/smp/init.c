/* INIT to a processor in VMX operation. SDM 3C 24.8 "Restrictions on VMX Operation", 26.2 "Other Causes of VM Exits" */
#include "guests/lib/check.h"
#include "guests/lib/cpu.h"
#include "guests/lib/vm.h"
#include "guests/smp/second.h"
#include "guests/smp/smp.h"

#define A_WHILE 100000 /* pauses */

static struct vm vm;
static volatile uint64_t turns; /* of L2, or of the loop in VMX root operation */
static volatile bool stop;
static volatile uint16_t reason; /* of L2's exit */

static void l2_turns(void)
{
    for (;;)
        turns++;
}

static void run_l2(void)
{
    second_vmx_on();
    vm_clear(&vm);
    reason = vm_run(&vm);
    vm_clear(&vm);
    second_vmx_off();
}

static void wait_in_root(void)
{
    second_vmx_on();
    while (!stop)
        turns++;
}

static void leave_root(void)
{
    wait_in_root();
    second_vmx_off(); /* here INIT comes */
    reason = EXIT_VMCALL;
}

static void enter_l2(void)
{
    wait_in_root();
    vm_clear(&vm);
    reason = vm_run(&vm);
    vm_clear(&vm);
    second_vmx_off();
}

static void prepare(void (*job)(void))
{
    vm_start(&vm, l2_turns, 0);
    vm_clear(&vm);
    vmx_stop();
    stop = false;
    reason = UINT16_MAX;
    turns = 0;
    second_do(job);
}

/* True if it does turns, on and on. */
static bool runs(void)
{
    uint64_t before = turns;

    for (unsigned i = 0; i < A_WHILE && turns < before + 10; i++)
        cpu_pause();
    return turns >= before + 10;
}

void test_init_in_l2(void)
{
    prepare(run_l2);
    REQUIRE(runs());
    second_send(ICR_INIT);
    REQUIRE(second_finishes());
    CHECK_EQ(reason, EXIT_INIT);
    second_start();
}

void test_init_in_root(void)
{
    prepare(leave_root);
    REQUIRE(runs());
    second_send(ICR_INIT);
    CHECK(runs());
    stop = true;
    for (unsigned i = 0; i < A_WHILE; i++)
        cpu_pause();
    CHECK(!second_is_idle());
    CHECK_EQ(reason, UINT16_MAX);
    second_start();
}

void test_init_before_l2(void)
{
    prepare(enter_l2);
    REQUIRE(runs());
    second_send(ICR_INIT);
    CHECK(runs());
    stop = true;
    bool finished = second_finishes();
    CHECK(finished);
    CHECK_EQ(reason, EXIT_INIT);
    if (!finished)
        second_send(ICR_INIT); /* out of L2 */
    REQUIRE(second_finishes());
    second_start();
}
