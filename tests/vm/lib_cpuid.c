/* A UEFI application: which hypervisor CPUID names on each processor, by the firmware's multi-processor services. */
#include "efi/uefi.h"

#define PROCESSORS 64
#define LEAF_HYPERVISOR 0x40000000u

static const char digits[] = "0123456789abcdef";

efi_status EFIAPI efi_main(efi_handle handle, struct efi_system_table *system);

struct seen {
    uint32_t processors;
    struct {
        uint32_t apic_id;
        uint32_t name[3];
    } processor[PROCESSORS];
};

static void cpuid(uint32_t leaf, uint32_t *a, uint32_t *b, uint32_t *c, uint32_t *d)
{
    __asm__ volatile("cpuid" : "=a"(*a), "=b"(*b), "=c"(*c), "=d"(*d) : "a"(leaf), "c"(0));
}

static void EFIAPI look(void *argument)
{
    struct seen *seen = argument;
    uint32_t number = __atomic_fetch_add(&seen->processors, 1, __ATOMIC_SEQ_CST), ignored, b;

    if (number >= PROCESSORS)
        return;
    cpuid(1, &ignored, &b, &ignored, &ignored);
    seen->processor[number].apic_id = b >> 24;
    uint32_t *name = seen->processor[number].name;
    cpuid(LEAF_HYPERVISOR, &ignored, &name[0], &name[1], &name[2]);
}

static void say(const struct efi_system_table *system, uint32_t apic_id, const uint8_t *name)
{
    efi_char line[40];
    unsigned at = 0;

    for (const char *text = "cpuid: "; *text; text++)
        line[at++] = (uint8_t)*text;
    line[at++] = (uint8_t)digits[apic_id >> 4 & 15];
    line[at++] = (uint8_t)digits[apic_id & 15];
    line[at++] = ' ';
    for (unsigned i = 0; i < 12; i++)
        line[at++] = name[i] > ' ' && name[i] < 0x7f ? name[i] : '.';
    line[at++] = '\r';
    line[at++] = '\n';
    line[at] = 0;
    system->out->output_string(system->out, line);
}

efi_status EFIAPI efi_main(efi_handle handle, struct efi_system_table *system)
{
    const struct efi_guid guid = {0x3fdda605, 0xa76e, 0x4f46, {0xad, 0x29, 0x12, 0xf4, 0x53, 0x1b, 0x3d, 0x08}};
    static struct seen seen;
    struct efi_mp_services *services;

    (void)handle;
    look(&seen);
    if (!system->boot->locate_protocol(&guid, NULL, (void **)&services))
        services->start_all(services, look, false, NULL, 0, &seen, NULL);
    for (uint32_t i = 0; i < seen.processors && i < PROCESSORS; i++)
        say(system, seen.processor[i].apic_id, (const uint8_t *)seen.processor[i].name);
    return EFI_SUCCESS;
}
