/* A UEFI application that tells what nestor.efi must leave alone, in lines for tests/vm/efi-shell.t: each processor's
 * state and which hypervisor CPUID names, by the firmware's multi-processor services; the memory map; a variable,
 * which it also changes. With the word `cet` it first turns CR4.CET on, with `la57` 5-level paging, and leaves it so.
 * It returns an error, so that a boot manager goes on to its next entry. */
#include "boot/efi_map.h"
#include "efi/present.h"
#include "efi/uefi.h"
#include "kernel/msr.h"
#include "kernel/x86.h"

#define PROCESSORS 64
#define CPUID_ECX_VMX BIT(5)
#define LEAF_HYPERVISOR 0x40000000u
#define MAP_SIZE 65536
#define LINE 80
#define EFI_BOOT_DATA 4
#define PRESENT 1u
#define WRITABLE 2u

efi_status EFIAPI efi_main(efi_handle handle, struct efi_system_table *system);
void levels_5(void *pml5); /* tests/vm/lib_levels.asm */

static struct seen {
    uint32_t processors;
    struct processor {
        uint32_t apic_id, name[3];
        uint64_t feature_control, pat, apic_base;
        struct in_place_state state;
    } processor[PROCESSORS];
} seen;

/* UEFI 2.10 4.5, 4.6 */
struct runtime_services {
    uint8_t header[24];
    void *time[4], *set_virtual_address_map, *convert_pointer;
    efi_status(EFIAPI *get_variable)(const efi_char *name, const struct efi_guid *vendor, uint32_t *attributes,
                                     uint64_t *size, void *data);
    void *get_next_variable_name;
    efi_status(EFIAPI *set_variable)(const efi_char *name, const struct efi_guid *vendor, uint32_t attributes,
                                     uint64_t size, const void *data);
};
#define ATTRIBUTES 7 /* non-volatile, for boot services and at run time */

struct memory_descriptor {
    uint32_t type;
    uint64_t start, virtual_start, pages, attributes;
};

/* --- Lines of text --- */

static struct {
    efi_char text[LINE];
    unsigned length;
} line;

static void put(const char *text)
{
    while (*text && line.length < LINE - 3)
        line.text[line.length++] = (uint8_t)*text++;
}

static void put_hex(uint64_t value, unsigned digits)
{
    char text[17];

    for (unsigned i = 0; i < digits; i++)
        text[i] = "0123456789abcdef"[value >> 4 * (digits - 1 - i) & 15];
    text[digits] = 0;
    put(text);
}

static void put_value(const char *name, uint64_t value)
{
    put(name);
    put_hex(value, 16);
}

static void end_line(const struct efi_system_table *system)
{
    line.text[line.length++] = '\r';
    line.text[line.length++] = '\n';
    line.text[line.length] = 0;
    system->out->output_string(system->out, line.text);
    line.length = 0;
}

/* --- Processors --- */

static void EFIAPI look(void *argument)
{
    uint32_t number = __atomic_fetch_add(&seen.processors, 1, __ATOMIC_SEQ_CST);
    struct processor *processor = &seen.processor[number];
    struct cpuid_result vendor;

    if (number >= PROCESSORS)
        return;
    if (argument)
        write_cr4(read_cr4() | CR4_CET);
    processor->apic_id = cpuid(1, 0).ebx >> 24;
    vendor = cpuid(LEAF_HYPERVISOR, 0);
    processor->name[0] = vendor.ebx;
    processor->name[1] = vendor.ecx;
    processor->name[2] = vendor.edx;
    if (cpuid(1, 0).ecx & CPUID_ECX_VMX)
        processor->feature_control = rdmsr(IA32_FEATURE_CONTROL);
    processor->pat = rdmsr(IA32_PAT);
    processor->apic_base = rdmsr(IA32_APIC_BASE);
    present_read(&processor->state);
}

static void say_name(const struct efi_system_table *system, const struct processor *processor)
{
    const uint8_t *name = (const uint8_t *)processor->name;
    char text[13];

    for (unsigned i = 0; i < 12; i++)
        text[i] = name[i] > ' ' && name[i] < 0x7f ? (char)name[i] : '.';
    text[12] = 0;
    put("cpuid: ");
    put_hex(processor->apic_id, 2);
    put(" ");
    put(text);
    end_line(system);
}

static void say_value(const struct efi_system_table *system, uint32_t apic_id, const char *name, uint64_t value)
{
    put("state: ");
    put_hex(apic_id, 2);
    put(" ");
    put(name);
    put_value(" ", value);
    end_line(system);
}

