#include "kernel/acpi.h"

#include "kernel/bytes.h"
#include "kernel/string.h"

/* ACPI 6.4 5.2.5 "Root System Description Pointer (RSDP)" */
#define RSDP_SIZE_V1 20
#define RSDP_SIZE_V2 36
#define RSDP_REVISION 15
#define RSDP_RSDT 16
#define RSDP_XSDT 24

/* 5.2.6 "System Description Table Header" */
#define HEADER_SIZE 36
#define HEADER_LENGTH 4
#define HEADER_CHECKSUM 9
#define TABLE_LIMIT (4 * MIB) /* a longer one is taken for damaged */

/* 5.2.9 "Fixed ACPI Description Table (FADT)" */
#define FADT_DSDT 40
#define FADT_X_DSDT 140
#define FADT_PM1A_CONTROL 64
#define FADT_PM1B_CONTROL 68
#define FADT_FLAGS 112
#define FADT_FLAG_RESET BIT(10)
#define FADT_RESET 116
#define FADT_RESET_VALUE 128
#define FADT_X_PM1A_CONTROL 172
#define FADT_X_PM1B_CONTROL 184
#define FADT_SIZE 196 /* as much of it as is read */

/* 5.2.3.2 "Generic Address Structure" */
#define GAS_SPACE 0
#define GAS_ADDRESS 4
#define GAS_SIZE 12
#define GAS_MEMORY 0
#define GAS_IO 1

/* 5.2.12 "Multiple APIC Description Table (MADT)" */
#define MADT_LAPIC 36
#define MADT_ENTRIES 44
#define ENTRY_LAPIC 0
#define ENTRY_LAPIC_SIZE 8
#define ENTRY_LAPIC_ADDRESS 5
#define ENTRY_LAPIC_ADDRESS_SIZE 12
#define ENTRY_X2APIC 9
#define ENTRY_X2APIC_SIZE 16
#define ENTRY_LARGEST 16
#define ENTRY_ENABLED BIT(0)
#define APIC_ID_NONE 0xff

enum { ERROR_ROOT_POINTER = -1, ERROR_ROOT_TABLE = -2, ERROR_TOO_MANY_CPUS = -3 };

struct reader {
    acpi_read_fn read;
    void *context;
};

static uint8_t sum_bytes(const uint8_t *bytes, uint64_t size)
{
    uint8_t sum = 0;

    for (uint64_t i = 0; i < size; i++)
        sum = (uint8_t)(sum + bytes[i]);
    return sum;
}

/* True if all of the table can be read and its bytes add up to 0. *length: its size. `signature`: 4 letters. */
static bool check_table(const struct reader *reader, hpa_t table, const char *signature, uint32_t *length)
{
    uint8_t chunk[256];
    uint8_t sum = 0;

    if (!reader->read(reader->context, table, chunk, HEADER_SIZE) || memcmp(chunk, signature, 4) != 0)
        return false;
    *length = bytes_get32(chunk + HEADER_LENGTH);
    if (*length < HEADER_SIZE || *length > TABLE_LIMIT)
        return false;
    for (uint32_t at = 0; at < *length; at += sizeof chunk) {
        uint64_t size = MIN(sizeof chunk, *length - at);
        if (!reader->read(reader->context, table + at, chunk, size))
            return false;
        sum = (uint8_t)(sum + sum_bytes(chunk, size));
    }
    return sum == 0;
}

static int add_cpu(struct acpi_info *info, const struct acpi_cpu *cpu)
{
    for (unsigned i = 0; i < info->cpus; i++)
        if (info->cpu[i].apic_id == cpu->apic_id)
            return 0; /* firmware may list a processor both ways */
    if (info->cpus == ACPI_MAX_CPUS)
        return ERROR_TOO_MANY_CPUS;
    info->cpu[info->cpus++] = *cpu;
    return 0;
}

