/* sources: vmx/hyperv.c vmx/hyperv_cpuid.c vmx/hooks.c */
/* cflags: -include tests/host/fake_vmcs.h */
/* The interface that the option evmcs=1 offers to L1, by the rules of the specification (TLFS). */
#include "tests/host/host.h"

#include <string.h>

#include "vmx/event.h"
#include "vmx/hooks.h"
#include "vmx/hyperv_cpuid.h"
#include "vmx/skip.h"
#include "vmx/vcpu.h"

#define OS_ID 0x40000000u
#define HYPERCALL 0x40000001u
#define VP_INDEX 0x40000002u
#define VP_ASSIST 0x40000073u
#define RAM_END 0x4000u

uint64_t fake_vmcs[0x8000];

static struct vm vm;
static struct vcpu vcpu[2];
static uint8_t *memory;
static unsigned told, faults, skipped;

bool gmem_search_ram(const struct gmem *gmem, gpa_t gpa)
{
    (void)gmem;
    return gpa < RAM_END;
}

bool gmem_write(const struct gmem *gmem, gpa_t gpa, const void *buffer, uint64_t len)
{
    (void)gmem;
    memcpy(memory + gpa, buffer, len);
    return true;
}

void event_inject_ud(struct vcpu *of)
{
    (void)of;
    faults++;
}

void vcpu_skip_instruction(struct vcpu *of)
{
    (void)of;
    skipped++;
}

static void changed(struct vcpu *of)
{
    (void)of;
    told++;
}

static int begin(void **state)
{
    (void)state;
    memory = host_memory(RAM_END);
    memset(&vm, 0, sizeof vm);
    memset(vcpu, 0, sizeof vcpu);
    memset(fake_vmcs, 0, sizeof fake_vmcs);
    nested_hooks.vp_assist_changed = changed;
    vm.cpuid.hyperv = true;
    for (unsigned i = 0; i < 2; i++) {
        vcpu[i].vm = &vm;
        vm.vcpu[vm.vcpus++] = &vcpu[i];
    }
    told = faults = skipped = 0;
    return 0;
}

static uint64_t value_of(unsigned index, uint32_t msr)
{
    uint64_t value = 0xdead;
    assert_true(hyperv_has_msr(&vcpu[index], msr));
    assert_true(hyperv_read(&vcpu[index], msr, &value));
    return value;
}

/* Linux takes the interface for there by the first leaf's name and the two privileges, and looks at the nested features
 * when the hint is set. */
static void test_leaves(void **state)
{
    struct cpuid_result r;
    (void)state;
    assert_false(hyperv_cpuid(0x3fffffff, 2, &r));
    assert_false(hyperv_cpuid(0x40000100, 2, &r));
    assert_true(hyperv_cpuid(0x40000000, 2, &r));
    assert_int_equal(r.eax, 0x4000000a);
    assert_memory_equal(&r.ebx, "Microsoft Hv", 12);
    assert_true(hyperv_cpuid(0x40000001, 2, &r));
    assert_memory_equal(&r.eax, "Hv#1", 4);
    assert_true(hyperv_cpuid(0x40000003, 2, &r));
    assert_int_equal(r.eax, 0x60);
    assert_int_equal(r.ebx | r.ecx | r.edx, 0);
    assert_true(hyperv_cpuid(0x40000004, 2, &r));
    assert_int_equal(r.eax, 1 << 14);
    assert_true(hyperv_cpuid(0x40000005, 2, &r));
    assert_int_equal(r.eax, 2);
    assert_true(hyperv_cpuid(0x4000000a, 2, &r));
    assert_int_equal(r.eax, 0x0101 | 1 << 19);
    assert_int_equal(r.ebx, 1);
    for (uint32_t leaf = 0x4000000b; leaf < 0x40000100; leaf++) {
        assert_true(hyperv_cpuid(leaf, 2, &r));
        assert_int_equal(r.eax | r.ebx | r.ecx | r.edx, 0);
    }
}

static void test_without_the_option(void **state)
{
    (void)state;
    vm.cpuid.hyperv = false;
    for (uint32_t msr = OS_ID; msr < OS_ID + 0x200; msr++)
        assert_false(hyperv_has_msr(&vcpu[0], msr));
}

/* L1's lists of MSRs reach L2's registers: there these are not. */
static void test_l2_has_none(void **state)
{
    (void)state;
    assert_true(hyperv_has_msr(&vcpu[0], VP_ASSIST));
    vcpu[0].in_l2 = true;
    assert_false(hyperv_has_msr(&vcpu[0], VP_ASSIST));
}

static void test_no_others(void **state)
{
    (void)state;
    for (uint32_t msr = OS_ID; msr < OS_ID + 0x200; msr++)
        assert_int_equal(hyperv_has_msr(&vcpu[0], msr),
                         msr == OS_ID || msr == HYPERCALL || msr == VP_INDEX || msr == VP_ASSIST);
}

