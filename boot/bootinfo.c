#include "boot/bootinfo.h"

#include "kernel/string.h"

/* Multiboot2 specification 3.6 "Boot information". */
#define HEADER_SIZE 8 /* of the block: total size, reserved word; of each tag: type, size */
#define TAG_ALIGN 8

enum tag_type {
    TAG_END = 0,
    TAG_COMMAND_LINE = 1,
    TAG_MODULE = 3,
    TAG_MEMORY_MAP = 6,
    TAG_RSDP_V1 = 14,
    TAG_RSDP_V2 = 15,
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

static uint32_t get32(const uint8_t *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static uint64_t get64(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

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
    uint32_t start = get32(tag->body + MODULE_START), end = get32(tag->body + MODULE_END);
    if (end < start)
        return ERROR_MODULE_RANGE;
    module->start = start;
    module->size = end - start;
    enum error error = copy_string(tag, MODULE_STRING, info, &module->string);
    if (!error)
        info->modules++;
    return error;
}

static enum error add_region(const uint8_t *entry, struct bootinfo *info)
{
    struct boot_region region = {get64(entry + ENTRY_BASE), get64(entry + ENTRY_LENGTH), get32(entry + ENTRY_TYPE)};

    if (region.size == 0)
        return ERROR_NONE;
    if (region.base + region.size < region.base && region.base + region.size != 0)
        return ERROR_REGION_RANGE;
    if (info->regions == BOOTINFO_MAX_REGIONS)
        return ERROR_REGIONS_FULL;
    info->region[info->regions++] = region;
    return ERROR_NONE;
}

static enum error parse_memory_map(const struct tag *tag, struct bootinfo *info)
{
    if (tag->size < MAP_ENTRIES)
        return ERROR_TAG_SHORT;
    uint32_t entry_size = get32(tag->body + MAP_ENTRY_SIZE);
    if (entry_size < ENTRY_MIN_SIZE)
        return ERROR_MAP_ENTRY_SIZE;
    for (uint32_t at = MAP_ENTRIES; tag->size - at >= entry_size; at += entry_size) {
        enum error error = add_region(tag->body + at, info);
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
    default:
        return ERROR_NONE;
    }
}

static enum error parse_tags(const uint8_t *block, uint64_t size, struct bootinfo *info)
{
    uint64_t at = HEADER_SIZE;

    while (at < size && size - at >= HEADER_SIZE) {
        uint32_t tag_size = get32(block + at + 4);
        if (tag_size < HEADER_SIZE || tag_size > size - at)
            return ERROR_TAG_SIZE;
        struct tag tag = {get32(block + at), tag_size - HEADER_SIZE, block + at + HEADER_SIZE};
        if (tag.type == TAG_END)
            return info->regions ? ERROR_NONE : ERROR_NO_MAP;
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
    if (size < HEADER_SIZE)
        return -ERROR_BLOCK_SHORT;
    uint32_t total = get32(mbi);
    if (total < HEADER_SIZE || total > size)
        return -ERROR_BLOCK_SHORT;
    return -(int)parse_tags(mbi, total, info);
}

const char *bootinfo_error(int error)
{
    return error <= 0 && -error < (int)ARRAY_SIZE(error_texts) ? error_texts[-error] : "unknown error";
}
