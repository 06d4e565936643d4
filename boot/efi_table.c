#include "boot/efi_table.h"

#include "kernel/string.h"

/* UEFI 2.10 4.3 "EFI System Table" */
#define SIGNATURE "IBI SYST"
#define TABLE_ENTRIES 104
#define TABLE_LIST 112
#define TABLE_SIZE 120
#define ENTRIES_MAX 256u /* more are taken for damaged */

/* 4.6 "EFI Configuration Table" */
struct entry {
    uint8_t guid[16];
    uint64_t address;
};

static const uint8_t acpi_20[16] = {0x71, 0xe8, 0x68, 0x88, 0xf1, 0xe4, 0xd3, 0x11,
                                    0xbc, 0x22, 0x00, 0x80, 0xc7, 0x3c, 0x88, 0x81};
static const uint8_t acpi_10[16] = {0x30, 0x2d, 0x9d, 0xeb, 0x88, 0x2d, 0xd3, 0x11,
                                    0x9a, 0x16, 0x00, 0x90, 0x27, 0x3f, 0xc1, 0x4d};

hpa_t efi_find_rsdp(hpa_t system_table, acpi_read_fn read, void *context)
{
    uint8_t table[TABLE_SIZE];
    uint64_t entries, list;
    hpa_t old = 0;

    if (!system_table || !read(context, system_table, table, sizeof table) ||
        memcmp(table, SIGNATURE, sizeof SIGNATURE - 1) != 0)
        return 0;
    memcpy(&entries, table + TABLE_ENTRIES, sizeof entries);
    memcpy(&list, table + TABLE_LIST, sizeof list);
    for (uint64_t i = 0; i < MIN(entries, ENTRIES_MAX); i++) {
        struct entry entry;
        if (!read(context, list + i * sizeof entry, &entry, sizeof entry))
            break;
        if (!memcmp(entry.guid, acpi_20, sizeof acpi_20))
            return entry.address;
        if (!memcmp(entry.guid, acpi_10, sizeof acpi_10))
            old = entry.address;
    }
    return old;
}
