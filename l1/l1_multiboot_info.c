#include "l1/l1_multiboot_info.h"

#include "kernel/panic.h"
#include "kernel/string.h"

#define LOADER_NAME "Nestor"

#define MB1_HAS_MEMORY BIT(0)
#define MB1_HAS_COMMAND_LINE BIT(2)
#define MB1_HAS_MODULES BIT(3)
#define MB1_HAS_MMAP BIT(6)
#define MB1_HAS_LOADER_NAME BIT(9)
#define MB1_HAS_FRAMEBUFFER BIT(12)

/* The same in both versions: 3.3 of the older, 3.6.12 of the newer specification. */
struct PACKED mb_framebuffer {
    uint64_t base;
    uint32_t pitch, width, height;
    uint8_t bits, type;
    uint8_t colours[6]; /* in the newer, two bytes further on */
};

struct mb1_info {
    uint32_t flags, mem_lower, mem_upper, boot_device, cmdline, mods_count, mods_addr, syms[4];
    uint32_t mmap_length, mmap_addr, drives_length, drives_addr, config_table, boot_loader_name, apm_table;
    uint32_t vbe[4]; /* not given */
    struct mb_framebuffer framebuffer;
};
_Static_assert(offsetof(struct mb1_info, boot_loader_name) == 64, "specification 3.3");
struct mb1_module {
    uint32_t start, end, string, reserved;
};
struct PACKED mb1_region {
    uint32_t size; /* of what follows */
    uint64_t base, length;
    uint32_t type;
};

/* All that a multiboot 1 image is told, in one piece of memory. */
struct mb1_block {
    struct mb1_info info;
    struct mb1_module module[BOOTINFO_MAX_MODULES];
    struct mb1_region region[MEMMAP_MAX];
    char loader_name[sizeof LOADER_NAME];
    char strings[BOOTINFO_STRINGS];
};

enum {
    MB2_END = 0,
    MB2_COMMAND_LINE = 1,
    MB2_LOADER_NAME = 2,
    MB2_MODULE = 3,
    MB2_MEMORY = 4,
    MB2_MMAP = 6,
    MB2_FRAMEBUFFER = 8,
    MB2_EFI64 = 12,
    MB2_RSDP_OLD = 14,
    MB2_RSDP_NEW = 15,
    MB2_EFI_MAP = 17
};
#define RSDP_OLD_SIZE 20u

struct mb2_tag_head {
    uint32_t type, size;
};
struct mb2_region {
    uint64_t base, length;
    uint32_t type, reserved;
};

/* KiB of RAM without a gap from `base` on, at most `limit`. */
static uint32_t ram_from(const struct memmap *map, hpa_t base, uint64_t limit)
{
    for (unsigned i = 0; i < map->count; i++) {
        const struct memmap_region *region = &map->region[i];
        if (region->type == REGION_RAM && region->base <= base && base - region->base < region->size)
            return (uint32_t)(MIN(region->base + region->size - base, limit) / KIB);
    }
    return 0;
}

static uint32_t lower_memory(const struct memmap *map)
{
    return ram_from(map, 0, 640 * KIB);
}

static uint32_t upper_memory(const struct memmap *map)
{
    return ram_from(map, MIB, 4 * GIB - MIB);
}

/* Appends a string; its offset in the block in *offset. False when the room is used up. */
static bool add_string(struct mb1_block *block, uint32_t *used, const char *text, uint32_t *offset)
{
    uint64_t size = strlen(text) + 1;

    if (size > sizeof block->strings - *used)
        return false;
    memcpy(block->strings + *used, text, size);
    *offset = (uint32_t)offsetof(struct mb1_block, strings) + *used;
    *used += (uint32_t)size;
    return true;
}

static bool add_modules(const struct l1_input *in, struct mb1_block *block, hpa_t where, uint32_t *used)
{
    for (unsigned i = 1; i < in->modules; i++) {
        const struct boot_module *module = &in->module[i];
        uint32_t string;
        if (!add_string(block, used, module->string, &string))
            return false;
        block->module[i - 1] = (struct mb1_module){(uint32_t)module->start, (uint32_t)(module->start + module->size),
                                                   (uint32_t)where + string, 0};
    }
    return true;
}

