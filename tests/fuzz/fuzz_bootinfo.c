/* sources: boot/bootinfo.c boot/efi_map.c */
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "boot/bootinfo.h"

static void string_check(const struct bootinfo *info, const char *text)
{
    /* Empty strings may be a constant of the parser's. */
    if (*text)
        FUZZ_CHECK(text >= info->strings && text + strlen(text) < info->strings + BOOTINFO_STRINGS);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct bootinfo info;
    uint8_t *block;
    int result;

    if (size == 0)
        return 0;
    block = aligned_alloc(8, ALIGN_UP(size, 8));
    memcpy(block, data, size);
    result = bootinfo_parse(block, size, &info);
    free(block);
    if (result < 0) {
        FUZZ_CHECK(strlen(bootinfo_error(result)) > 0);
        return 0;
    }
    FUZZ_CHECK(info.regions <= BOOTINFO_MAX_REGIONS && info.modules <= BOOTINFO_MAX_MODULES);
    FUZZ_CHECK(info.strings_used <= BOOTINFO_STRINGS && info.rsdp_size <= sizeof info.rsdp);
    for (unsigned i = 0; i < info.regions; i++)
        FUZZ_CHECK(info.region[i].base + info.region[i].size >= info.region[i].base);
    for (unsigned i = 0; i < info.modules; i++)
        string_check(&info, info.module[i].string);
    if (info.command_line)
        string_check(&info, info.command_line);
    return 0;
}
