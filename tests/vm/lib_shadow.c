/* A UEFI application that calls nestor.efi as a firmware with a supervisor shadow stack in use does, for
 * tests/vm/efi-shell.t. The firmware's own way to start a program, by a long jump, would leave the shadow stack behind:
 * so it loads the image and calls it. It says what came back. */
#include "boot/efi_map.h"
#include "efi/uefi.h"
#include "kernel/msr.h"
#include "kernel/x86.h"

#define IA32_PL0_SSP 0x6a4
#define S_CET_SHADOW_STACK 1u
#define BOOT_DATA 4
#define LARGE_PAGE (2ull << 20)
#define ENTRIES 512
#define PRESENT BIT(0)
#define WRITABLE BIT(1)
#define DIRTY BIT(6)
#define LARGE BIT(7)
#define TABLE_ADDRESS BITS(51, 12)
#define IMAGE_SIZE (1 << 20)
#define PE_AT 0x3c
#define PE_ENTRY 40

efi_status EFIAPI efi_main(efi_handle handle, struct efi_system_table *system);
typedef efi_status(EFIAPI *entry_fn)(efi_handle handle, struct efi_system_table *system);
typedef efi_status(EFIAPI *load_image_fn)(bool boot, efi_handle parent, const void *path, const void *source,
                                          uint64_t size, efi_handle *image);

/* tests/vm/lib_shadow.asm: calls it with a shadow stack whose token is there. *moved: by how much SSP differs then. */
efi_status call_with_shadow_stack(entry_fn entry, efi_handle handle, struct efi_system_table *system, uint64_t *moved);

static const struct efi_guid loaded_image = {
    0x5b1b31a1, 0x9562, 0x11d2, {0x8e, 0x3f, 0x00, 0xa0, 0xc9, 0x69, 0x72, 0x3b}};

static void *allocate(const struct efi_system_table *system, uint64_t size)
{
    uint64_t place = UINT32_MAX;

    return system->boot->allocate_pages(EFI_ALLOCATE_MAX_ADDRESS, BOOT_DATA, size / EFI_PAGE, &place) ? NULL
                                                                                                     : (void *)place;
}

/* The table that `*entry` leads to. One large page becomes 512 of the next size. */
static uint64_t *split(const struct efi_system_table *system, uint64_t *entry, uint64_t step)
{
    if (*entry & LARGE) {
        uint64_t *table = allocate(system, EFI_PAGE), rights = *entry & ~TABLE_ADDRESS, base = *entry & TABLE_ADDRESS;
        for (unsigned i = 0; i < ENTRIES; i++)
            table[i] = (base + i * step) | (step == EFI_PAGE ? rights & ~LARGE : rights);
        *entry = (uint64_t)table | PRESENT | WRITABLE;
    }
    return (uint64_t *)(*entry & TABLE_ADDRESS);
}

/* Read-only and dirty: of a shadow stack (SDM 3A 4.6.1). CR0.WP is off meanwhile, as the tables may be read-only. */
static void protect(const struct efi_system_table *system, uint64_t page)
{
    uint64_t *pml4 = (uint64_t *)(read_cr3() & TABLE_ADDRESS), cr0 = read_cr0();

    write_cr0(cr0 & ~CR0_WP);
    uint64_t *pdpt = split(system, &pml4[page >> 39 & 511], 0);
    uint64_t *pd = split(system, &pdpt[page >> 30 & 511], LARGE_PAGE);
    uint64_t *table = split(system, &pd[page >> 21 & 511], EFI_PAGE);
    table[page >> 12 & 511] = (page & TABLE_ADDRESS) | PRESENT | DIRTY;
    write_cr3(read_cr3());
    write_cr0(cr0 | CR0_WP);
}

static void make_shadow_stack(const struct efi_system_table *system)
{
    uint8_t *page = allocate(system, EFI_PAGE);
    uint64_t *token = (uint64_t *)(page + EFI_PAGE) - 1;

    *token = (uint64_t)token;
    protect(system, (uint64_t)page);
    wrmsr(IA32_PL0_SSP, (uint64_t)token);
    wrmsr(IA32_S_CET, S_CET_SHADOW_STACK);
}

/* nestor.efi, loaded and relocated, as if it lay where this program does. NULL: it is not there. */
static entry_fn load(const struct efi_system_table *system, efi_handle own_handle, efi_handle *handle)
{
    const struct efi_guid guid = {0x964e5b22, 0x6459, 0x11d2, {0x8e, 0x39, 0x00, 0xa0, 0xc9, 0x69, 0x72, 0x3b}};
    struct efi_loaded_image *own, *image;
    struct efi_file_system *files;
    struct efi_file *root, *file;
    uint64_t size = IMAGE_SIZE;
    uint8_t *source = allocate(system, IMAGE_SIZE);

    if (system->boot->handle_protocol(own_handle, &loaded_image, (void **)&own) ||
        system->boot->handle_protocol(own->device, &guid, (void **)&files) || files->open_volume(files, &root) ||
        root->open(root, &file, u"\\EFI\\BOOT\\nestor.efi", EFI_FILE_READ, 0) || file->read(file, &size, source) ||
        ((load_image_fn)system->boot->load_image)(false, own_handle, own->path, source, size, handle) ||
        system->boot->handle_protocol(*handle, &loaded_image, (void **)&image))
        return NULL;
    image->device = own->device;
    const uint8_t *base = *(const uint8_t **)(image + 1); /* ImageBase is the next member */
    return (entry_fn)(base + *(const uint32_t *)(base + *(const uint32_t *)(base + PE_AT) + PE_ENTRY));
}

static void say(const struct efi_system_table *system, const efi_char *name, uint64_t value)
{
    efi_char digits[] = u"0000000000000000\r\n";

    for (unsigned i = 0; i < 16; i++)
        digits[i] = (efi_char)"0123456789abcdef"[value >> (60 - 4 * i) & 15];
    system->out->output_string(system->out, name);
    system->out->output_string(system->out, digits);
}

efi_status EFIAPI efi_main(efi_handle own_handle, struct efi_system_table *system)
{
    uint64_t moved = 1;
    efi_handle handle;
    entry_fn entry = load(system, own_handle, &handle);

    if (!entry)
        return EFI_LOAD_ERROR;
    make_shadow_stack(system);
    efi_status status = call_with_shadow_stack(entry, handle, system, &moved);
    say(system, u"shadow: status ", status);
    say(system, u"shadow: SSP moved by ", moved);
    say(system, u"shadow: IA32_S_CET was ", rdmsr(IA32_S_CET));
    wrmsr(IA32_S_CET, 0);
    return EFI_SUCCESS;
}