static void test_index(void **state)
{
    (void)state;
    assert_int_equal(value_of(0, VP_INDEX), 0);
    assert_int_equal(value_of(1, VP_INDEX), 1);
    assert_false(hyperv_write(&vcpu[1], VP_INDEX, 1));
}

/* Without an identity the page stays off; with one it gets VMCALL and RET; and losing it turns the page off. */
static void test_hypercall_page(void **state)
{
    (void)state;
    assert_true(hyperv_write(&vcpu[0], HYPERCALL, 0x1001));
    assert_int_equal(value_of(0, HYPERCALL), 0x1000);
    assert_int_equal(memory[0x1000], 0);
    assert_false(hyperv_takes_vmcall(&vm));
    assert_true(hyperv_write(&vcpu[1], OS_ID, 0x8100));
    assert_int_equal(value_of(0, OS_ID), 0x8100);
    assert_true(hyperv_write(&vcpu[0], HYPERCALL, 0x1001));
    assert_memory_equal(memory + 0x1000, "\x0f\x01\xc1\xc3", 4);
    assert_true(hyperv_takes_vmcall(&vm));
    assert_true(hyperv_write(&vcpu[0], OS_ID, 0));
    assert_false(hyperv_takes_vmcall(&vm));
}

static void test_hypercall_page_must_be_ram(void **state)
{
    (void)state;
    assert_true(hyperv_write(&vcpu[0], OS_ID, 1));
    assert_false(hyperv_write(&vcpu[0], HYPERCALL, RAM_END | 1));
    assert_int_equal(value_of(0, HYPERCALL), 0);
    assert_true(hyperv_write(&vcpu[0], HYPERCALL, RAM_END)); /* not enabled: a number */
}

static void test_locked_hypercall_page(void **state)
{
    (void)state;
    assert_true(hyperv_write(&vcpu[0], OS_ID, 1));
    assert_true(hyperv_write(&vcpu[0], HYPERCALL, 0x1003));
    assert_true(hyperv_write(&vcpu[0], HYPERCALL, 0x2001));
    assert_int_equal(value_of(0, HYPERCALL), 0x1003);
    assert_int_equal(memory[0x2000], 0);
}

/* Each processor has its own page, and nested/ is told of each change. */
static void test_assist_page(void **state)
{
    (void)state;
    assert_true(hyperv_write(&vcpu[1], VP_ASSIST, 0x3001));
    assert_int_equal(value_of(1, VP_ASSIST), 0x3001);
    assert_int_equal(value_of(0, VP_ASSIST), 0);
    assert_int_equal(told, 1);
    assert_false(hyperv_write(&vcpu[1], VP_ASSIST, RAM_END | 1));
    assert_int_equal(value_of(1, VP_ASSIST), 0x3001);
    assert_int_equal(told, 1);
    assert_true(hyperv_write(&vcpu[1], VP_ASSIST, 0));
    assert_int_equal(told, 2);
}

static void test_calls(void **state)
{
    (void)state;
    vcpu[0].regs[RAX] = 0x1234567812345678;
    vcpu[0].regs[RDX] = 7;
    fake_vmcs[GUEST_CS_AR_BYTES.encoding] = AR_L;
    fake_vmcs[GUEST_EFER.encoding] = EFER_LMA;
    hyperv_call(&vcpu[0]);
    assert_int_equal(vcpu[0].regs[RAX], 2); /* HV_STATUS_INVALID_HYPERCALL_CODE */
    assert_int_equal(vcpu[0].regs[RDX], 7);
    assert_int_equal(skipped, 1);
    fake_vmcs[GUEST_CS_AR_BYTES.encoding] = 0;
    hyperv_call(&vcpu[0]);
    assert_int_equal(vcpu[0].regs[RDX], 0);
    fake_vmcs[GUEST_SS_AR_BYTES.encoding] = AR_DPL;
    hyperv_call(&vcpu[0]);
    assert_int_equal(faults, 1);
    assert_int_equal(skipped, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_leaves, begin),
        cmocka_unit_test_setup(test_without_the_option, begin),
        cmocka_unit_test_setup(test_l2_has_none, begin),
        cmocka_unit_test_setup(test_no_others, begin),
        cmocka_unit_test_setup(test_index, begin),
        cmocka_unit_test_setup(test_hypercall_page, begin),
        cmocka_unit_test_setup(test_hypercall_page_must_be_ram, begin),
        cmocka_unit_test_setup(test_locked_hypercall_page, begin),
        cmocka_unit_test_setup(test_assist_page, begin),
        cmocka_unit_test_setup(test_calls, begin),
    };
    return cmocka_run_group_tests_name("hyperv", tests, NULL, NULL);
}
