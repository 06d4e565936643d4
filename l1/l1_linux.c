#include "l1/l1_linux.h"

#include "kernel/layout.h"
#include "kernel/string.h"

#define SECTOR 512u
#define BOOT_FLAG 0xaa55u
#define HEADER_MAGIC 0x53726448u /* "HdrS" */
#define HEADER_START 0x1f1u
#define HEADER_JUMP 0x202u  /* the header ends here plus the byte before it */
#define HEADER_ROOM 0x290u  /* where boot_params go on */
#define PROTOCOL_MIN 0x20au /* 2.10: pref_address and init_size */
#define PROTOCOL_RSDP 0x20eu
#define LOADED_HIGH BIT(0)
#define LOADER_UNDEFINED 0xffu
#define VIDEO_NORMAL 0xffffu
#define E820_MAX 128u

/* The setup header from 0x1f1 on. */
struct PACKED linux_header {
    uint8_t setup_sects;
    uint16_t root_flags;
    uint32_t syssize; /* of the protected-mode part, in units of 16 bytes */
    uint16_t ram_size, vid_mode, root_dev, boot_flag;
    uint16_t jump;
    uint32_t magic;
    uint16_t version;
    uint32_t realmode_switch;
    uint16_t start_sys_seg, kernel_version;
    uint8_t type_of_loader, loadflags;
    uint16_t setup_move_size;
    uint32_t code32_start, ramdisk_image, ramdisk_size, bootsect_kludge;
    uint16_t heap_end_ptr;
    uint8_t ext_loader_ver, ext_loader_type;
    uint32_t cmd_line_ptr, initrd_addr_max, kernel_alignment;
    uint8_t relocatable_kernel, min_alignment;
    uint16_t xloadflags;
    uint32_t cmdline_size, hardware_subarch;
    uint64_t hardware_subarch_data;
    uint32_t payload_offset, payload_length;
    uint64_t setup_data, pref_address;
    uint32_t init_size;
};
_Static_assert(offsetof(struct linux_header, magic) == 0x202 - HEADER_START, "boot.rst, Details of Header Fields");
_Static_assert(offsetof(struct linux_header, cmd_line_ptr) == 0x228 - HEADER_START, "the same");
_Static_assert(offsetof(struct linux_header, init_size) == 0x260 - HEADER_START, "the same");

struct PACKED e820_entry {
    uint64_t base, size;
    uint32_t type;
};

#define SCREEN_VGA_TEXT 0x01
#define SCREEN_VESA 0x23
#define SCREEN_EFI 0x70
#define SCREEN_BASE_64 BIT(1) /* of capabilities: ext_lfb_base counts */

/* Of what a Linux of today reads in it. */
struct PACKED screen_info {
    uint8_t x, y;
    uint16_t ext_mem_k, page;
    uint8_t mode, columns, flags, unused;
    uint16_t ega_bx, unused2;
    uint8_t lines, type; /* "orig_video_isVGA" */
    uint16_t points, width, height, depth;
    uint32_t base, size;
    uint16_t cl_magic, cl_offset, line_length;
    struct boot_colour_pair {
        uint8_t size, position;
    } red, green, blue, alpha;
    uint16_t pm_segment, pm_offset, pages, attributes;
    uint32_t capabilities, base_high;
    uint16_t reserved;
};
_Static_assert(offsetof(struct screen_info, type) == 0x0f && offsetof(struct screen_info, base) == 0x18 &&
                   offsetof(struct screen_info, red) == 0x26 && offsetof(struct screen_info, base_high) == 0x3a &&
                   sizeof(struct screen_info) == 0x40,
               "zero-page.rst");

struct PACKED efi_info {
    char signature[4];
    uint32_t system_table, descriptor_size, version, map, map_size, system_table_high, map_high;
};

