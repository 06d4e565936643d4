/* The processor's MSRs for host tests: the real headers first, and what reaches hardware in them replaced. A test takes
 * it with the second line  "cflags: -include tests/host/fake_msr.h"  and defines the functions.
 * tests/host/ only. */
#ifndef TESTS_HOST_FAKE_MSR_H
#define TESTS_HOST_FAKE_MSR_H

#include "kernel/safe.h"
#include "kernel/x86.h"

uint64_t fake_rdmsr(uint32_t index);
bool fake_wrmsr(uint32_t index, uint64_t value); /* false: #GP */

#define rdmsr fake_rdmsr
#define wrmsr (void)fake_wrmsr
#define wrmsr_safe_inline fake_wrmsr

#endif
