/* What the boot loader said, in one struct of Nestor's own: memory map, modules, command line, ACPI root.
 * Pure: parses bytes, touches no hardware; every length is checked against the block's own size.
 * start/ calls it once; everybody may read the result. */
#ifndef BOOT_BOOTINFO_H
#define BOOT_BOOTINFO_H

#include "kernel/base.h"

#define BOOTINFO_MAX_REGIONS 64
#define BOOTINFO_MAX_MODULES 16
#define BOOTINFO_STRINGS 8192

/* Types as in the BIOS memory map: 1 is usable RAM, anything else is not. */
struct boot_region {
    hpa_t base;
    uint64_t size;
    uint32_t type;
};
#define REGION_RAM 1u
#define REGION_RESERVED 2u
#define REGION_ACPI 3u
#define REGION_NVS 4u
#define REGION_BAD 5u

struct boot_module {
    hpa_t start;
    uint64_t size;
    const char *string; /* its command line, in bootinfo.strings */
};

struct bootinfo {
    unsigned regions;
    struct boot_region region[BOOTINFO_MAX_REGIONS];
    unsigned modules;
    struct boot_module module[BOOTINFO_MAX_MODULES];
    const char *command_line;
    uint8_t rsdp[36]; /* copy of the ACPI root pointer the loader gave; rsdp_size 0 when it gave none */
    uint32_t rsdp_size;
    uint32_t strings_used;
    char strings[BOOTINFO_STRINGS];
};

/* Parses the multiboot2 information block of `size` bytes (multiboot2 specification 3.4 "Boot information format").
 * Returns 0, or a negative number when the block contradicts itself or holds more than fits (named by
 * bootinfo_error()). */
MUST_CHECK int bootinfo_parse(const void *mbi, uint64_t size, struct bootinfo *info);
const char *bootinfo_error(int error);

#endif
