/* sources: kernel/acpi.c */
#include "tests/fuzz/fuzz.h"

#include <string.h>

#include "kernel/acpi.h"

/* Physical memory is the fuzzer's bytes, from address 0 on. */
static bool memory_read(void *context, hpa_t address, void *buffer, uint64_t size)
{
    const struct fuzz_input *memory = context;

    if (address > memory->size || size > memory->size - address)
        return false;
    memcpy(buffer, memory->data + address, size);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct acpi_info info;
    struct fuzz_input memory = {data, size};
    int result;

    result = acpi_parse(data, MIN(size, 36), memory_read, &memory, &info);
    if (result < 0)
        FUZZ_CHECK(strlen(acpi_error(result)) > 0);
    FUZZ_CHECK(info.cpus <= ACPI_MAX_CPUS);
    for (unsigned i = 0; i < info.cpus; i++)
        FUZZ_CHECK(info.cpu[i].entry + info.cpu[i].entry_size <= size);
    return 0;
}