static const struct boot_framebuffer *screen_of(const struct l1_input *in)
{
    return in->screen && (in->screen->type == SCREEN_RGB || in->screen->type == SCREEN_TEXT) ? in->screen : NULL;
}

static struct mb_framebuffer framebuffer_of(const struct boot_framebuffer *screen)
{
    return (struct mb_framebuffer){.base = screen->base,
                                   .pitch = screen->pitch,
                                   .width = screen->width,
                                   .height = screen->height,
                                   .bits = screen->bits,
                                   .type = (uint8_t)screen->type};
}

static void put_colours(const struct boot_framebuffer *screen, uint8_t *to)
{
    const struct boot_colour colours[3] = {screen->red, screen->green, screen->blue};

    for (unsigned i = 0; i < ARRAY_SIZE(colours); i++) {
        to[2 * i] = colours[i].position;
        to[2 * i + 1] = colours[i].size;
    }
}

static void add_framebuffer(const struct l1_input *in, struct mb1_info *info)
{
    const struct boot_framebuffer *screen = screen_of(in);

    if (!screen)
        return;
    info->framebuffer = framebuffer_of(screen);
    put_colours(screen, info->framebuffer.colours);
    info->flags |= MB1_HAS_FRAMEBUFFER;
}

static void add_regions(const struct memmap *map, struct mb1_block *block)
{
    for (unsigned i = 0; i < map->count; i++) {
        const struct memmap_region *region = &map->region[i];
        block->region[i] =
            (struct mb1_region){sizeof(struct mb1_region) - sizeof(uint32_t), region->base, region->size, region->type};
    }
}

const char *l1_multiboot1_info(const struct l1_input *in, struct l1_plan *plan, uint32_t *where)
{
    struct mb1_block *block = l1_blob(plan, sizeof *block);
    hpa_t base = 0;
    uint32_t used = 0, command_line;
    const char *error;

    ASSERT(block && in->modules <= BOOTINFO_MAX_MODULES);
    error = l1_place_low(in, plan, block, sizeof *block, &base);
    if (error)
        return error;
    if (!add_string(block, &used, in->module[0].string, &command_line) || !add_modules(in, block, base, &used))
        return "the command lines of L1 and its modules are too long";
    memcpy(block->loader_name, LOADER_NAME, sizeof LOADER_NAME);
    add_regions(in->map, block);
    block->info = (struct mb1_info){
        .flags = MB1_HAS_MEMORY | MB1_HAS_COMMAND_LINE | MB1_HAS_MODULES | MB1_HAS_MMAP | MB1_HAS_LOADER_NAME,
        .mem_lower = lower_memory(in->map),
        .mem_upper = upper_memory(in->map),
        .cmdline = (uint32_t)base + command_line,
        .mods_count = in->modules - 1,
        .mods_addr = (uint32_t)(base + offsetof(struct mb1_block, module)),
        .mmap_length = in->map->count * (uint32_t)sizeof(struct mb1_region),
        .mmap_addr = (uint32_t)(base + offsetof(struct mb1_block, region)),
        .boot_loader_name = (uint32_t)(base + offsetof(struct mb1_block, loader_name)),
    };
    add_framebuffer(in, &block->info);
    *where = (uint32_t)base;
    return NULL;
}

/* A multiboot 2 block under construction: tags one after the other, each on a border of 8 bytes. */
struct mb2_block {
    uint8_t *bytes;
    uint32_t used, room;
};

/* A tag with `size` bytes of contents, to be filled by the caller; NULL when the block is full. */
static void *add_tag(struct mb2_block *block, uint32_t type, uint64_t size)
{
    struct mb2_tag_head head = {type, (uint32_t)(sizeof head + size)};
    uint8_t *at = block->bytes + block->used;

    if (ALIGN_UP(sizeof head + size, 8) > block->room - block->used)
        return NULL;
    memcpy(at, &head, sizeof head);
    block->used += (uint32_t)ALIGN_UP(head.size, 8);
    return at + sizeof head;
}

static bool add_bytes(struct mb2_block *block, uint32_t type, const void *bytes, uint64_t size)
{
    void *to = add_tag(block, type, size);

    return to && memcpy(to, bytes, size);
}