static void say_state(const struct efi_system_table *system, const struct processor *processor)
{
    const struct in_place_state *state = &processor->state;
    const struct descriptor_pointer *gdtr = (const void *)state->gdtr, *idtr = (const void *)state->idtr;
    const struct {
        const char *name;
        uint64_t value;
    } rows[] = {
        {"CR0", state->cr0},
        {"CR3", state->cr3},
        {"CR4", state->cr4},
        {"EFER", state->efer},
        {"GDTR", gdtr->base},
        {"IDTR", idtr->base},
        {"limits", (uint64_t)gdtr->limit << 16 | idtr->limit},
        {"CS-SS-DS-ES", (uint64_t)state->cs << 48 | (uint64_t)state->ss << 32 | (uint64_t)state->ds << 16 | state->es},
        {"FS-GS-LDTR-TR",
         (uint64_t)state->fs << 48 | (uint64_t)state->gs << 32 | (uint64_t)state->ldtr << 16 | state->tr},
        {"IA32_FEATURE_CONTROL", processor->feature_control},
        {"IA32_PAT", processor->pat},
        {"IA32_APIC_BASE", processor->apic_base},
    };

    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
        say_value(system, processor->apic_id, rows[i].name, rows[i].value);
}

/* --- Memory, and a variable --- */

/* UEFI 2.10 7.2, "Memory Type Usage after ExitBootServices()": what a system may use then. */
static bool is_free(const struct memory_descriptor *row)
{
    return (row->type >= 1 && row->type <= 4) || row->type == 7;
}

/* Free memory that adjoins is one row, as type 7: what is the firmware's of it changes all the time. */
static void say_map(const struct efi_system_table *system)
{
    static uint8_t map[MAP_SIZE] __attribute__((aligned(8)));
    uint64_t size = sizeof map, key, step, end;
    uint32_t version;

    if (system->boot->get_memory_map(&size, map, &key, &step, &version))
        return;
    for (uint64_t at = 0; at < size; at += step) {
        const struct memory_descriptor *row = (const void *)(map + at), *next = (const void *)(map + at + step);
        end = row->start + row->pages * EFI_PAGE;
        for (; is_free(row) && at + step < size && is_free(next) && next->start == end;
             next = (const void *)(map + at + step)) {
            end += next->pages * EFI_PAGE;
            at += step;
        }
        put("map: ");
        put_hex(is_free(row) ? 7 : row->type, 2);
        put_value(" ", row->start);
        put_value(" ", end);
        end_line(system);
    }
}

/* Reads the number that an earlier call of this program left, and sets one more. */
static void count_variable(const struct efi_system_table *system)
{
    const struct efi_guid own = {0x4e657374, 0x6f72, 0x4c31, {0x9d, 0x0f, 0x1b, 0x3c, 0x53, 0x76, 0x10, 0x02}};
    const struct runtime_services *runtime = system->runtime_services;
    uint64_t count = 0, size = sizeof count;
    uint32_t attributes = 0;
    efi_status status = runtime->get_variable(u"NestorLooks", &own, &attributes, &size, &count);

    put_value("variable: read ", status);
    put_value(" ", count);
    count++;
    put_value(" set ", runtime->set_variable(u"NestorLooks", &own, ATTRIBUTES, sizeof count, &count));
    end_line(system);
}

/* The word stands among the load options. */
static bool is_told(const struct efi_system_table *system, efi_handle handle, const char *word)
{
    const struct efi_guid guid = {0x5b1b31a1, 0x9562, 0x11d2, {0x8e, 0x3f, 0x00, 0xa0, 0xc9, 0x69, 0x72, 0x3b}};
    const struct efi_loaded_image *image;
    uint32_t matched = 0;

    if (system->boot->handle_protocol(handle, &guid, (void **)&image))
        return false;
    for (uint32_t i = 0; i < image->options_size / sizeof(efi_char) && word[matched]; i++)
        matched = image->options[i] == (uint8_t)word[matched] ? matched + 1 : 0;
    return !word[matched];
}

/* Of this processor; the firmware has the others follow when it starts them next. */
static void page_by_5_levels(const struct efi_system_table *system)
{
    uint64_t page = UINT32_MAX;

    if (system->boot->allocate_pages(EFI_ALLOCATE_MAX_ADDRESS, EFI_BOOT_DATA, 1, &page))
        return;
    uint64_t *pml5 = (uint64_t *)page;
    for (unsigned i = 0; i < EFI_PAGE / sizeof *pml5; i++)
        pml5[i] = i ? 0 : (read_cr3() & ~(EFI_PAGE - 1ull)) | PRESENT | WRITABLE;
    levels_5(pml5);
}

efi_status EFIAPI efi_main(efi_handle handle, struct efi_system_table *system)
{
    const struct efi_guid guid = {0x3fdda605, 0xa76e, 0x4f46, {0xad, 0x29, 0x12, 0xf4, 0x53, 0x1b, 0x3d, 0x08}};
    struct efi_mp_services *services;
    void *with_cet = is_told(system, handle, " cet") ? system : NULL;

    if (is_told(system, handle, " la57"))
        page_by_5_levels(system);
    put("look: begin");
    end_line(system);
    look(with_cet);
    if (!system->boot->locate_protocol(&guid, NULL, (void **)&services))
        services->start_all(services, look, true, NULL, 0, with_cet, NULL);
    for (uint32_t i = 0; i < seen.processors && i < PROCESSORS; i++) {
        say_name(system, &seen.processor[i]);
        say_state(system, &seen.processor[i]);
    }
    say_map(system);
    count_variable(system);
    put("look: end");
    end_line(system);
    return EFI_NOT_STARTED;
}
