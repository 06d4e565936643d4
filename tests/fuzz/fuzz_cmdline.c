/* sources: kernel/cmdline.c kernel/format.c */
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "kernel/cmdline.h"

static unsigned errors;

static void report(bool error, const char *text)
{
    errors += error;
    FUZZ_CHECK(strlen(text) > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct options parsed = options;
    char *text = malloc(size + 1);
    int result;

    memcpy(text, data, size);
    text[size] = 0;
    errors = 0;
    result = cmdline_parse(text, &parsed, report);
    FUZZ_CHECK((result < 0) == (errors > 0));
    free(text);
    return 0;
}