/* The "zero page"; what is not named is not used here and left 0. */
struct PACKED boot_params {
    struct screen_info screen;
    uint8_t before_rsdp[0x70 - 0x40];
    uint64_t acpi_rsdp_addr;
    uint8_t before_efi[0x1c0 - 0x78];
    struct efi_info efi;
    uint8_t before_e820_entries[0x1e8 - 0x1e0];
    uint8_t e820_entries;
    uint8_t before_header[HEADER_START - 0x1e9];
    struct linux_header header;
    uint8_t before_e820[0x2d0 - HEADER_START - sizeof(struct linux_header)];
    struct e820_entry e820[E820_MAX];
    uint8_t rest[PAGE_SIZE - 0x2d0 - E820_MAX * sizeof(struct e820_entry)];
};
_Static_assert(sizeof(struct boot_params) == PAGE_SIZE, "the zero page is a page");
_Static_assert(offsetof(struct boot_params, e820) == 0x2d0, "zero-page.rst");

/* The entries that the zero page has no room for: struct setup_data of type SETUP_E820_EXT. */
#define SETUP_E820_EXT 1u
struct PACKED e820_rest {
    uint64_t next;
    uint32_t type, length;
    struct e820_entry entry[];
};

bool l1_linux_detect(const uint8_t *image, uint64_t size)
{
    struct linux_header header;

    if (size < HEADER_START + sizeof header)
        return false;
    memcpy(&header, image + HEADER_START, sizeof header);
    return header.boot_flag == BOOT_FLAG && header.magic == HEADER_MAGIC;
}

static uint64_t setup_size(const struct linux_header *header)
{
    return (header->setup_sects ? header->setup_sects + 1u : 5u) * SECTOR;
}

static const char *check_header(const struct l1_input *in, const struct linux_header *header)
{
    uint64_t setup = setup_size(header), code = header->syssize * 16ull;

    if (header->version < PROTOCOL_MIN)
        return "too old boot protocol: the Linux kernel must have 2.10 or newer";
    if (!(header->loadflags & LOADED_HIGH))
        return "the Linux kernel is a zImage: a bzImage is needed";
    if (code == 0)
        return "the bzImage has no protected-mode code";
    if (in->module[0].size < setup || in->module[0].size - setup < code)
        return "truncated bzImage: the file is shorter than its header says";
    if (strlen(in->module[0].string) > header->cmdline_size)
        return "L1's command line is longer than its kernel takes";
    return NULL;
}

/* Where the protected-mode code goes: the kernel unpacks itself within init_size bytes from there. A relocatable one
 * is never put below its preferred address, as it would move itself up to it. */
static hpa_t find_load_address(const struct l1_input *in, const struct l1_plan *plan, const struct linux_header *header,
                               uint64_t room)
{
    uint64_t step = MAX(ALIGN_UP(header->kernel_alignment, PAGE_SIZE), PAGE_SIZE);

    for (hpa_t base = header->pref_address; base < 4 * GIB; base += step) {
        if (l1_is_usable(header->relocatable_kernel ? in->free : in->map, plan, base, room))
            return base;
        if (!header->relocatable_kernel)
            break;
    }
    return 0;
}

static const char *plan_code(const struct l1_input *in, struct l1_plan *plan, struct linux_header *header)
{
    uint64_t setup = setup_size(header), length = in->module[0].size - setup;
    uint64_t room = MAX(header->init_size, length);
    hpa_t base = find_load_address(in, plan, header, room);
    const char *error;

    if (base == 0)
        return "the Linux kernel does not fit into RAM: too little memory";
    header->code32_start = (uint32_t)base;
    plan->start.rip = (uint32_t)base;
    error = l1_add_copy(in, plan, (struct l1_copy){.to = base, .from = in->image + setup, .length = length});
    l1_reserve(plan, base + length, room - length);
    return error;
}

static uint64_t initrd_size(const struct l1_input *in)
{
    uint64_t size = 0;

    /* Several archives follow each other, each on a border of 4 bytes, with zeros between. */
    for (unsigned i = 1; i < in->modules; i++)
        size = ALIGN_UP(size, 4) + in->module[i].size;
    return size;
}

