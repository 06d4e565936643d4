/* sources: vmx/startup.c vmx/startup_store.c vmx/store_decode.c vmx/breakpoint.c */
/* cflags: -include tests/host/fake_vmcs.h */
#include "tests/host/host.h"

#include <string.h>

#include "kernel/lapic.h"
#include "kernel/panic.h"
#include "kernel/safe.h"
#include "vmx/dump.h"
#include "vmx/event.h"
#include "vmx/hooks.h"
#include "vmx/kick.h"
#include "vmx/run.h"
#include "vmx/skip.h"
#include "vmx/startup.h"
#include "vmx/startup_store.h"
#include "vmx/vmcs_setup.h"

#define CPUS 3

uint64_t fake_vmcs[0x8000];
struct nested_hooks nested_hooks;

static struct vm vm;
static struct vcpu vcpu[CPUS];
static struct cpu cpu[CPUS];
static unsigned resets, kicks, answers, inits_to_l1, sent_by_cpu;
static int started, sipi_to_l1; /* vector, or -1 */
static bool answered_while_waiting;

void vmcs01_reset(struct vcpu *of)
{
    (void)of;
    resets++;
}

void vmcs01_start(uint8_t vector)
{
    started = vector;
}

void kick_answer(struct vcpu *of)
{
    answers++;
    answered_while_waiting |= of->waiting;
}

void kick_send(struct vcpu *to)
{
    kicks++;
    to->attention = true;
}

bool wrmsr_safe(uint32_t index, uint64_t value)
{
    (void)value;
    assert_int_equal(index, 0x830);
    sent_by_cpu++;
    return true;
}

void dump_and_end(const struct vcpu *of, const char *what)
{
    (void)of;
    panic("%s", what);
}

static void init_to_l1(struct vcpu *of)
{
    (void)of;
    inits_to_l1++;
}

static void sipi_came_to_l1(struct vcpu *of, uint8_t vector)
{
    assert_int_equal(of->waiting, WAITING_NOT);
    sipi_to_l1 = vector;
    of->in_l2 = false;
}

static unsigned apic_resets;

void lapic_reset(void)
{
    apic_resets++;
}

void lapic_write(uint32_t offset, uint32_t value)
{
    (void)offset;
    (void)value;
}

void event_cancel_nmi_window(struct vcpu *of)
{
    of->nmi_window = false;
}

void event_inject_gp(struct vcpu *of, uint32_t error_code)
{
    (void)of;
    (void)error_code;
}

void vcpu_skip_instruction(struct vcpu *of)
{
    (void)of;
}

bool gva_read_as(struct vcpu *of, gva_t gva, void *buffer, unsigned len, uint32_t access, struct fault *fault)
{
    (void)of, (void)gva, (void)buffer, (void)len, (void)access, (void)fault;
    return false;
}

int ept_trap_writes(struct ept *ept, gpa_t gpa)
{
    (void)ept, (void)gpa;
    return 0;
}

static int prepare(void **state)
{
    (void)state;
    memset(fake_vmcs, 0, sizeof fake_vmcs);
    memset(&vm, 0, sizeof vm);
    memset(vcpu, 0, sizeof vcpu);
    nested_hooks.init_to_l1 = init_to_l1;
    nested_hooks.sipi_to_l1 = sipi_came_to_l1;
    vm.vcpus = CPUS;
    for (unsigned i = 0; i < CPUS; i++) {
        cpu[i] = (struct cpu){.id = i, .apic_id = 4 * i};
        vcpu[i].vm = &vm;
        vcpu[i].cpu = &cpu[i];
        vcpu[i].apic_ldr = 1u << (24 + i);
        vm.vcpu[i] = &vcpu[i];
    }
    resets = kicks = answers = inits_to_l1 = sent_by_cpu = 0;
    started = sipi_to_l1 = -1;
    answered_while_waiting = false;
    return 0;
}

/* --- startup=exit: the CPU makes VM exits of both --- */

static void test_exit_reset_waits_in_the_guest(void **state)
{
    (void)state;
    vcpu[1].nmi_window = true;
    cpu[1].nmi_seen = true;
    startup_reset(&vcpu[1]);
    assert_int_equal(resets, 1);
    assert_int_equal(vmcs_read(GUEST_ACTIVITY_STATE), ACTIVITY_WAIT_SIPI);
    assert_int_equal(vcpu[1].waiting, WAITING_L1);
    assert_false(vcpu[1].nmi_window || cpu[1].nmi_seen);
}

