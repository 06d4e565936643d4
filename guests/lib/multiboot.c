#include "guests/lib/multiboot.h"

#include "guests/lib/mem.h"

#define LOADER_MAGIC 0x2badb002
#define INFO_CMDLINE BIT(2)
#define INFO_MODULES BIT(3)
#define INFO_MMAP BIT(6)
#define INFO_SCREEN BIT(12)
#define MMAP_AVAILABLE 1
#define CARVEOUT_MIN (16 * MIB)

struct info {
    uint32_t flags, mem_lower, mem_upper, boot_device, cmdline, mods_count, mods_addr;
    uint32_t syms[4];
    uint32_t mmap_length, mmap_addr;
    uint32_t not_read[9]; /* drives, APM, VBE */
    struct {
        uint64_t base;
        uint32_t pitch, width, height;
        uint8_t bits, type;
        struct boot_colour colour[4]; /* red, green, blue, from the first or the second on: find_colours() */
    } PACKED screen;
};
_Static_assert(offsetof(struct info, screen) == 88, "multiboot 0.6.96 3.3");

struct info_module {
    uint32_t start, end, string, reserved;
};

struct info_mmap {
    uint32_t size; /* of the rest of the entry */
    uint64_t base, length;
    uint32_t type;
} PACKED;

static struct region regions[32];
static unsigned n_regions;
static struct module modules[8];
static unsigned n_modules;
static char args[1024];
static struct boot_framebuffer screen;
static bool has_screen;

static void copy_regions(const struct info *info)
{
    uint64_t end = (uint64_t)info->mmap_addr + info->mmap_length;

    for (uint64_t at = info->mmap_addr; at < end && n_regions < ARRAY_SIZE(regions);) {
        const struct info_mmap *entry = (const struct info_mmap *)at;
        regions[n_regions++] = (struct region){entry->base, entry->length, entry->type == MMAP_AVAILABLE};
        at += entry->size + sizeof(entry->size);
    }
}

static void copy_modules(const struct info *info)
{
    const struct info_module *list = (const struct info_module *)(uint64_t)info->mods_addr;

    for (; n_modules < info->mods_count && n_modules < ARRAY_SIZE(modules); n_modules++) {
        modules[n_modules].start = list[n_modules].start;
        modules[n_modules].end = list[n_modules].end;
        string_copy(modules[n_modules].args, (const char *)(uint64_t)list[n_modules].string,
                    sizeof(modules[n_modules].args));
    }
}

/* They follow at once (multiboot 0.6.96 3.3, and Nestor); GRUB's own struct aligns them to four bytes. */
static const struct boot_colour *find_colours(const struct info *info)
{
    const struct boot_colour *colour = info->screen.colour;
    return colour->size ? colour : colour + 1;
}

static void copy_screen(const struct info *info)
{
    const struct boot_colour *colours = find_colours(info);

    has_screen = true;
    screen = (struct boot_framebuffer){.type = (enum boot_screen)info->screen.type,
                                       .base = info->screen.base,
                                       .pitch = info->screen.pitch,
                                       .width = info->screen.width,
                                       .height = info->screen.height,
                                       .bits = info->screen.bits,
                                       .red = colours[0],
                                       .green = colours[1],
                                       .blue = colours[2]};
}

bool multiboot_init(uint32_t magic, uint32_t address)
{
    const struct info *info = (const struct info *)(uint64_t)address;

    if (magic != LOADER_MAGIC || !(info->flags & INFO_MMAP))
        return false;
    copy_regions(info);
    if (info->flags & INFO_MODULES)
        copy_modules(info);
    if (info->flags & INFO_CMDLINE)
        string_copy(args, (const char *)(uint64_t)info->cmdline, sizeof(args));
    if (info->flags & INFO_SCREEN)
        copy_screen(info);
    return true;
}

unsigned multiboot_regions(const struct region **list)
{
    *list = regions;
    return n_regions;
}

unsigned multiboot_modules(const struct module **list)
{
    *list = modules;
    return n_modules;
}

const char *multiboot_args(void)
{
    return args;
}

const struct boot_framebuffer *multiboot_screen(void)
{
    return has_screen ? &screen : NULL;
}

static bool beside_ram(const struct region *hole)
{
    for (unsigned i = 0; i < n_regions; i++) {
        const struct region *ram = &regions[i];
        bool below = ram->base + ram->size == hole->base;
        bool above = hole->base + hole->size == ram->base;
        if (ram->usable && (below || above))
            return true;
    }
    return false;
}

const struct region *multiboot_find_carveout(void)
{
    const struct region *best = NULL;

    for (unsigned i = 0; i < n_regions; i++) {
        const struct region *hole = &regions[i];
        if (hole->usable || hole->size < CARVEOUT_MIN || !beside_ram(hole))
            continue;
        if (!best || hole->size > best->size)
            best = hole;
    }
    return best;
}
