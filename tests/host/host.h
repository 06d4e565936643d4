/* The header that every host test includes first: cmocka with the headers it wants, and the harness of stubs.c.
 * Nothing must hold before.
 * tests/host/ only. */
#ifndef TESTS_HOST_HOST_H
#define TESTS_HOST_HOST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* A generator with a fixed start, so that a failing case comes back in the next run. */
uint64_t host_random(void);
void host_random_seed(uint64_t seed);
void host_random_fill(void *buffer, unsigned long len);

/* Gives the code under test `size` zeroed bytes of "physical memory" from address 0 on (hpa_to_va, va_to_hpa), instead
 * of what an earlier call gave. Pages are aligned. */
uint8_t *host_memory(unsigned long size);
void host_memory_free(void);

/* ASSERT and panic() end the running test as failed. expect_assert_failure(call) of cmocka turns that into a pass:
 * the call must reach an ASSERT or panic(). */

/* cmocka 2 deprecates the form of cmocka 1, which has not the newer one: a test that uses it does not compile. */
#undef assert_in_range
#undef assert_not_in_range
#pragma GCC poison assert_in_range assert_not_in_range
#define assert_between(value, low, high) assert_true((value) >= (low) && (value) <= (high))

#endif
