/* UEFI's configuration tables: where the firmware has its ACPI root pointer.
 * Pure: reads physical memory only through the caller's function.
 * start/ calls it once. */
#ifndef BOOT_EFI_TABLE_H
#define BOOT_EFI_TABLE_H

#include "kernel/acpi.h"
#include "kernel/base.h"

/* Address of the ACPI root pointer that the 64-bit system table at `system_table` leads to, the newer one of two; 0:
 * none, or no such table. */
hpa_t efi_find_rsdp(hpa_t system_table, acpi_read_fn read, void *context);

#endif
