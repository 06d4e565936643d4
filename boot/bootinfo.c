#include "boot/bootinfo.h"

#include "kernel/bytes.h"
#include "kernel/string.h"

/* Multiboot2 specification 3.6 "Boot information". */
#define HEADER_SIZE 8 /* of the block: total size, reserved word; of each tag: type, size */
#define TAG_ALIGN 8

enum tag_type {
    TAG_END = 0,
    TAG_COMMAND_LINE = 1,
    TAG_MODULE = 3,
    TAG_MEMORY_MAP = 6,
    TAG_FRAMEBUFFER = 8,
    TAG_EFI64 = 12,
    TAG_RSDP_V1 = 14,
    TAG_RSDP_V2 = 15,
    TAG_EFI_MAP = 17,
};

#define MODULE_START 0 /* offsets in a tag's body */
#define MODULE_END 4
#define MODULE_STRING 8
#define MAP_ENTRY_SIZE 0
#define MAP_ENTRIES 8
#define ENTRY_BASE 0 /* offsets in a memory map entry */
#define ENTRY_LENGTH 8
#define ENTRY_TYPE 16
#define ENTRY_MIN_SIZE 24
#define SCREEN_BASE 0 /* offsets in the body of a framebuffer tag */
#define SCREEN_PITCH 8
#define SCREEN_WIDTH 12
#define SCREEN_HEIGHT 16
#define SCREEN_BITS 20
#define SCREEN_TYPE 21
#define SCREEN_COLOURS 24 /* red, green, blue: position and size each */
#define SCREEN_RGB_SIZE 30

#define ERRORS(ERROR)                                                                                                  \
    ERROR(NONE, "no error")                                                                                            \
    ERROR(BLOCK_SHORT, "the boot information block is shorter than it says")                                           \
    ERROR(TAG_SIZE, "a tag of the boot information does not fit in the block")                                         \
    ERROR(NO_END, "the boot information has no end tag")                                                               \
    ERROR(TAG_SHORT, "a tag of the boot information is too short for its type")                                        \
    ERROR(STRING_OPEN, "a string of the boot information is not terminated")                                           \
    ERROR(STRINGS_FULL, "the boot command lines are too long")                                                         \
    ERROR(MODULES_FULL, "too many boot modules")                                                                       \
    ERROR(MODULE_RANGE, "a boot module ends before it starts")                                                         \
    ERROR(MAP_ENTRY_SIZE, "the memory map's entries have an impossible size")                                          \
    ERROR(REGIONS_FULL, "the memory map has too many entries")                                                         \
    ERROR(EFI_MAP, "UEFI's memory map contradicts itself or has too many entries")                                     \
    ERROR(REGION_RANGE, "a memory region reaches beyond the address space")                                            \
    ERROR(NO_MAP, "the boot loader gave no memory map")

enum error {
#define ERROR(name, text) ERROR_##name,
    ERRORS(ERROR)
#undef ERROR
};

static const char *const error_texts[] = {
#define ERROR(name, text) text,
    ERRORS(ERROR)
#undef ERROR
};

/* A tag without its header. */
struct tag {
    uint32_t type;
    uint32_t size;
    const uint8_t *body;
};

/* Copies the string that starts at `at` in the tag's body into info->strings. */
static enum error copy_string(const struct tag *tag, uint32_t at, struct bootinfo *info, const char **copy)
{
    size_t room = tag->size - at;
    size_t length = strnlen((const char *)tag->body + at, room);

    if (length == room)
        return ERROR_STRING_OPEN;
    if (length >= BOOTINFO_STRINGS - info->strings_used)
        return ERROR_STRINGS_FULL;
    memcpy(info->strings + info->strings_used, tag->body + at, length + 1);
    *copy = info->strings + info->strings_used;
    info->strings_used += (uint32_t)length + 1;
    return ERROR_NONE;
}

static enum error parse_command_line(const struct tag *tag, struct bootinfo *info)
{
    return copy_string(tag, 0, info, &info->command_line);
}

static enum error parse_module(const struct tag *tag, struct bootinfo *info)
{
    if (tag->size < MODULE_STRING)
        return ERROR_TAG_SHORT;
    if (info->modules == BOOTINFO_MAX_MODULES)
        return ERROR_MODULES_FULL;
    struct boot_module *module = &info->module[info->modules];
    uint32_t start = bytes_get32(tag->body + MODULE_START), end = bytes_get32(tag->body + MODULE_END);
    if (end < start)
        return ERROR_MODULE_RANGE;
    module->start = start;
    module->size = end - start;
    enum error error = copy_string(tag, MODULE_STRING, info, &module->string);
    if (!error)
        info->modules++;
    return error;
}

/* A neighbour of the same type becomes one with the region before it: UEFI names each piece that it once gave out. */
static enum error add_region(struct boot_region region, struct bootinfo *info)
{
    struct boot_region *last = info->regions ? &info->region[info->regions - 1] : NULL;

    if (region.size == 0)
        return ERROR_NONE;
    if (region.base + region.size < region.base && region.base + region.size != 0)
        return ERROR_REGION_RANGE;
    if (last && last->type == region.type && last->base + last->size == region.base) {
        last->size += region.size;
        return ERROR_NONE;
    }
    if (info->regions == BOOTINFO_MAX_REGIONS)
        return ERROR_REGIONS_FULL;
    info->region[info->regions++] = region;
    return ERROR_NONE;
}

