/* The common part of the fuzz targets: values taken from the fuzzer's bytes, and what Nestor's sources need to link.
 * Nothing must hold before.
 * tests/fuzz/ only. */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include "kernel/base.h"

/* A property that must hold whatever the input. */
#define FUZZ_CHECK(condition)                                                                                          \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            fuzz_failed(__FILE__, __LINE__, #condition);                                                               \
    } while (0)
NORETURN void fuzz_failed(const char *file, int line, const char *condition);

/* The fuzzer's bytes, consumed from the front; zeros follow when they are used up. */
struct fuzz_input {
    const uint8_t *data;
    size_t size;
};
void fuzz_take(struct fuzz_input *in, void *to, size_t size);
uint64_t fuzz_take_64(struct fuzz_input *in);
uint32_t fuzz_take_32(struct fuzz_input *in);
uint8_t fuzz_take_8(struct fuzz_input *in);

/* libFuzzer calls it once per input. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