/* `entry` holds `size` bytes, as many as the entry claims to have and at most ENTRY_LARGEST. */
static int parse_madt_entry(const uint8_t *entry, uint8_t size, hpa_t at, struct acpi_info *info)
{
    struct acpi_cpu cpu = {.entry = at, .entry_size = entry[1]};

    if (entry[0] == ENTRY_LAPIC && size >= ENTRY_LAPIC_SIZE && entry[3] != APIC_ID_NONE) {
        cpu.apic_id = entry[3];
        cpu.enabled = bytes_get32(entry + 4) & ENTRY_ENABLED;
        return add_cpu(info, &cpu);
    }
    if (entry[0] == ENTRY_X2APIC && size >= ENTRY_X2APIC_SIZE) {
        cpu.apic_id = bytes_get32(entry + 4);
        cpu.enabled = bytes_get32(entry + 8) & ENTRY_ENABLED;
        return add_cpu(info, &cpu);
    }
    if (entry[0] == ENTRY_LAPIC_ADDRESS && size >= ENTRY_LAPIC_ADDRESS_SIZE)
        info->lapic = bytes_get64(entry + 4);
    return 0;
}

static int parse_madt(const struct reader *reader, hpa_t table, uint32_t length, struct acpi_info *info)
{
    uint8_t entry[ENTRY_LARGEST];

    if (length < MADT_ENTRIES || !reader->read(reader->context, table + MADT_LAPIC, entry, 4))
        return 0;
    info->madt = table;
    info->lapic = bytes_get32(entry);
    for (uint32_t at = MADT_ENTRIES; at + 2 <= length; at += entry[1]) {
        if (!reader->read(reader->context, table + at, entry, 2) || entry[1] < 2 || entry[1] > length - at)
            break;
        uint8_t size = MIN(entry[1], ENTRY_LARGEST);
        if (!reader->read(reader->context, table + at, entry, size))
            break;
        int error = parse_madt_entry(entry, size, table + at, info);
        if (error)
            return error;
    }
    return 0;
}

/* The port of a PM1 control block: the extended address when it is there and is a port, else the old one. */
static uint16_t parse_port(const uint8_t *fadt, uint32_t old, uint32_t extended)
{
    const uint8_t *gas = fadt + extended;
    uint64_t port = gas[GAS_SPACE] == GAS_IO ? bytes_get64(gas + GAS_ADDRESS) : 0;

    if (!port)
        port = bytes_get32(fadt + old);
    return port <= UINT16_MAX ? (uint16_t)port : 0;
}

static void add_code(const struct reader *reader, hpa_t table, const char *signature, struct acpi_info *info)
{
    uint32_t length;

    if (info->code_tables < ACPI_MAX_CODE && check_table(reader, table, signature, &length))
        info->code[info->code_tables++] = table;
}

static void parse_fadt(const struct reader *reader, hpa_t table, uint32_t length, struct acpi_info *info)
{
    uint8_t fadt[FADT_SIZE] = {0}; /* what an older, shorter table lacks is 0 */

    if (!reader->read(reader->context, table, fadt, MIN(length, FADT_SIZE)))
        return;
    info->fadt = table;
    hpa_t dsdt = bytes_get64(fadt + FADT_X_DSDT);
    add_code(reader, dsdt ? dsdt : bytes_get32(fadt + FADT_DSDT), "DSDT", info);
    info->pm1a_control = parse_port(fadt, FADT_PM1A_CONTROL, FADT_X_PM1A_CONTROL);
    info->pm1b_control = parse_port(fadt, FADT_PM1B_CONTROL, FADT_X_PM1B_CONTROL);
    const uint8_t *reset = fadt + FADT_RESET;
    info->reset.address = bytes_get64(reset + GAS_ADDRESS);
    info->reset.is_io = reset[GAS_SPACE] == GAS_IO;
    info->reset.valid = (bytes_get32(fadt + FADT_FLAGS) & FADT_FLAG_RESET) && info->reset.address &&
                        (info->reset.is_io ? info->reset.address <= UINT16_MAX : reset[GAS_SPACE] == GAS_MEMORY);
    info->reset_value = fadt[FADT_RESET_VALUE];
}

