#include "tests/fuzz/fuzz.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/layout.h"
#include "kernel/panic.h"

uint8_t *layout_host_memory;
const uint8_t l1_disk_code[1024]; /* in place of l1/l1_disk.asm */

void fuzz_failed(const char *file, int line, const char *condition)
{
    fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, condition);
    abort();
}

/* No input may reach these. */
void panic(const char *fmt, ...)
{
    va_list arguments;

    va_start(arguments, fmt);
    vfprintf(stderr, fmt, arguments);
    va_end(arguments);
    abort();
}

void fuzz_take(struct fuzz_input *in, void *to, size_t size)
{
    size_t have = MIN(size, in->size);

    memset(to, 0, size);
    if (have)
        memcpy(to, in->data, have);
    in->data += have;
    in->size -= have;
}

uint64_t fuzz_take_64(struct fuzz_input *in)
{
    uint64_t value;

    fuzz_take(in, &value, sizeof value);
    return value;
}

uint32_t fuzz_take_32(struct fuzz_input *in)
{
    uint32_t value;

    fuzz_take(in, &value, sizeof value);
    return value;
}

uint8_t fuzz_take_8(struct fuzz_input *in)
{
    uint8_t value;

    fuzz_take(in, &value, sizeof value);
    return value;
}
