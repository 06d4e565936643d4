/* UEFI's memory map: what the firmware uses, what it needs at run time, and what is free.
 * Pure: works on a copy of the map's bytes, every length is checked.
 * start/ makes L1's map and the free memory of it; l1/ hands it to L1 with Nestor's memory reserved in it. */
#ifndef BOOT_EFI_MAP_H
#define BOOT_EFI_MAP_H

#include "kernel/base.h"

#define EFI_MAP_BYTES (96 * KIB) /* 2,000 descriptors of 48 bytes */
#define EFI_PAGE 4096ull

/* UEFI 2.10 7.2.3 "EFI_BOOT_SERVICES.GetMemoryMap()": memory types */
enum efi_type {
    EFI_RESERVED = 0,
    EFI_LOADER_CODE = 1,
    EFI_LOADER_DATA = 2,
    EFI_BOOT_SERVICES_CODE = 3,
    EFI_BOOT_SERVICES_DATA = 4,
    EFI_RUNTIME_SERVICES_CODE = 5,
    EFI_RUNTIME_SERVICES_DATA = 6,
    EFI_CONVENTIONAL = 7,
    EFI_UNUSABLE = 8,
    EFI_ACPI_RECLAIM = 9,
    EFI_ACPI_NVS = 10,
    EFI_PERSISTENT = 14,
};

struct efi_descriptor {
    uint32_t type;
    hpa_t base;
    uint64_t size; /* in bytes */
};

struct efi_map {
    uint32_t size; /* of the bytes in use; 0: there is no map */
    uint32_t descriptor_size, version;
    uint8_t bytes[EFI_MAP_BYTES];
};

/* The map of the multiboot2 tag 17, whose body is `body`. False when its lengths contradict each other, or it is larger
 * than there is room. */
MUST_CHECK bool efi_map_set(struct efi_map *map, const uint8_t *body, uint32_t size);
unsigned efi_map_count(const struct efi_map *map);
struct efi_descriptor efi_map_get(const struct efi_map *map, unsigned index);
/* The type that a BIOS's map would have for it (REGION_RAM ... of boot/bootinfo.h), as L1 may use it: what boot
 * services used is RAM, as they are over. */
uint32_t efi_region_type(uint32_t type);
/* True if nothing of the firmware's can lie there: L1 looks at tables that boot services left in their memory. */
bool efi_is_free(uint32_t type);
/* Makes [base, base+size), of whole pages, EfiReservedMemoryType; a descriptor that reaches over it is cut. False when
 * there is no room for the pieces; the map is as before then. */
MUST_CHECK bool efi_map_reserve(struct efi_map *map, hpa_t base, uint64_t size);

#endif