/* One initrd stays where it was stashed if the kernel can have it there; else all are copied to one place. */
static const char *plan_initrd(const struct l1_input *in, struct l1_plan *plan, struct linux_header *header)
{
    uint64_t size = initrd_size(in), limit = header->initrd_addr_max + 1ull, offset = 0;
    hpa_t base = in->modules > 1 ? in->module[1].start : 0;
    const char *error = NULL;

    if (size == 0)
        return NULL;
    if (in->modules > 2 || !IS_ALIGNED(base, PAGE_SIZE) || base + size > limit) {
        base = memmap_find_top(in->free, size, PAGE_SIZE, limit, plan->busy, plan->busy_count);
        if (base == 0)
            return "too little memory for the initrd";
        for (unsigned i = 1; i < in->modules && !error; i++) {
            uint64_t padding = i + 1 < in->modules ? -in->module[i].size & 3 : 0;
            const void *from = hpa_to_va(in->module[i].start);
            error = l1_add_copy(in, plan, (struct l1_copy){base + offset, from, in->module[i].size, padding});
            offset += in->module[i].size + padding;
        }
    }
    header->ramdisk_image = (uint32_t)base;
    header->ramdisk_size = (uint32_t)size;
    return error;
}

static const char *plan_command_line(const struct l1_input *in, struct l1_plan *plan, struct linux_header *header)
{
    const char *text = in->module[0].string;
    hpa_t where = 0;
    const char *error = l1_place_low(in, plan, text, strlen(text) + 1, &where);

    header->cmd_line_ptr = (uint32_t)where;
    return error;
}

static void put_entries(struct e820_entry *to, const struct memmap_region *region, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        to[i] = (struct e820_entry){region[i].base, region[i].size, region[i].type};
}

/* The regions from number E820_MAX on. */
static const char *place_e820_rest(const struct l1_input *in, struct l1_plan *plan, struct boot_params *params)
{
    unsigned count = plan->map.count - E820_MAX;
    uint64_t size = count * sizeof(struct e820_entry);
    struct e820_rest *rest = l1_blob(plan, sizeof *rest + size);
    hpa_t where = 0;

    if (!rest)
        return "the memory map has too many regions";
    rest->type = SETUP_E820_EXT;
    rest->length = (uint32_t)size;
    put_entries(rest->entry, &plan->map.region[E820_MAX], count);
    const char *error = l1_place_low(in, plan, rest, sizeof *rest + size, &where);
    params->header.setup_data = where;
    return error;
}

/* L1's memory map. The page of the RSDP copy is ACPI data for L1, so that it does not use it for other things. */
static const char *fill_e820(const struct l1_input *in, struct l1_plan *plan, struct boot_params *params)
{
    plan->map = *in->map;
    if (params->acpi_rsdp_addr && !in->rsdp_place &&
        memmap_set(&plan->map, params->acpi_rsdp_addr, PAGE_SIZE, REGION_ACPI))
        return "the memory map has too many regions";
    params->e820_entries = (uint8_t)MIN(plan->map.count, E820_MAX);
    put_entries(params->e820, plan->map.region, params->e820_entries);
    return plan->map.count > E820_MAX ? place_e820_rest(in, plan, params) : NULL;
}

static const char *plan_rsdp(const struct l1_input *in, struct l1_plan *plan, struct boot_params *params)
{
    hpa_t where = in->rsdp_place;
    const char *error = NULL;

    if (in->rsdp_size == 0 || params->header.version < PROTOCOL_RSDP)
        return NULL;
    if (!where)
        error = l1_place_low(in, plan, in->rsdp, in->rsdp_size, &where);
    params->acpi_rsdp_addr = where;
    return error;
}