static bool add_module_tag(struct mb2_block *block, const struct boot_module *module)
{
    uint32_t range[2] = {(uint32_t)module->start, (uint32_t)(module->start + module->size)};
    uint64_t length = strlen(module->string) + 1;
    uint8_t *to = add_tag(block, MB2_MODULE, sizeof range + length);

    if (!to)
        return false;
    memcpy(to, range, sizeof range);
    memcpy(to + sizeof range, module->string, length);
    return true;
}

static bool add_mmap_tag(struct mb2_block *block, const struct memmap *map)
{
    uint32_t head[2] = {sizeof(struct mb2_region), 0}; /* size of an entry, version */
    uint8_t *to = add_tag(block, MB2_MMAP, sizeof head + map->count * sizeof(struct mb2_region));

    if (!to)
        return false;
    memcpy(to, head, sizeof head);
    for (unsigned i = 0; i < map->count; i++) {
        struct mb2_region region = {map->region[i].base, map->region[i].size, map->region[i].type, 0};
        memcpy(to + sizeof head + i * sizeof region, &region, sizeof region);
    }
    return true;
}

static bool add_screen_tag(const struct l1_input *in, struct mb2_block *block)
{
    const struct boot_framebuffer *screen = screen_of(in);
    uint8_t body[sizeof(struct mb_framebuffer) + 2] = {0};

    if (!screen)
        return true;
    struct mb_framebuffer head = framebuffer_of(screen);
    memcpy(body, &head, offsetof(struct mb_framebuffer, colours));
    put_colours(screen, body + offsetof(struct mb_framebuffer, colours) + 2);
    return add_bytes(block, MB2_FRAMEBUFFER, body, sizeof body);
}

static bool add_efi_tags(const struct l1_input *in, struct mb2_block *block)
{
    const struct efi_map *map = in->efi_map;

    if (in->efi_system_table && !add_bytes(block, MB2_EFI64, &in->efi_system_table, sizeof in->efi_system_table))
        return false;
    if (!map || !map->size)
        return true;
    uint32_t head[2] = {map->descriptor_size, map->version};
    uint8_t *to = add_tag(block, MB2_EFI_MAP, sizeof head + map->size);
    if (!to)
        return false;
    memcpy(to, head, sizeof head);
    memcpy(to + sizeof head, map->bytes, map->size);
    return true;
}

static bool add_all_tags(const struct l1_input *in, struct mb2_block *block)
{
    uint32_t memory[2] = {lower_memory(in->map), upper_memory(in->map)};
    uint32_t rsdp_tag = in->rsdp_size > RSDP_OLD_SIZE ? MB2_RSDP_NEW : MB2_RSDP_OLD;
    bool fits = add_bytes(block, MB2_COMMAND_LINE, in->module[0].string, strlen(in->module[0].string) + 1) &&
                add_bytes(block, MB2_LOADER_NAME, LOADER_NAME, sizeof LOADER_NAME) &&
                add_bytes(block, MB2_MEMORY, memory, sizeof memory) && add_mmap_tag(block, in->map) &&
                add_screen_tag(in, block) && add_efi_tags(in, block);

    for (unsigned i = 1; fits && i < in->modules; i++)
        fits = add_module_tag(block, &in->module[i]);
    if (fits && in->rsdp_size)
        fits = add_bytes(block, rsdp_tag, in->rsdp, in->rsdp_size);
    return fits && add_tag(block, MB2_END, 0);
}

const char *l1_multiboot2_info(const struct l1_input *in, struct l1_plan *plan, uint32_t *where)
{
    uint32_t room = L1_BLOB_SIZE / 2, head[2] = {0};
    struct mb2_block block = {l1_blob(plan, room), sizeof head, room};
    const char *error;
    hpa_t base = 0;

    ASSERT(block.bytes);
    if (!add_all_tags(in, &block))
        return "the command lines of L1 and its modules, or the memory map, are too long";
    head[0] = block.used; /* total size; the second word is reserved */
    memcpy(block.bytes, head, sizeof head);
    error = l1_place_low(in, plan, block.bytes, block.used, &base);
    *where = (uint32_t)base;
    return error;
}
