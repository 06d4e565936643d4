/* sources: vmx/breakpoint.c vmx/skip.c */
/* cflags: -include tests/host/fake_vmcs.h */
#include "tests/host/host.h"

#include <string.h>

#include "kernel/cmdline.h"
#include "vmx/breakpoint.h"
#include "vmx/skip.h"

uint64_t fake_vmcs[0x8000];
struct options options;

/* Each byte for itself, from the SDM's sentences. */
static bool byte_watched(unsigned rw, unsigned len, uint64_t address, enum breakpoint_access access, uint64_t byte)
{
    static const unsigned lengths[4] = {1, 2, 8, 4};
    bool kind = access == BREAKPOINT_PORT ? rw == 2 : access == BREAKPOINT_WRITE ? rw == 1 || rw == 3 : rw == 3;
    return kind && byte / lengths[len] == address / lengths[len];
}

static void test_met(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 200000; round++) {
        uint64_t address[4], dr7 = host_random(), at = 0x1000 + host_random() % 32, wanted = 0;
        unsigned size = 1 + (unsigned)(host_random() % 16);
        enum breakpoint_access access = (enum breakpoint_access)(host_random() % 3);
        for (unsigned n = 0; n < 4; n++) {
            address[n] = 0x1000 + host_random() % 40;
            bool met = false;
            for (unsigned i = 0; i < size; i++)
                met |= byte_watched(dr7 >> (16 + 4 * n) & 3, dr7 >> (18 + 4 * n) & 3, address[n], access, at + i);
            if (met && (dr7 >> 2 * n & 3))
                wanted |= BIT(n) | BIT(12);
        }
        assert_int_equal(breakpoints_met(dr7, address, access, at, size), wanted);
    }
}

/* The end of the address space: nothing wraps into a match. */
static void test_met_at_the_ends(void **state)
{
    const uint64_t address[4] = {~0ull - 3, 0, 0, 0}, dr7 = BIT(0) | BITS(17, 16) | BITS(19, 18);
    (void)state;
    assert_int_equal(breakpoints_met(dr7, address, BREAKPOINT_READ, ~0ull, 1), BIT(0) | BIT(12));
    assert_int_equal(breakpoints_met(dr7, address, BREAKPOINT_READ, ~0ull - 7, 4), 0);
    assert_int_equal(breakpoints_met(dr7, address, BREAKPOINT_READ, 0x100, 16), 0);
}

static struct vcpu vcpu;

static void vmcs_start(uint64_t rflags, uint64_t shadows)
{
    memset(fake_vmcs, 0, sizeof fake_vmcs);
    vmcs_write(GUEST_RFLAGS, rflags);
    vmcs_write(GUEST_INTERRUPTIBILITY, (uint32_t)shadows);
    vcpu = (struct vcpu){.exit = {.rip = 0x100, .instruction_length = 2}};
}

/* SDM 3C 27.3.1.5: BS as TF and BTF say; RF ends with the instruction, and holds between two iterations. */
static void test_completion(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 16; i++) {
        uint64_t tf = i & 1 ? RFLAGS_TF : 0, rf = i & 2 ? RFLAGS_RF : 0, btf = i & 4 ? DEBUGCTL_BTF : 0;
        uint64_t hits = i & 8 ? BIT(2) | PENDING_DEBUG_ENABLED_BP : 0;
        uint64_t wanted = hits | (tf && !btf ? PENDING_DEBUG_BS : 0);
        for (unsigned repeat = 0; repeat < 2; repeat++) {
            vmcs_start(RFLAGS_FIXED1 | tf | rf, BLOCKING_BY_STI | BLOCKING_BY_NMI);
            vmcs_write(GUEST_DEBUGCTL, btf);
            vcpu.debug_hits = (uint32_t)hits;
            repeat ? vcpu_repeat_instruction(&vcpu) : vcpu_skip_instruction(&vcpu);
            assert_true(vcpu.completed);
            assert_int_equal(vcpu.debug_hits, 0);
            assert_int_equal(vmcs_read(GUEST_PENDING_DEBUG), wanted);
            assert_int_equal(vmcs_read(GUEST_RFLAGS), RFLAGS_FIXED1 | tf | (repeat ? RFLAGS_RF : 0));
            assert_int_equal(vmcs_read(GUEST_INTERRUPTIBILITY), BLOCKING_BY_NMI);
            assert_int_equal(vmcs_read(GUEST_RIP), repeat ? 0 : 0x102);
        }
    }
}

/* A pending trap goes when the instruction did not complete, unless MOV SS holds it back. */
static void test_not_completed(void **state)
{
    (void)state;
    vmcs_start(RFLAGS_FIXED1 | RFLAGS_TF, 0);
    vmcs_write(GUEST_PENDING_DEBUG, PENDING_DEBUG_BS);
    vcpu_not_completed();
    assert_int_equal(vmcs_read(GUEST_PENDING_DEBUG), 0);
    vmcs_start(RFLAGS_FIXED1 | RFLAGS_TF, BLOCKING_BY_MOV_SS);
    vmcs_write(GUEST_PENDING_DEBUG, PENDING_DEBUG_BS);
    vcpu_not_completed();
    assert_int_equal(vmcs_read(GUEST_PENDING_DEBUG), PENDING_DEBUG_BS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_met),
        cmocka_unit_test(test_met_at_the_ends),
        cmocka_unit_test(test_completion),
        cmocka_unit_test(test_not_completed),
    };
    return cmocka_run_group_tests_name("breakpoint", tests, NULL, NULL);
}