static int parse_root(const struct reader *reader, hpa_t root, bool extended, struct acpi_info *info)
{
    uint32_t entry_size = extended ? 8 : 4;
    uint32_t root_length, length;

    if (!check_table(reader, root, extended ? "XSDT" : "RSDT", &root_length))
        return ERROR_ROOT_TABLE;
    for (uint32_t at = HEADER_SIZE; at + entry_size <= root_length; at += entry_size) {
        uint8_t entry[8] = {0};
        int error = 0;
        if (!reader->read(reader->context, root + at, entry, entry_size))
            return ERROR_ROOT_TABLE;
        hpa_t table = bytes_get64(entry);
        if (!info->madt && check_table(reader, table, "APIC", &length))
            error = parse_madt(reader, table, length, info);
        else if (!info->fadt && check_table(reader, table, "FACP", &length))
            parse_fadt(reader, table, length, info);
        else
            add_code(reader, table, "SSDT", info);
        if (error)
            return error;
    }
    return 0;
}

int acpi_parse(const void *rsdp, uint64_t rsdp_size, acpi_read_fn read, void *context, struct acpi_info *info)
{
    const uint8_t *root = rsdp;
    struct reader reader = {read, context};

    memset(info, 0, sizeof *info);
    if (rsdp_size < RSDP_SIZE_V1 || memcmp(root, "RSD PTR ", 8) != 0 || sum_bytes(root, RSDP_SIZE_V1) != 0)
        return ERROR_ROOT_POINTER;
    if (root[RSDP_REVISION] >= 2 && rsdp_size >= RSDP_SIZE_V2) {
        if (sum_bytes(root, RSDP_SIZE_V2) != 0)
            return ERROR_ROOT_POINTER;
        if (bytes_get64(root + RSDP_XSDT))
            return parse_root(&reader, bytes_get64(root + RSDP_XSDT), true, info);
    }
    return parse_root(&reader, bytes_get32(root + RSDP_RSDT), false, info);
}

const char *acpi_error(int error)
{
    switch (error) {
    case ERROR_ROOT_POINTER:
        return "the ACPI root pointer is damaged";
    case ERROR_ROOT_TABLE:
        return "the ACPI root table is damaged or cannot be read";
    case ERROR_TOO_MANY_CPUS:
        return "ACPI lists more processors than fit";
    default:
        return "no error";
    }
}

/* 20.2.5.1 "Namespace Modifier Objects Encoding": Name (_Sx_, Package ...) */
#define AML_NAME 0x08
#define AML_ROOT '\\'
#define AML_PACKAGE 0x12

/* True if _S2_ or _S3_ is defined at `at`, where six bytes can be read. */
static bool is_sleep(const uint8_t *at)
{
    return at[0] == '_' && at[1] == 'S' && (at[2] == '2' || at[2] == '3') && at[3] == '_' && at[4] == AML_PACKAGE;
}

static void mend_checksum(uint8_t *table)
{
    table[HEADER_CHECKSUM] = 0;
    table[HEADER_CHECKSUM] = (uint8_t)-sum_bytes(table, bytes_get32(table + HEADER_LENGTH));
}

unsigned acpi_hide_sleep(void *table, uint64_t size)
{
    uint8_t *bytes = table;
    unsigned hidden = 0;

    if (size < HEADER_SIZE || bytes_get32(bytes + HEADER_LENGTH) > size)
        return 0;
    for (uint64_t at = HEADER_SIZE + 1; at + 5 <= bytes_get32(bytes + HEADER_LENGTH); at++) {
        bool named = bytes[at - 1] == AML_NAME || (bytes[at - 1] == AML_ROOT && bytes[at - 2] == AML_NAME);
        if (!named || !is_sleep(bytes + at))
            continue;
        bytes[at] = 'X';
        hidden++;
    }
    if (hidden)
        mend_checksum(bytes);
    return hidden;
}

void acpi_disable_cpu(void *madt, void *entry)
{
    const uint32_t none = 0;
    uint8_t *table = madt, *at = entry;

    memcpy(at[0] == ENTRY_LAPIC ? at + 4 : at + 8, &none, sizeof none);
    mend_checksum(table);
}
