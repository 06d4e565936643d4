/* A UEFI application that gives the firmware what OVMF lacks in Bochs, for tests/vm/uefi.t: SMBIOS, and a reset
 * register of the FADT that is no other way to reset the machine. It says on the console where they are. */
#include "boot/efi_map.h"
#include "efi/uefi.h"

#define EFI_RUNTIME_DATA 6
#define SMBIOS_MAJOR 3
#define SMBIOS_MINOR 2
#define STRUCTURES 64 /* behind the entry point, in its page */

/* guests/off/off.c writes there. */
#define RESET_PORT 0x605
#define RESET_VALUE 0x5a

/* ACPI 6.5, 5.2.9 */
#define FADT_CHECKSUM 9
#define FADT_FLAGS 112
#define FADT_RESET_REGISTER 116
#define FADT_RESET_VALUE 128
#define RESET_REGISTER_SUPPORTED 10 /* bit of the flags */
#define IO_SPACE 1

efi_status EFIAPI efi_main(efi_handle handle, struct efi_system_table *system);

typedef efi_status(EFIAPI *install_table_fn)(const struct efi_guid *guid, void *table);

/* SMBIOS 3.6, 5.2.2 */
struct PACKED entry_point {
    char anchor[5];
    uint8_t checksum, length, major, minor, docrev, revision, reserved;
    uint32_t size;
    uint64_t table;
};
_Static_assert(sizeof(struct entry_point) == 24, "SMBIOS 3.6, 5.2.2");

/* 7.2 "System Information" with its two strings, and 7.45 "End-of-Table". */
static const uint8_t structures[] = "\x01\x1b\x00\x01\x01\x02\x00\x00"
                                    "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
                                    "\x06\x00\x00"
                                    "Nestor\0a board of a test\0\0"
                                    "\x7f\x04\x01\x01\x00";

static bool same_guid(const struct efi_guid *a, const struct efi_guid *b)
{
    const uint64_t *x = (const void *)a, *y = (const void *)b;
    return x[0] == y[0] && x[1] == y[1];
}

static uint8_t sum(const uint8_t *bytes, uint64_t size)
{
    uint8_t total = 0;
    while (size--)
        total = (uint8_t)(total + *bytes++);
    return total;
}

static void say(struct efi_system_table *system, const char *text, uint64_t number)
{
    efi_char line[80];
    unsigned length = 0;

    for (; *text; text++)
        line[length++] = (uint8_t)*text;
    for (int shift = 60; shift >= 0; shift -= 4)
        line[length++] = (uint8_t)"0123456789abcdef"[number >> shift & 15];
    line[length++] = '\r';
    line[length++] = '\n';
    line[length] = 0;
    system->out->output_string(system->out, line);
}

static efi_status install_smbios(struct efi_system_table *system)
{
    static const struct efi_guid smbios_3 = {
        0xf2fd1544, 0x9794, 0x4a2c, {0x99, 0x2e, 0xe5, 0xbb, 0xcf, 0x20, 0xe3, 0x94}};
    install_table_fn install = (install_table_fn)system->boot->install_configuration_table;
    uint64_t page;

    if (system->boot->allocate_pages(EFI_ALLOCATE_ANY, EFI_RUNTIME_DATA, 1, &page))
        return EFI_OUT_OF_RESOURCES;
    struct entry_point *entry = (struct entry_point *)page;
    for (unsigned i = 0; i < sizeof structures; i++)
        ((uint8_t *)page)[STRUCTURES + i] = structures[i];
    *entry = (struct entry_point){.anchor = "_SM3_",
                                  .length = sizeof *entry,
                                  .major = SMBIOS_MAJOR,
                                  .minor = SMBIOS_MINOR,
                                  .revision = 1,
                                  .size = sizeof structures,
                                  .table = page + STRUCTURES};
    entry->checksum = (uint8_t)-sum((const uint8_t *)entry, sizeof *entry);
    say(system, "firmware: SMBIOS at 0x", page);
    return install(&smbios_3, entry);
}

static uint8_t *find_fadt(const struct efi_system_table *system)
{
    static const struct efi_guid acpi_20 = {
        0x8868e871, 0xe4f1, 0x11d3, {0xbc, 0x22, 0x00, 0x80, 0xc7, 0x3c, 0x88, 0x81}};

    for (uint64_t i = 0; i < system->tables; i++) {
        if (!same_guid(&system->table[i].guid, &acpi_20))
            continue;
        const uint8_t *xsdt = *(uint8_t *const *)(system->table[i].table + 24);
        for (const uint8_t *at = xsdt + 36; at < xsdt + *(const uint32_t *)(xsdt + 4); at += 8) {
            uint8_t *table = *(uint8_t *const *)at;
            if (*(const uint32_t *)table == 0x50434146) /* "FACP" */
                return table;
        }
    }
    return NULL;
}

static efi_status set_reset_register(struct efi_system_table *system)
{
    static const uint8_t reg[12] = {IO_SPACE, 8, 0, 1, RESET_PORT & 0xff, RESET_PORT >> 8};
    uint8_t *fadt = find_fadt(system);

    if (!fadt)
        return EFI_UNSUPPORTED;
    *(uint32_t *)(fadt + FADT_FLAGS) |= 1u << RESET_REGISTER_SUPPORTED;
    for (unsigned i = 0; i < sizeof reg; i++)
        fadt[FADT_RESET_REGISTER + i] = reg[i];
    fadt[FADT_RESET_VALUE] = RESET_VALUE;
    fadt[FADT_CHECKSUM] = (uint8_t)(fadt[FADT_CHECKSUM] - sum(fadt, *(const uint32_t *)(fadt + 4)));
    say(system, "firmware: the FADT's reset register is port 0x", RESET_PORT);
    return EFI_SUCCESS;
}

efi_status EFIAPI efi_main(efi_handle handle, struct efi_system_table *system)
{
    efi_status status = install_smbios(system);

    (void)handle;
    return status ? status : set_reset_register(system);
}
