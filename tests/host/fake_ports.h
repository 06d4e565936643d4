/* I/O ports as an array of what was written last, for code that uses them:
 * `cflags: -include tests/host/fake_ports.h`. */
#ifndef TESTS_HOST_FAKE_PORTS_H
#define TESTS_HOST_FAKE_PORTS_H

#include "kernel/x86.h"

/* The test has it: bits 32 and up say how many bytes wide the write was. */
extern uint64_t fake_ports[0x10000];

#define out8(port, value) (void)(fake_ports[port] = 1ull << 32 | (uint8_t)(value))
#define out16(port, value) (void)(fake_ports[port] = 2ull << 32 | (uint16_t)(value))
#define out32(port, value) (void)(fake_ports[port] = 4ull << 32 | (uint32_t)(value))
#define in8(port) ((uint8_t)fake_ports[port])
#define in16(port) ((uint16_t)fake_ports[port])
#define in32(port) ((uint32_t)fake_ports[port])

#endif