static void test_exit_sipi_starts(void **state)
{
    (void)state;
    for (unsigned vector = 0; vector < 256; vector++) {
        vcpu[1].waiting = WAITING_L1;
        vcpu[1].exit.qualification = 0xabcdef00u | vector;
        exit_sipi(&vcpu[1]);
        assert_int_equal(started, vector);
        assert_int_equal(vcpu[1].waiting, WAITING_NOT);
    }
    /* The INVEPTs that were passed by in the meantime, and only when the others wait for them again. */
    assert_int_equal(answers, 256);
    assert_false(answered_while_waiting);
}

static void test_exit_init(void **state)
{
    (void)state;
    exit_init(&vcpu[1]);
    assert_int_equal(resets, 1);
    assert_int_equal(vcpu[1].waiting, WAITING_L1);
    assert_int_equal(vcpu[1].requests, 0);
}

/* A CPU may hold an INIT that came while the processor waited, and take it right after the start: it is none. */
static void test_exit_init_that_was_held(void **state)
{
    (void)state;
    startup_reset(&vcpu[1]);
    vcpu[1].exit.qualification = 0x9a;
    exit_sipi(&vcpu[1]);
    resets = 0;
    exit_init(&vcpu[1]); /* RIP is 0 yet */
    assert_int_equal(resets, 0);
    assert_int_equal(vcpu[1].waiting, WAITING_NOT);
    assert_int_equal(vcpu[1].requests, 0);
    vmcs_write(GUEST_RIP, 2);
    exit_init(&vcpu[1]);
    assert_int_equal(resets, 1);
    exit_sipi(&vcpu[1]);
    vmcs_write(GUEST_RIP, 0);
    vcpu[1].started_at -= 1000000; /* it has run for a while */
    exit_init(&vcpu[1]);
    assert_int_equal(resets, 2);
}

/* Nothing that takes long lies between the exit for INIT and the entry in the state that a start-up IPI ends. */
static void test_exit_init_leaves_the_apic_for_the_start(void **state)
{
    (void)state;
    apic_resets = 0;
    exit_init(&vcpu[1]);
    assert_int_equal(apic_resets, 0);
    exit_sipi(&vcpu[1]);
    assert_int_equal(apic_resets, 1);
}

static void test_exit_init_waits_for_vmxoff(void **state)
{
    (void)state;
    vcpu[1].l1_in_vmx = true;
    exit_init(&vcpu[1]);
    startup_attend(&vcpu[1]);
    assert_int_equal(resets, 0);
    assert_int_equal(vcpu[1].requests, VCPU_INIT);
    vcpu[1].l1_in_vmx = false;
    startup_attend(&vcpu[1]);
    assert_int_equal(resets, 1);
    assert_int_equal(vcpu[1].requests, 0);
}

static void test_exit_init_of_l2(void **state)
{
    (void)state;
    vcpu[1].l1_in_vmx = vcpu[1].in_l2 = true;
    exit_init(&vcpu[1]);
    assert_int_equal(inits_to_l1, 1);
    assert_int_equal(resets, 0);
    assert_int_equal(vcpu[1].requests, 0);
}

static void test_exit_init_of_the_boot_processor(void **state)
{
    (void)state;
    expect_assert_failure(exit_init(&vcpu[0]));
}

/* --- startup=trap: Nestor does what L1's ICR says --- */

static bool icr(uint32_t destination, uint32_t command)
{
    return startup_write_icr(&vcpu[0], (uint64_t)destination << 32 | command);
}

#define INIT (0x500u | (uint32_t)ICR_ASSERT)
#define STARTUP (0x600u | (uint32_t)ICR_ASSERT)
#define NMI (0x400u | (uint32_t)ICR_ASSERT)

static void test_trap_delivery(void **state)
{
    (void)state;
    assert_true(icr(4, STARTUP | 0x12)); /* a processor that runs ignores it */
    assert_int_equal(vcpu[1].requests, 0);
    assert_true(icr(4, NMI));
    assert_int_equal(vcpu[1].requests, VCPU_NMI);
    vcpu[1].requests = 0;
    assert_true(icr(4, INIT));
    assert_true(icr(4, NMI)); /* one that waits takes none */
    assert_int_equal(vcpu[1].requests, VCPU_INIT);
    assert_true(icr(4, STARTUP | 0x12));
    assert_int_equal(vcpu[1].requests, VCPU_INIT | VCPU_SIPI);
    assert_int_equal(vcpu[1].sipi_vector, 0x12);
    vcpu[1].waiting = WAITING_L1;
    vcpu[1].requests = 0;
    assert_true(icr(4, INIT));
    assert_int_equal(vcpu[1].requests, 0);
    assert_true(icr(4, 0x500)); /* the de-assert */
    assert_int_equal(vcpu[0].requests | vcpu[1].requests | vcpu[2].requests, 0);
    assert_int_equal(sent_by_cpu, 0);
    assert_true(icr(4, 0x41)); /* any other interrupt is the CPU's */
    assert_int_equal(sent_by_cpu, 1);
}

