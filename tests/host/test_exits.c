/* sources: vmx/exit_handlers.c vmx/exit_unasked.c vmx/exit_names.c vmx/cpuid_policy.c vmx/hyperv_cpuid.c */
/* cflags: -include tests/host/fake_vmcs.h */
/* No exit, known or unknown, is without an answer of L0: all numbers from 0 to 127, and the largest. For L2's see
 * test_decide.c. */
#include "tests/host/host.h"

#include <string.h>

#include "kernel/panic.h"
#include "kernel/safe.h"
#include "vmx/cr.h"
#include "vmx/dump.h"
#include "vmx/event.h"
#include "vmx/exit_handlers.h"
#include "vmx/operand.h"
#include "vmx/startup.h"

uint64_t fake_vmcs[0x8000];

static struct vcpu vcpu;
static unsigned undefined, others; /* what handlers of other files were called for */

void event_inject_ud(struct vcpu *of)
{
    (void)of;
    undefined++;
}

void event_inject_gp(struct vcpu *of, uint32_t error_code)
{
    (void)of, (void)error_code;
    others++;
}

void vcpu_skip_instruction(struct vcpu *of)
{
    (void)of;
    others++;
}

void vmx_unblock_nmi(void)
{
}

uint64_t cr_read_cr4(void)
{
    return 0;
}

bool xsetbv_safe(uint32_t index, uint64_t value)
{
    (void)index, (void)value;
    return false;
}

void dump_and_end(const struct vcpu *of, const char *what)
{
    (void)of;
    panic("%s", what);
}

#define OTHER(name)                                                                                                    \
    void name(struct vcpu *of)                                                                                         \
    {                                                                                                                  \
        (void)of;                                                                                                      \
        others++;                                                                                                      \
    }
OTHER(exit_init)
OTHER(exit_sipi)
OTHER(exit_task_switch)
OTHER(exit_cr_access)
OTHER(exit_io)
OTHER(exit_rdmsr)
OTHER(exit_wrmsr)
OTHER(exit_rdmsrlist)
OTHER(exit_wrmsrlist)
OTHER(exit_rdmsr_immediate)
OTHER(exit_wrmsrns_immediate)
OTHER(exit_ept_violation)
OTHER(exit_ept_misconfig)

static int fresh(void **state)
{
    (void)state;
    memset(&vcpu, 0, sizeof vcpu);
    undefined = others = 0;
    return 0;
}

static const uint32_t beyond[] = {128, 200, 0x7fff, 0xffff};
#define NUMBERS (128 + ARRAY_SIZE(beyond))

static uint32_t number(unsigned i)
{
    return i < 128 ? i : beyond[i - 128];
}

/* The events that nobody asks for while L1 runs; all else without a handler is an instruction, or unknown. */
static bool is_event(uint32_t reason)
{
    static const uint32_t events[] = {
        EXIT_EXTERNAL_INTERRUPT,
        EXIT_IO_SMI,
        EXIT_OTHER_SMI,
        EXIT_INTERRUPT_WINDOW,
        EXIT_INVALID_GUEST_STATE,
        EXIT_MSR_LOAD_FAIL,
        EXIT_MONITOR_TRAP,
        EXIT_MACHINE_CHECK,
        EXIT_TPR_BELOW_THRESHOLD,
        EXIT_APIC_ACCESS,
        EXIT_VIRTUALIZED_EOI,
        EXIT_PREEMPTION_TIMER,
        EXIT_APIC_WRITE,
        EXIT_PML_FULL,
        EXIT_SPP,
        EXIT_BUS_LOCK,
        EXIT_NOTIFY,
    };
    for (unsigned i = 0; i < ARRAY_SIZE(events); i++)
        if (events[i] == reason)
            return true;
    return false;
}

static void test_every_number_has_an_answer(void **state)
{
    (void)state;
    for (unsigned i = 0; i < NUMBERS; i++) {
        exit_handler_fn handler = exit_handler_of(number(i));
        assert_non_null(handler);
        if (handler != exit_unasked)
            continue;
        fresh(NULL);
        vcpu.exit.reason = number(i);
        handler(&vcpu);
        if (undefined != !is_event(number(i)) || others)
            fail_msg("reason %u: %u times #UD, %u other effects", number(i), undefined, others);
        assert_int_not_equal(vcpu.unasked_told[0] | vcpu.unasked_told[1], 0);
    }
}

/* Instructions that exit on a CPU of today whatever Nestor's controls are. */
static void test_ungated_instructions_are_undefined(void **state)
{
    static const uint32_t reasons[] = {EXIT_GETSEC,  EXIT_VMCALL,   EXIT_VMXON,  EXIT_INVEPT,
                                       EXIT_INVVPID, EXIT_SEAMCALL, EXIT_TDCALL, 127};
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(reasons); i++) {
        fresh(NULL);
        vcpu.exit.reason = reasons[i];
        exit_handler_of(reasons[i])(&vcpu);
        assert_int_equal(undefined, 1);
        assert_int_equal(others, 0);
    }
}

static void test_told_once_a_reason(void **state)
{
    (void)state;
    for (uint32_t reason = 35; reason < 100; reason++) {
        uint64_t before[2] = {vcpu.unasked_told[0], vcpu.unasked_told[1]};
        vcpu.exit.reason = reason;
        exit_unasked(&vcpu);
        assert_int_equal(__builtin_popcountll(before[0] ^ vcpu.unasked_told[0]) +
                             __builtin_popcountll(before[1] ^ vcpu.unasked_told[1]),
                         1);
        exit_unasked(&vcpu);
    }
    assert_int_equal(__builtin_popcountll(vcpu.unasked_told[0]) + __builtin_popcountll(vcpu.unasked_told[1]), 65);
}

/* An exception goes on to the guest as it came, with its error code and the address of a #PF. */
static void test_exception_is_the_guests(void **state)
{
    (void)state;
    vcpu.exit = (struct vmexit){.reason = EXIT_EXCEPTION_NMI,
                                .interruption_info = (uint32_t)(INTR_VALID | INTR_ERROR_CODE |
                                                                PUT(INTR_TYPE_HARD_EXCEPTION, INTR_TYPE) | VECTOR_PF),
                                .interruption_error_code = 6,
                                .qualification = 0x123456};
    exit_handler_of(EXIT_EXCEPTION_NMI)(&vcpu);
    assert_int_equal(vcpu.inject_info, vcpu.exit.interruption_info);
    assert_int_equal(vcpu.inject_error_code, 6);
    assert_true(vcpu.inject_is_fault);
    assert_int_equal(vcpu.inject_address, 0x123456);
    assert_int_equal(undefined, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_every_number_has_an_answer, fresh),
        cmocka_unit_test_setup(test_ungated_instructions_are_undefined, fresh),
        cmocka_unit_test_setup(test_told_once_a_reason, fresh),
        cmocka_unit_test_setup(test_exception_is_the_guests, fresh),
    };
    return cmocka_run_group_tests_name("exits", tests, NULL, NULL);
}
