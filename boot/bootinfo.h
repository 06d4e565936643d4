/* The boot loader's information in one struct of Nestor's own: memory map, modules, command line, ACPI root, screen,
 * UEFI. Pure: parses bytes, touches no hardware; every length is checked against the block's own size.
 * start/ calls it once; everybody may read the result. */
#ifndef BOOT_BOOTINFO_H
#define BOOT_BOOTINFO_H

#include "boot/efi_map.h"
#include "kernel/base.h"

#define BOOTINFO_MAX_REGIONS 512
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
#define REGION_PERSISTENT 7u

struct boot_module {
    hpa_t start;
    uint64_t size;
    const char *string; /* its command line, in bootinfo.strings */
};

/* Types of the multiboot2 specification 3.6.12 "Framebuffer info". */
enum boot_screen { SCREEN_NONE = -1, SCREEN_INDEXED = 0, SCREEN_RGB = 1, SCREEN_TEXT = 2 };

struct boot_colour {
    uint8_t position, size; /* bits of a pixel */
};

struct boot_framebuffer {
    enum boot_screen type; /* SCREEN_NONE: the loader named no screen */
    hpa_t base;
    uint32_t pitch;                      /* bytes of a line */
    uint32_t width, height;              /* pixels; characters of SCREEN_TEXT */
    uint8_t bits;                        /* of a pixel */
    struct boot_colour red, green, blue; /* of SCREEN_RGB */
};

struct bootinfo {
    unsigned regions;
    struct boot_region region[BOOTINFO_MAX_REGIONS];
    unsigned modules;
    struct boot_module module[BOOTINFO_MAX_MODULES];
    const char *command_line;
    uint8_t rsdp[36]; /* copy of the ACPI root pointer the loader gave; rsdp_size 0 when it gave none */
    uint32_t rsdp_size;
    struct boot_framebuffer screen;
    hpa_t efi_system_table; /* 0: the machine was not booted by a 64-bit UEFI */
    struct efi_map efi_map; /* when there is one, `region` was made from it */
    uint32_t strings_used;
    char strings[BOOTINFO_STRINGS];
};

/* Parses the multiboot2 information block of `size` bytes (multiboot2 specification 3.4 "Boot information format").
 * Returns 0, or a negative number when the block contradicts itself or holds more than fits (named by
 * bootinfo_error()). */
MUST_CHECK int bootinfo_parse(const void *mbi, uint64_t size, struct bootinfo *info);
const char *bootinfo_error(int error);

#endif