/* Bits: which processors get it. */
static unsigned addressed(uint32_t destination, uint32_t command)
{
    unsigned got = 0;
    assert_true(icr(destination, command | NMI));
    for (unsigned i = 0; i < CPUS; i++) {
        got |= vcpu[i].requests ? 1u << i : 0;
        vcpu[i].requests = 0;
    }
    return got;
}

static void test_trap_destinations(void **state)
{
    uint32_t logical = (uint32_t)ICR_LOGICAL, shorthand = 1u << 18;
    (void)state;
    assert_int_equal(addressed(0, 0), 1);
    assert_int_equal(addressed(4, 0), 2);
    assert_int_equal(addressed(8, 0), 4);
    assert_int_equal(addressed(5, 0), 0);
    assert_int_equal(addressed(UINT32_MAX, 0), 7);
    assert_int_equal(addressed(6, logical), 6);
    assert_int_equal(addressed(4, shorthand), 1);     /* self */
    assert_int_equal(addressed(4, 2 * shorthand), 7); /* all */
    assert_int_equal(addressed(4, 3 * shorthand), 6); /* all but self */
    assert_int_equal(kicks, 1 + 1 + 1 + 3 + 2 + 1 + 3 + 2);
}

/* L1 in VMX operation with an INIT that waits takes NMIs, and ignores start-up IPIs as before. */
static void test_trap_init_that_waits(void **state)
{
    (void)state;
    vcpu[1].l1_in_vmx = true;
    assert_true(icr(4, INIT));
    assert_true(icr(4, STARTUP | 0x12));
    assert_true(icr(4, NMI));
    assert_int_equal(vcpu[1].requests, VCPU_INIT | VCPU_NMI);
}

/* --- L2 in the activity state wait-for-SIPI --- */

static void l2_waits(bool trapped)
{
    vm.startup_trapped = trapped;
    vcpu[1].l1_in_vmx = vcpu[1].in_l2 = true;
    startup_wait_in_l2(&vcpu[1]);
    assert_int_equal(vcpu[1].waiting, WAITING_L2);
    assert_int_equal(vcpu[1].attention, trapped);
}

static void test_l2_waits_inside(void **state)
{
    (void)state;
    l2_waits(true);
    assert_true(icr(4, INIT)); /* is lost */
    assert_true(icr(4, NMI));
    assert_true(icr(4, STARTUP | 0x9a));
    assert_int_equal(vcpu[1].requests, VCPU_NMI | VCPU_SIPI);
    startup_attend(&vcpu[1]);
    assert_int_equal(sipi_to_l1, 0x9a);
    assert_int_equal(answers, 1);
    assert_false(answered_while_waiting);
    assert_true(cpu[1].nmi_seen); /* now */
    assert_int_equal(vcpu[1].requests, 0);
    assert_int_equal(inits_to_l1 + resets, 0);
    assert_int_equal(started, -1);
}

/* A kick just before the entry must not hold it up: the CPU waits. */
static void test_l2_waits_in_the_guest(void **state)
{
    (void)state;
    l2_waits(false);
    vcpu[1].attention = true;
    startup_attend(&vcpu[1]);
    assert_int_equal(vcpu[1].waiting, WAITING_L2);
    assert_int_equal(sipi_to_l1, -1);
    startup_wait_no_more(&vcpu[1]);
    assert_int_equal(vcpu[1].waiting, WAITING_NOT);
    assert_int_equal(answers, 1);
    assert_false(answered_while_waiting);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_exit_reset_waits_in_the_guest, prepare),
        cmocka_unit_test_setup(test_exit_sipi_starts, prepare),
        cmocka_unit_test_setup(test_exit_init, prepare),
        cmocka_unit_test_setup(test_exit_init_that_was_held, prepare),
        cmocka_unit_test_setup(test_exit_init_leaves_the_apic_for_the_start, prepare),
        cmocka_unit_test_setup(test_exit_init_waits_for_vmxoff, prepare),
        cmocka_unit_test_setup(test_exit_init_of_l2, prepare),
        cmocka_unit_test_setup(test_exit_init_of_the_boot_processor, prepare),
        cmocka_unit_test_setup(test_trap_delivery, prepare),
        cmocka_unit_test_setup(test_trap_destinations, prepare),
        cmocka_unit_test_setup(test_trap_init_that_waits, prepare),
        cmocka_unit_test_setup(test_l2_waits_inside, prepare),
        cmocka_unit_test_setup(test_l2_waits_in_the_guest, prepare),
    };
    return cmocka_run_group_tests_name("startup", tests, NULL, NULL);
}
