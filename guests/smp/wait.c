/* L2 in the activity state wait-for-SIPI. SDM 3C 25.4.2 "Guest Non-Register State", 26.2 "Other Causes of VM Exits" */
#include "guests/lib/check.h"
#include "guests/lib/cpu.h"
#include "guests/lib/vm.h"
#include "guests/smp/second.h"
#include "guests/smp/smp.h"
#include "kernel/msr.h"

#define A_WHILE 100000 /* pauses */
#define PATIENCE 100   /* times as long */

static struct vm vm;
static volatile uint64_t turns;         /* of L2, once it runs */
static volatile unsigned exits, wanted; /* the second processor enters again when they differ */
static volatile uint64_t reason, qualification, activity;

static void l2_turns(void)
{
    for (;;)
        turns++;
}

static void enter_again_and_again(void)
{
    second_vmx_on();
    vm_clear(&vm);
    while (exits < wanted) {
        reason = vm_run(&vm);
        qualification = vm.exit.qualification;
        activity = vmx_get(GUEST_ACTIVITY_STATE);
        exits++;
        while (exits == wanted && reason == EXIT_SIPI)
            cpu_pause();
        if (wanted > exits + 1) { /* the last one */
            wanted = exits + 1;
            vmx_set(GUEST_ACTIVITY_STATE, ACTIVITY_ACTIVE);
        }
    }
    vm_clear(&vm);
    second_vmx_off();
}

static void prepare(void)
{
    vmx_start();
    REQUIRE(cpu_rdmsr(IA32_VMX_MISC) & VMX_MISC_ACTIVITY_WAIT_SIPI);
    vm_create(&vm, l2_turns, 0);
    vmx_set(GUEST_ACTIVITY_STATE, ACTIVITY_WAIT_SIPI);
    vm_clear(&vm);
    vmx_stop();
    turns = exits = 0;
    wanted = 1;
    second_do(enter_again_and_again);
}

static void expect_no_exit(unsigned before)
{
    for (unsigned i = 0; i < A_WHILE; i++)
        cpu_pause();
    CHECK_EQ(exits, before);
    CHECK_EQ(turns, 0);
}

static void expect_sipi(uint8_t vector, unsigned number)
{
    second_send(ICR_STARTUP | vector);
    for (unsigned i = 0; i < A_WHILE * PATIENCE && exits < number; i++)
        cpu_pause();
    REQUIRE_EQ(exits, number);
    CHECK_EQ(reason, EXIT_SIPI);
    CHECK_EQ(qualification, vector);
    CHECK_EQ(activity, ACTIVITY_WAIT_SIPI);
}

/* An NMI comes after the wait. Each IPI ends one wait, and an L2 that runs takes none. */
void test_wait_for_sipi(void)
{
    prepare();
    expect_no_exit(0);
    second_send_nmi();
    expect_no_exit(0);
    CHECK_EQ(second_nmis, second_nmis_sent - 1);
    expect_sipi(0x5a, 1);
    CHECK(second_took_nmis());
    wanted = 2;
    expect_no_exit(1);
    expect_sipi(0xff, 2);
    wanted = 4;
    for (unsigned i = 0; i < A_WHILE * PATIENCE && turns < 10; i++)
        cpu_pause();
    REQUIRE(turns >= 10);
    second_send(ICR_STARTUP | 0x12);
    for (unsigned i = 0; i < A_WHILE; i++)
        cpu_pause();
    CHECK_EQ(exits, 2);
    second_send(ICR_INIT);
    REQUIRE(second_finishes());
    CHECK_EQ(reason, EXIT_INIT);
    second_start();
}

/* INIT is blocked: the start-up IPI behind it ends the wait, and nothing is left of it after VMXOFF. */
void test_wait_drops_init(void)
{
    prepare();
    expect_no_exit(0);
    second_send(ICR_INIT);
    expect_no_exit(0);
    expect_sipi(0x33, 1);
    wanted = 0; /* on to VMXOFF */
    CHECK(second_finishes());
    second_start();
}
