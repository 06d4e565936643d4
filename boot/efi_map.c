#include "boot/efi_map.h"

#include "boot/bootinfo.h"
#include "kernel/bytes.h"
#include "kernel/string.h"

/* Offsets in the body of the multiboot2 tag, and in a descriptor (UEFI 2.10 7.2.3). */
#define TAG_DESCRIPTOR_SIZE 0
#define TAG_VERSION 4
#define TAG_DESCRIPTORS 8
#define TYPE 0
#define START 8
#define PAGES 24
#define DESCRIPTOR_MIN 40 /* attributes included */
#define DESCRIPTOR_MAX 256

bool efi_map_set(struct efi_map *map, const uint8_t *body, uint32_t size)
{
    if (size < TAG_DESCRIPTORS)
        return false;
    uint32_t step = bytes_get32(body + TAG_DESCRIPTOR_SIZE);
    if (step < DESCRIPTOR_MIN || step > DESCRIPTOR_MAX || step % 8)
        return false;
    uint32_t bytes = (size - TAG_DESCRIPTORS) / step * step;
    if (bytes > sizeof map->bytes)
        return false;
    map->size = bytes;
    map->descriptor_size = step;
    map->version = bytes_get32(body + TAG_VERSION);
    memcpy(map->bytes, body + TAG_DESCRIPTORS, bytes);
    return true;
}

unsigned efi_map_count(const struct efi_map *map)
{
    return map->size ? map->size / map->descriptor_size : 0;
}

static struct efi_descriptor read_descriptor(const uint8_t *at)
{
    struct efi_descriptor d = {bytes_get32(at + TYPE), bytes_get64(at + START), 0};
    uint64_t pages = bytes_get64(at + PAGES), most = (~0ull - d.base) / EFI_PAGE;

    d.size = MIN(pages, most) * EFI_PAGE; /* nothing can be beyond the address space */
    return d;
}

struct efi_descriptor efi_map_get(const struct efi_map *map, unsigned index)
{
    return read_descriptor(map->bytes + (uint64_t)index * map->descriptor_size);
}

uint32_t efi_region_type(uint32_t type)
{
    switch (type) {
    case EFI_LOADER_CODE:
    case EFI_LOADER_DATA:
    case EFI_BOOT_SERVICES_CODE:
    case EFI_BOOT_SERVICES_DATA:
    case EFI_CONVENTIONAL:
        return REGION_RAM;
    case EFI_ACPI_RECLAIM:
        return REGION_ACPI;
    case EFI_ACPI_NVS:
        return REGION_NVS;
    case EFI_UNUSABLE:
        return REGION_BAD;
    case EFI_PERSISTENT:
        return REGION_PERSISTENT;
    default:
        return REGION_RESERVED;
    }
}

bool efi_is_free(uint32_t type)
{
    return type == EFI_CONVENTIONAL || type == EFI_LOADER_CODE || type == EFI_LOADER_DATA;
}

static void write_range(uint8_t *at, hpa_t base, hpa_t end)
{
    uint64_t pages = (end - base) / EFI_PAGE;

    memcpy(at + START, &base, sizeof base);
    memcpy(at + PAGES, &pages, sizeof pages);
}

/* Makes room for one more behind the descriptor at `at`, with the same content. */
static uint8_t *double_descriptor(struct efi_map *map, uint8_t *at)
{
    uint8_t *next = at + map->descriptor_size;

    memmove(next, at, (size_t)(map->bytes + map->size - at));
    map->size += map->descriptor_size;
    return next;
}

/* Cuts the descriptor at `at` at the range's borders, and reserves what lies between them. Returns the last piece. */
static uint8_t *reserve_part(struct efi_map *map, uint8_t *at, hpa_t base, hpa_t end)
{
    const uint32_t reserved = EFI_RESERVED;
    struct efi_descriptor d = read_descriptor(at);
    hpa_t d_end = d.base + d.size;

    if (d.base < base) {
        write_range(at, d.base, base);
        at = double_descriptor(map, at);
    }
    uint8_t *inner = at;
    if (d_end > end) {
        at = double_descriptor(map, at);
        write_range(at, end, d_end);
    }
    memcpy(inner + TYPE, &reserved, sizeof reserved);
    write_range(inner, MAX(base, d.base), MIN(end, d_end));
    return at;
}

bool efi_map_reserve(struct efi_map *map, hpa_t base, uint64_t size)
{
    hpa_t end = base + size;

    /* Descriptors do not overlap: two are cut at most, each grows by one, or one by two. */
    if (!map->size || sizeof map->bytes - map->size < 2 * map->descriptor_size)
        return false;
    for (uint8_t *at = map->bytes; at < map->bytes + map->size; at += map->descriptor_size) {
        struct efi_descriptor d = read_descriptor(at);
        if (d.size && d.base < end && base < d.base + d.size)
            at = reserve_part(map, at, base, end);
    }
    return true;
}