static enum error parse_memory_map(const struct tag *tag, struct bootinfo *info)
{
    if (tag->size < MAP_ENTRIES)
        return ERROR_TAG_SHORT;
    uint32_t entry_size = bytes_get32(tag->body + MAP_ENTRY_SIZE);
    if (entry_size < ENTRY_MIN_SIZE)
        return ERROR_MAP_ENTRY_SIZE;
    for (uint32_t at = MAP_ENTRIES; tag->size - at >= entry_size; at += entry_size) {
        const uint8_t *entry = tag->body + at;
        struct boot_region region = {bytes_get64(entry + ENTRY_BASE), bytes_get64(entry + ENTRY_LENGTH),
                                     bytes_get32(entry + ENTRY_TYPE)};
        enum error error = add_region(region, info);
        if (error)
            return error;
    }
    return ERROR_NONE;
}

/* The newer structure replaces the older one, whichever comes first. */
static enum error parse_rsdp(const struct tag *tag, struct bootinfo *info)
{
    uint32_t size = MIN(tag->size, (uint32_t)sizeof info->rsdp);

    if (size <= info->rsdp_size)
        return ERROR_NONE;
    memcpy(info->rsdp, tag->body, size);
    info->rsdp_size = size;
    return ERROR_NONE;
}

static enum error parse_screen(const struct tag *tag, struct bootinfo *info)
{
    if (tag->size < SCREEN_TYPE + 1)
        return ERROR_TAG_SHORT;
    const uint8_t *body = tag->body, *colours = body + SCREEN_COLOURS;
    uint8_t type = body[SCREEN_TYPE];
    if (type > SCREEN_TEXT || (type == SCREEN_RGB && tag->size < SCREEN_RGB_SIZE))
        return ERROR_NONE; /* a screen that nobody knows how to draw on */
    info->screen = (struct boot_framebuffer){
        .type = (enum boot_screen)type,
        .base = bytes_get64(body + SCREEN_BASE),
        .pitch = bytes_get32(body + SCREEN_PITCH),
        .width = bytes_get32(body + SCREEN_WIDTH),
        .height = bytes_get32(body + SCREEN_HEIGHT),
        .bits = body[SCREEN_BITS],
    };
    if (type == SCREEN_RGB) {
        info->screen.red = (struct boot_colour){colours[0], colours[1]};
        info->screen.green = (struct boot_colour){colours[2], colours[3]};
        info->screen.blue = (struct boot_colour){colours[4], colours[5]};
    }
    return ERROR_NONE;
}

static enum error parse_efi64(const struct tag *tag, struct bootinfo *info)
{
    if (tag->size < sizeof info->efi_system_table)
        return ERROR_TAG_SHORT;
    info->efi_system_table = bytes_get64(tag->body);
    return ERROR_NONE;
}

static enum error parse_efi_map(const struct tag *tag, struct bootinfo *info)
{
    return efi_map_set(&info->efi_map, tag->body, tag->size) ? ERROR_NONE : ERROR_EFI_MAP;
}

static enum error parse_tag(const struct tag *tag, struct bootinfo *info)
{
    switch (tag->type) {
    case TAG_COMMAND_LINE:
        return parse_command_line(tag, info);
    case TAG_MODULE:
        return parse_module(tag, info);
    case TAG_MEMORY_MAP:
        return parse_memory_map(tag, info);
    case TAG_RSDP_V1:
    case TAG_RSDP_V2:
        return parse_rsdp(tag, info);
    case TAG_FRAMEBUFFER:
        return parse_screen(tag, info);
    case TAG_EFI64:
        return parse_efi64(tag, info);
    case TAG_EFI_MAP:
        return parse_efi_map(tag, info);
    default:
        return ERROR_NONE;
    }
}

/* The regions again, from UEFI's own map: the loader's has forgotten what the firmware's memory was for. */
static enum error use_efi_map(struct bootinfo *info)
{
    unsigned count = efi_map_count(&info->efi_map);

    if (!count)
        return ERROR_NONE;
    info->regions = 0;
    for (unsigned i = 0; i < count; i++) {
        struct efi_descriptor d = efi_map_get(&info->efi_map, i);
        uint32_t type = efi_region_type(d.type);
        enum error error = add_region((struct boot_region){d.base, d.size, type}, info);
        if (error)
            return error;
    }
    return ERROR_NONE;
}

static enum error finish(struct bootinfo *info)
{
    enum error error = use_efi_map(info);

    if (!error && !info->regions)
        error = ERROR_NO_MAP;
    return error;
}

static enum error parse_tags(const uint8_t *block, uint64_t size, struct bootinfo *info)
{
    uint64_t at = HEADER_SIZE;

    while (at < size && size - at >= HEADER_SIZE) {
        uint32_t tag_size = bytes_get32(block + at + 4);
        if (tag_size < HEADER_SIZE || tag_size > size - at)
            return ERROR_TAG_SIZE;
        struct tag tag = {bytes_get32(block + at), tag_size - HEADER_SIZE, block + at + HEADER_SIZE};
        if (tag.type == TAG_END)
            return finish(info);
        enum error error = parse_tag(&tag, info);
        if (error)
            return error;
        at += ALIGN_UP((uint64_t)tag_size, TAG_ALIGN);
    }
    return ERROR_NO_END;
}

int bootinfo_parse(const void *mbi, uint64_t size, struct bootinfo *info)
{
    memset(info, 0, sizeof *info);
    info->command_line = "";
    info->screen.type = SCREEN_NONE;
    if (size < HEADER_SIZE)
        return -ERROR_BLOCK_SHORT;
    uint32_t total = bytes_get32(mbi);
    if (total < HEADER_SIZE || total > size)
        return -ERROR_BLOCK_SHORT;
    return -(int)parse_tags(mbi, total, info);
}

const char *bootinfo_error(int error)
{
    return error <= 0 && -error < (int)ARRAY_SIZE(error_texts) ? error_texts[-error] : "unknown error";
}
