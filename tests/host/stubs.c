/* The rest of Nestor, as far as sources need it that run as a host program. All of it is weak: a test that
 * lists the real source in its first line gets the real thing. */
#include "tests/host/host.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/cmdline.h"
#include "kernel/layout.h"
#include "kernel/panic.h"
#include "kernel/percpu.h"

#define WEAK __attribute__((weak))

WEAK struct options options;

/* Results must be out before a crash: unit.t names the test that did not come back. */
__attribute__((constructor)) static void host_start(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
}

uint8_t *layout_host_memory;
WEAK const uint8_t l1_disk_code[1024]; /* in place of l1/l1_disk.asm */

uint8_t *host_memory(unsigned long size)
{
    host_memory_free();
    layout_host_memory = aligned_alloc(PAGE_SIZE, ALIGN_UP(size, PAGE_SIZE));
    assert_non_null(layout_host_memory);
    memset(layout_host_memory, 0, ALIGN_UP(size, PAGE_SIZE));
    return layout_host_memory;
}

void host_memory_free(void)
{
    free(layout_host_memory);
    layout_host_memory = NULL;
}

/* xorshift64*: short, and good enough to reach corners. */
static uint64_t random_state = 0x9e3779b97f4a7c15ull;

void host_random_seed(uint64_t seed)
{
    random_state = seed ? seed : 1;
}

uint64_t host_random(void)
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return random_state * 0x2545f4914f6cdd1dull;
}

void host_random_fill(void *buffer, unsigned long len)
{
    uint8_t *bytes = buffer;
    for (unsigned long i = 0; i < len; i++)
        bytes[i] = (uint8_t)(host_random() >> 32);
}

/* cmocka turns mock_assert into a pass inside expect_assert_failure(), into a failed test elsewhere. */
static NORETURN void fail_with(const char *format, va_list arguments)
{
    static char text[512];

    vsnprintf(text, sizeof text, format, arguments);
    mock_assert(0, text, "panic", 0);
    abort();
}

WEAK void panic(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    fail_with(format, arguments);
}

struct cpu;
WEAK void straight_disturb(struct cpu *cpu)
{
    (void)cpu;
}

WEAK void machine_end(int status, const char *format, ...)
{
    va_list arguments;

    (void)status;
    va_start(arguments, format);
    fail_with(format, arguments);
}

WEAK void trace_copy(struct cpu *cpu)
{
    (void)cpu;
}

/* The log says nothing: a test looks at outcomes. Without the headers, which a test's own VMCS may contradict. */
struct vcpu;
struct vmcs12;
#define SAYS_NOTHING(name, ...)                                                                                        \
    void name(__VA_ARGS__);                                                                                            \
    WEAK void name(__VA_ARGS__)                                                                                        \
    {                                                                                                                  \
    }
#pragma GCC diagnostic ignored "-Wunused-parameter"
SAYS_NOTHING(refusal_log, const struct vcpu *vcpu, unsigned refusal, uint64_t a, uint64_t b)
SAYS_NOTHING(refusal_log_msr, const struct vcpu *vcpu, uint32_t msr, unsigned access, uint64_t value)
uint64_t ept_log_violations __attribute__((weak)) = ~0ull;
SAYS_NOTHING(ept_log_violation_any, const struct vcpu *vcpu, uint64_t gpa2, uint64_t qualification)
uint64_t ept_log_misconfigs __attribute__((weak));
SAYS_NOTHING(ept_log_misconfig_any, const struct vcpu *vcpu, uint64_t gpa2, uint64_t table, unsigned level,
             uint64_t entry)
SAYS_NOTHING(shutdown_explain, struct vcpu *vcpu)
SAYS_NOTHING(lint_loaded, void *nested, void *slot)
SAYS_NOTHING(lint_released, void *nested, void *slot)
SAYS_NOTHING(lint_enter, void *nested, const void *slot)
SAYS_NOTHING(lint_invvpid, void *nested, uint16_t vpid12)
SAYS_NOTHING(lint_read_only, const struct vcpu *vcpu, unsigned row)
SAYS_NOTHING(lint_launch, const struct vcpu *vcpu, const struct vmcs12 *v)
SAYS_NOTHING(vmcs12_dump, void *nested, void *slot)
