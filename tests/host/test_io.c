/* sources: vmx/io.c kernel/cmdline.c kernel/format.c */
/* cflags: -include tests/host/fake_ports.h */
/* L1's writes to the ports by which a machine resets: which Nestor takes for a reset, and what it does then. */
#include "tests/host/host.h"

#include <setjmp.h>
#include <string.h>

#include "kernel/cmdline.h"
#include "kernel/counters.h"
#include "kernel/panic.h"
#include "mm/page.h"
#include "vmx/inspect.h"
#include "vmx/io.h"
#include "vmx/msr_guest.h"

#define RESET_PORT 0x1804 /* of the FADT */
#define RESET_VALUE 0x5e

uint64_t fake_ports[0x10000];
static struct vm vm;
static struct vcpu vcpu;
static jmp_buf ended;
static unsigned reports;

void *page_alloc(void)
{
    static uint8_t pages[2][PAGE_SIZE];
    static unsigned used;
    return pages[used++];
}

void inspect_write(struct vcpu *of, uint16_t port, unsigned size, uint32_t value)
{
    (void)of, (void)port, (void)size, (void)value;
}

uint32_t inspect_read(struct vcpu *of, uint16_t port, unsigned size)
{
    (void)of, (void)port, (void)size;
    return 0;
}

uint64_t counters_total(enum counter counter)
{
    (void)counter;
    return 0;
}

void msr_policy_change(struct vm *of, uint32_t msr, bool reads, bool writes)
{
    (void)of, (void)msr, (void)reads, (void)writes;
}

void machine_report(int status, const char *reason)
{
    assert_int_equal(status, 0);
    assert_string_equal(reason, "L1 reset the machine");
    reports++;
}

void machine_end(int status, const char *format, ...)
{
    assert_int_equal(status, STATUS_PANIC);
    assert_string_equal(format, "L1 reset the machine");
    longjmp(ended, 1);
}

/* True if the write ends the run; else it has reached the port. */
static bool ends(uint16_t port, unsigned size, uint32_t value)
{
    const struct io_port *row = io_port_find(port);
    assert_non_null(row);
    fake_ports[port] = 0;
    if (setjmp(ended)) {
        assert_int_equal(fake_ports[port], 0);
        return true;
    }
    row->write(&vcpu, port, size, value);
    assert_int_equal(fake_ports[port] >> 32, size);
    return false;
}

static bool wanted(uint16_t port, uint32_t value)
{
    switch (port) {
    case 0xcf9: /* RST_CPU, of the reset control register */
        return value & 4;
    case 0x64: /* pulse output lines, of the keyboard controller: the CPU's reset is line 0, and 0 pulls it */
        return value >= 0xf0 && value <= 0xff && !(value & 1);
    case 0x92:
        return value & 1;
    default:
        return value == RESET_VALUE;
    }
}

static int setup(void **state)
{
    (void)state;
    vcpu.vm = &vm;
    vm.reset_port = RESET_PORT;
    vm.reset_value = RESET_VALUE;
    return io_policy_init(&vm);
}

static const uint16_t ways[] = {0xcf9, 0x64, 0x92, RESET_PORT};

static void test_each_value_at_each_port(void **state)
{
    (void)state;
    options.on_exit = ON_EXIT_BOCHS;
    for (unsigned i = 0; i < ARRAY_SIZE(ways); i++)
        for (uint32_t value = 0; value < 0x100; value++)
            assert_int_equal(ends(ways[i], 1, value), wanted(ways[i], value));
}

/* With on-exit=halt the reset is reported, and L1's: it reaches the port. */
static void test_reset_is_passed_on(void **state)
{
    (void)state;
    options.on_exit = ON_EXIT_HALT;
    for (unsigned i = 0; i < ARRAY_SIZE(ways); i++)
        for (uint32_t value = 0; value < 0x100; value++) {
            reports = 0;
            assert_false(ends(ways[i], 1, value));
            assert_int_equal((uint8_t)fake_ports[ways[i]], value);
            assert_int_equal(reports, wanted(ways[i], value));
        }
}

/* The bitmaps let L1 reach every other port without an exit; the configuration address beside CF9H is such a one. */
static void test_no_other_port(void **state)
{
    (void)state;
    for (uint32_t port = 0; port < 0x10000; port++) {
        const uint8_t *bitmap = port & 0x8000 ? vm.io_bitmap_b : vm.io_bitmap_a;
        bool exits = bitmap[(port & 0x7fff) / 8] >> port % 8 & 1;
        assert_int_equal(exits, io_port_find((uint16_t)port) != NULL);
    }
    assert_null(io_port_find(0xcf8));
    assert_null(io_port_find(0x60));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_value_at_each_port),
        cmocka_unit_test(test_reset_is_passed_on),
        cmocka_unit_test(test_no_other_port),
    };
    return cmocka_run_group_tests_name("io", tests, setup, NULL);
}
