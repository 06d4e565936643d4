/* sources: kernel/smp.c */
/* cflags: -include tests/host/fake_ports.h -Dlow_to_hpa=va_to_hpa */
/* Delays by the PIT, and on a board that has none, or has gated its clock. */
#include "tests/host/host.h"

#include <string.h>

#include "kernel/lapic.h"
#include "kernel/smp.h"
#include "kernel/x86.h"

#define PORT_B 0x61
#define PORT_B_OUTPUT 0x20
#define PIT_COUNTER_2 0x42
#define PIT_CONTROL 0x43

uint64_t fake_ports[0x10000];

/* For what is not called here. */
const uint8_t ap_trampoline[1], ap_trampoline_data[1], ap_trampoline_end[1], boot_pml4[1];

void lapic_send(uint32_t apic_id, uint32_t command)
{
    (void)apic_id, (void)command;
}

/* Counter 2 runs once, with the speaker off: 10 ms are 11,932 of its ticks. */
static void test_by_the_pit(void **state)
{
    (void)state;
    memset(fake_ports, 0, sizeof fake_ports);
    fake_ports[PORT_B] = PORT_B_OUTPUT | 2;
    smp_delay_us(10000);
    assert_int_equal((uint8_t)fake_ports[PORT_B], PORT_B_OUTPUT | 1);
    assert_int_equal((uint8_t)fake_ports[PIT_CONTROL], 0xb0);
    assert_int_equal((uint8_t)fake_ports[PIT_COUNTER_2], 11932 >> 8);
}

/* Its output never rises: found once; from then on no port is touched, and the TSC tells the time, the later the
 * better. */
static void test_without_one(void **state)
{
    (void)state;
    memset(fake_ports, 0, sizeof fake_ports);
    smp_delay_us(100);
    assert_int_equal((uint8_t)fake_ports[PIT_CONTROL], 0xb0);
    memset(fake_ports, 0, sizeof fake_ports);
    uint64_t begin = rdtsc();
    smp_delay_us(1000);
    assert_true(rdtsc() - begin >= 1000 * 100ull); /* no CPU of today has less than 100 MHz */
    for (unsigned port = 0; port < ARRAY_SIZE(fake_ports); port++)
        assert_int_equal(fake_ports[port], 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_by_the_pit), cmocka_unit_test(test_without_one)};
    return cmocka_run_group_tests_name("delay", tests, NULL, NULL);
}
