/* The few facts that Nestor wants from ACPI: which processors there are, and by which ports the machine goes off.
 * Pure: reads physical memory only through the caller's function, trusts no length or checksum.
 * start/ parses once at start. */
#ifndef KERNEL_ACPI_H
#define KERNEL_ACPI_H

#include "kernel/base.h"

#define ACPI_MAX_CPUS 1024
#define ACPI_MAX_CODE 64 /* tables of AML: the DSDT and SSDTs */

struct acpi_cpu {
    uint32_t apic_id;
    bool enabled; /* else it may come later (hot-plug), or never */
    hpa_t entry;  /* where its MADT entry lies */
    uint8_t entry_size;
};

/* An address as the FADT gives it: I/O port or memory. */
struct acpi_register {
    bool valid;
    bool is_io;
    uint64_t address;
};

struct acpi_info {
    hpa_t madt, fadt; /* 0: none */
    hpa_t lapic;      /* base address that the MADT says */
    unsigned cpus;
    struct acpi_cpu cpu[ACPI_MAX_CPUS];
    uint16_t pm1a_control, pm1b_control; /* ports; 0: none */
    struct acpi_register reset;
    uint8_t reset_value;
    unsigned code_tables;
    hpa_t code[ACPI_MAX_CODE]; /* further ones are left out */
};

/* Copies `size` bytes of physical memory. False when they are not there. */
typedef bool (*acpi_read_fn)(void *context, hpa_t address, void *buffer, uint64_t size);

/* `rsdp` is the root pointer structure itself (20 bytes of ACPI 1, or 36). Returns 0, or a negative number for
 * acpi_error(); what was found before it is in *info then. A table other than the root that is damaged is left out. */
MUST_CHECK int acpi_parse(const void *rsdp, uint64_t rsdp_size, acpi_read_fn read, void *context,
                          struct acpi_info *info);
const char *acpi_error(int error);
/* Marks a processor's entry as neither enabled nor to come, and mends the MADT's checksum. Both point into the table as
 * acpi_parse() found it. */
void acpi_disable_cpu(void *madt, void *entry);
/* Takes the sleeping states S2 and S3 from a table of AML, by giving their objects other names, and mends its checksum:
 * the system then does not offer them. `size` bytes can be read. How many there were. */
unsigned acpi_hide_sleep(void *table, uint64_t size);

#endif
