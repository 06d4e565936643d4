/* sources: vmx/inspect.c vmx/hooks.c vmx/cpuid_policy.c vmx/hyperv_cpuid.c kernel/cmdline.c kernel/format.c */
/* The bytes that a program in L1 reads through the port of the option inspect=. */
#include "tests/host/host.h"

#include <stdlib.h>
#include <string.h>

#include "kernel/cmdline.h"
#include "kernel/counters.h"
#include "kernel/log.h"
#include "vmx/inspect.h"

struct log_ring log_ring;
struct log_text log_previous;

static struct vm vm;
static struct cpu cpus[2];
static uint8_t policy[PAGE_SIZE];

static int setup(void **state)
{
    (void)state;
    memset(&vm, 0, sizeof vm);
    memset(cpus, 0, sizeof cpus);
    for (unsigned i = 0; i < 2; i++) {
        vm.vcpu[i] = calloc(1, sizeof(struct vcpu));
        vm.vcpu[i]->cpu = &cpus[i];
        vm.vcpu[i]->vm = &vm;
    }
    vm.vcpus = 2;
    vm.msr_bitmap = policy;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++)
        free(vm.vcpu[i]);
    return 0;
}

static uint64_t word64(uint32_t offset)
{
    return inspect_word(&vm, offset) | (uint64_t)inspect_word(&vm, offset + 4) << 32;
}

static struct inspect_header header(void)
{
    uint32_t words[sizeof(struct inspect_header) / 4];
    struct inspect_header result;
    for (unsigned i = 0; i < ARRAY_SIZE(words); i++)
        words[i] = inspect_word(&vm, INSPECT_OFFSET(INSPECT_HEADER, 4 * i));
    memcpy(&result, words, sizeof result);
    return result;
}

static void test_header_says_what_there_is(void **state)
{
    (void)state;
    struct inspect_header h = header();
    assert_int_equal(h.magic, INSPECT_MAGIC);
    assert_int_equal(h.version, INSPECT_VERSION);
    assert_int_equal(h.cpus, 2);
    assert_int_equal(h.counters, COUNTER_COUNT);
    assert_int_equal(h.reasons, EXIT_REASON_COUNT);
    assert_int_equal(inspect_word(&vm, INSPECT_OFFSET(INSPECT_HEADER, sizeof h)), ~0u);
}

static void test_counters_of_each_processor(void **state)
{
    (void)state;
    struct inspect_header h = header();
    cpus[1].counters[COUNT_BITMAP_MERGES] = 0x123456789abcull;
    vm.vcpu[1]->exits[0][EXIT_CPUID] = 7;
    vm.vcpu[1]->exits[1][EXIT_REASON_COUNT - 1] = 8;
    uint32_t at = INSPECT_OFFSET(INSPECT_COUNTERS, h.counters_stride);
    assert_int_equal(word64(at + 8 * COUNT_BITMAP_MERGES), 0x123456789abcull);
    assert_int_equal(word64(at + 8 * (h.counters + EXIT_CPUID)), 7);
    assert_int_equal(word64(at + 8 * (h.counters + h.reasons + EXIT_REASON_COUNT - 1)), 8);
    assert_int_equal(word64(INSPECT_OFFSET(INSPECT_COUNTERS, 8 * COUNT_BITMAP_MERGES)), 0);
}

/* Whatever offset a guest writes, what it reads is of the areas: beyond each of them there are ones. */
static void test_nothing_beyond_the_areas(void **state)
{
    (void)state;
    struct inspect_header h = header();
    const uint32_t ends[] = {
        INSPECT_OFFSET(INSPECT_TEXT, h.text_bytes),
        INSPECT_OFFSET(INSPECT_LOG, sizeof(struct inspect_log_position) + h.log_bytes),
        INSPECT_OFFSET(INSPECT_COUNTERS, h.cpus * h.counters_stride),
        INSPECT_OFFSET(INSPECT_TRACE, h.cpus * h.trace_stride),
        INSPECT_OFFSET(INSPECT_POLICY, PAGE_SIZE),
        INSPECT_OFFSET(INSPECT_PREVIOUS, sizeof(struct inspect_log_position) + h.log_bytes),
        INSPECT_OFFSET(INSPECT_PREVIOUS + 1, 0),
    };
    memset(policy, 0, sizeof policy);
    for (unsigned i = 0; i < ARRAY_SIZE(ends); i++) {
        assert_int_equal(inspect_word(&vm, ends[i]), ~0u);
        if (ends[i] & 0xfffffff)
            assert_int_not_equal(inspect_word(&vm, ends[i] - 4), ~0u);
    }
    for (unsigned i = 0; i < 1000000; i++)
        (void)inspect_word(&vm, (uint32_t)host_random()); /* the sanitizers look */
}

static void test_port_walks_on(void **state)
{
    (void)state;
    struct vcpu *vcpu = vm.vcpu[0];
    log_ring.log.written = 5;
    memcpy(log_ring.log.text, "hello", 5);
    inspect_write(vcpu, 0, 4, INSPECT_OFFSET(INSPECT_LOG, 3)); /* whole words only */
    assert_int_equal(inspect_read(vcpu, 0, 4), 5);
    assert_int_equal(inspect_read(vcpu, 0, 4), 0);
    assert_int_equal(inspect_read(vcpu, 0, 4), 'h' | 'e' << 8 | 'l' << 16 | 'l' << 24);
    assert_int_equal(vm.vcpu[1]->inspect_offset, 0);
}

static void test_text_stops_when_full(void **state)
{
    (void)state;
    char text[4097] = "";
    for (unsigned i = 0; i < 1000; i++)
        inspect_say("key", "text %u", i);
    for (unsigned i = 0; i < 1024; i++) {
        uint32_t word = inspect_word(&vm, INSPECT_OFFSET(INSPECT_TEXT, 4 * i));
        memcpy(text + 4 * i, &word, 4);
    }
    assert_memory_equal(text, "key: text 0\nkey: text 1\n", 24);
    assert_int_equal(text[4095], 0);
}

static struct cpuid_result filtered(uint32_t leaf)
{
    struct cpuid_result result = {1, 2, 3, 4};
    struct cpuid_context context = vm.cpuid;
    context.max_basic = 0x20;
    cpuid_filter(leaf, 0, &context, &result);
    return result;
}

static void test_cpuid_tells_only_with_the_option(void **state)
{
    (void)state;
    assert_int_equal(filtered(INSPECT_LEAF).eax, 1);
    assert_int_equal(filtered(INSPECT_LEAF_PORT).ebx, 2);
    options.inspect = 0xea4;
    inspect_start(&vm);
    struct cpuid_result name = filtered(INSPECT_LEAF), port = filtered(INSPECT_LEAF_PORT);
    assert_int_equal(name.eax, INSPECT_LEAF_PORT);
    assert_memory_equal(&name.ebx, INSPECT_SIGNATURE, 12);
    assert_int_equal(port.eax, INSPECT_VERSION);
    assert_int_equal(port.ebx, 0xea4);
    assert_int_equal(filtered(INSPECT_LEAF_PORT + 1).eax, 1);
    options.inspect = 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_header_says_what_there_is, setup, teardown),
        cmocka_unit_test_setup_teardown(test_counters_of_each_processor, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nothing_beyond_the_areas, setup, teardown),
        cmocka_unit_test_setup_teardown(test_port_walks_on, setup, teardown),
        cmocka_unit_test_setup_teardown(test_text_stops_when_full, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cpuid_tells_only_with_the_option, setup, teardown),
    };
    return cmocka_run_group_tests_name("inspect", tests, NULL, NULL);
}