static struct boot_colour_pair colour_pair(struct boot_colour colour)
{
    return (struct boot_colour_pair){colour.size, colour.position};
}

static void fill_pixels(const struct boot_framebuffer *from, struct screen_info *to)
{
    to->width = (uint16_t)from->width;
    to->height = (uint16_t)from->height;
    to->depth = from->bits;
    to->base = (uint32_t)from->base;
    to->base_high = (uint32_t)(from->base >> 32);
    to->size = from->pitch * from->height;
    to->line_length = (uint16_t)from->pitch;
    to->pages = 1;
    to->red = colour_pair(from->red);
    to->green = colour_pair(from->green);
    to->blue = colour_pair(from->blue);
    if (to->base_high)
        to->capabilities = SCREEN_BASE_64;
}

static void fill_screen(const struct l1_input *in, struct screen_info *to)
{
    if (!in->screen)
        return;
    if (in->screen->type == SCREEN_TEXT) {
        to->type = SCREEN_VGA_TEXT;
        to->mode = 3;   /* 80 columns, in colour */
        to->ega_bx = 3; /* 256 KiB */
        to->columns = (uint8_t)in->screen->width;
        to->lines = (uint8_t)in->screen->height;
        to->points = 16;
    } else if (in->screen->type == SCREEN_RGB) {
        to->type = in->efi_system_table ? SCREEN_EFI : SCREEN_VESA;
        fill_pixels(in->screen, to);
        /* The size is in units of 64 KiB for the one driver, in bytes for the other. */
        if (!in->efi_system_table)
            to->size = (to->size + 0xffff) >> 16;
    }
}

static const char *plan_efi(const struct l1_input *in, struct l1_plan *plan, struct efi_info *to)
{
    hpa_t where = 0;

    if (!in->efi_system_table || !in->efi_map || !in->efi_map->size)
        return NULL;
    const char *error = l1_place_low(in, plan, in->efi_map->bytes, in->efi_map->size, &where);
    *to = (struct efi_info){
        .signature = {'E', 'L', '6', '4'},
        .system_table = (uint32_t)in->efi_system_table,
        .system_table_high = (uint32_t)(in->efi_system_table >> 32),
        .descriptor_size = in->efi_map->descriptor_size,
        .version = in->efi_map->version,
        .map = (uint32_t)where,
        .map_size = in->efi_map->size,
        .map_high = (uint32_t)(where >> 32),
    };
    return error;
}

/* The header's bytes as the image has them, with what the loader has to say. */
static const char *start_header(const struct l1_input *in, struct boot_params *params)
{
    uint64_t end = MIN(HEADER_JUMP + in->image[HEADER_JUMP - 1], HEADER_ROOM);

    if (!l1_take(in, HEADER_START, &params->header, MIN(end - HEADER_START, sizeof params->header)))
        return "truncated bzImage: the file ends in its header";
    params->header.type_of_loader = LOADER_UNDEFINED;
    params->header.vid_mode = VIDEO_NORMAL;
    params->header.setup_data = 0;
    return check_header(in, &params->header);
}

const char *l1_linux_plan(const struct l1_input *in, struct l1_plan *plan)
{
    struct boot_params *params = l1_blob(plan, sizeof *params);
    const char *error = start_header(in, params);
    hpa_t where = 0;

    fill_screen(in, &params->screen);
    if (!error)
        error = plan_code(in, plan, &params->header);
    if (!error)
        error = plan_initrd(in, plan, &params->header);
    if (!error)
        error = plan_command_line(in, plan, &params->header);
    if (!error)
        error = plan_rsdp(in, plan, params);
    if (!error)
        error = plan_efi(in, plan, &params->efi);
    if (!error)
        error = fill_e820(in, plan, params);
    if (!error)
        error = l1_place_low(in, plan, params, sizeof *params, &where);
    if (!error)
        error = l1_place_gdt(in, plan);
    plan->start.esi = (uint32_t)where;
    return error;
}
