#include "l1/l1_multiboot.h"

#include "kernel/string.h"
#include "l1/l1_elf.h"
#include "l1/l1_multiboot_info.h"

#define MB1_SEARCH 8192u
#define MB1_MAGIC 0x1badb002u
#define MB1_NEEDS BITS(15, 0) /* what the loader must understand */
#define MB1_KNOWN BITS(2, 0)  /* pages for modules, memory information, video mode */
#define MB1_ADDRESSES BIT(16) /* the header tells where to load, the file need not be ELF */
#define MB1_LOADER_MAGIC 0x2badb002u

#define MB2_SEARCH 32768u
#define MB2_MAGIC 0xe85250d6u
#define MB2_ARCHITECTURE_I386 0u
#define MB2_LOADER_MAGIC 0x36d76289u
#define MB2_TAG_OPTIONAL 1u

enum { MB2_TAG_END = 0, MB2_TAG_ADDRESS = 2, MB2_TAG_ENTRY = 3, MB2_TAG_LAST_KNOWN = 10 };

struct mb1_header {
    uint32_t magic, flags, checksum;
    uint32_t header_addr, load_addr, load_end_addr, bss_end_addr, entry_addr; /* if MB1_ADDRESSES */
};

struct mb2_header {
    uint32_t magic, architecture, length, checksum;
};
struct mb2_tag {
    uint16_t type, flags;
    uint32_t size;
};
struct mb2_address_tag {
    struct mb2_tag tag;
    uint32_t header_addr, load_addr, load_end_addr, bss_end_addr;
};
struct mb2_entry_tag {
    struct mb2_tag tag;
    uint32_t entry_addr;
};

/* The header's word on an image that is loaded by addresses: both versions agree on it. */
struct load_addresses {
    uint32_t header, load, load_end, bss_end;
};

static bool words_at(const uint8_t *image, uint64_t size, uint64_t offset, void *words, uint64_t bytes)
{
    if (offset > size || bytes > size - offset)
        return false;
    memcpy(words, image + offset, bytes);
    return true;
}

int64_t l1_multiboot1_find(const uint8_t *image, uint64_t size)
{
    uint32_t word[3];

    for (uint64_t at = 0; at < MB1_SEARCH && words_at(image, size, at, word, sizeof word); at += 4)
        if (word[0] == MB1_MAGIC && word[0] + word[1] + word[2] == 0)
            return (int64_t)at;
    return -1;
}

int64_t l1_multiboot2_find(const uint8_t *image, uint64_t size)
{
    uint32_t word[4];

    for (uint64_t at = 0; at < MB2_SEARCH && words_at(image, size, at, word, sizeof word); at += 8)
        if (word[0] == MB2_MAGIC && word[0] + word[1] + word[2] + word[3] == 0)
            return (int64_t)at;
    return -1;
}

/* The file's bytes from load_addr on, as the place of the header in file and memory tells. */
static const char *plan_by_addresses(const struct l1_input *in, struct l1_plan *plan, uint64_t header_offset,
                                     const struct load_addresses *a)
{
    uint64_t before = (uint64_t)a->header - a->load, offset = header_offset - before, length;
    uint64_t size = in->module[0].size;

    if (a->load > a->header || before > header_offset)
        return "the multiboot header's load address lies behind the header or before the file";
    length = a->load_end ? (uint64_t)a->load_end - a->load : size - offset;
    if ((a->load_end && a->load_end < a->load) || length > size - offset)
        return "the multiboot header asks for more than the file holds: the image is truncated";
    return l1_add_copy(in, plan,
                       (struct l1_copy){.to = a->load,
                                        .from = in->image + offset,
                                        .length = length,
                                        .zeros = a->bss_end > a->load + length ? a->bss_end - a->load - length : 0});
}

static const char *set_entry(const struct l1_plan *plan, struct l1_start *start, uint64_t entry)
{
    for (unsigned i = 0; i < plan->copies; i++)
        if (entry >= plan->copy[i].to && entry - plan->copy[i].to < plan->copy[i].length) {
            start->rip = (uint32_t)entry;
            return NULL;
        }
    return "the entry address lies outside what was loaded";
}

const char *l1_multiboot1_plan(const struct l1_input *in, struct l1_plan *plan)
{
    int64_t at = l1_multiboot1_find(in->image, in->module[0].size);
    struct mb1_header header = {0};
    const char *error;
    uint64_t entry = 0;

    if (!l1_take(in, (uint64_t)at, &header, offsetof(struct mb1_header, header_addr)))
        return "truncated multiboot header";
    if (header.flags & MB1_NEEDS & ~MB1_KNOWN)
        return "the multiboot header asks for a feature that Nestor does not have";
    if (header.flags & MB1_ADDRESSES) {
        if (!l1_take(in, (uint64_t)at, &header, sizeof header))
            return "truncated multiboot header";
        const struct load_addresses addresses = {header.header_addr, header.load_addr, header.load_end_addr,
                                                 header.bss_end_addr};
        error = plan_by_addresses(in, plan, (uint64_t)at, &addresses);
        entry = header.entry_addr;
    } else {
        error = l1_elf_plan(in, plan, &entry);
    }
    if (!error)
        error = set_entry(plan, &plan->start, entry);
    if (!error)
        error = l1_multiboot1_info(in, plan, &plan->start.ebx);
    if (!error)
        error = l1_place_gdt(in, plan);
    plan->start.eax = MB1_LOADER_MAGIC;
    return error;
}

/* The requests in the tags of a multiboot 2 header. */
struct mb2_wishes {
    bool has_addresses, has_entry;
    struct load_addresses addresses;
    uint32_t entry;
};

static const char *read_tag(const struct l1_input *in, uint64_t at, const struct mb2_tag *tag, struct mb2_wishes *out)
{
    struct mb2_address_tag address;
    struct mb2_entry_tag entry;

    switch (tag->type) {
    case MB2_TAG_ADDRESS:
        if (!l1_take(in, at, &address, sizeof address))
            return "truncated multiboot header";
        out->has_addresses = true;
        out->addresses = (struct load_addresses){address.header_addr, address.load_addr, address.load_end_addr,
                                                 address.bss_end_addr};
        return NULL;
    case MB2_TAG_ENTRY:
        if (!l1_take(in, at, &entry, sizeof entry))
            return "truncated multiboot header";
        out->has_entry = true;
        out->entry = entry.entry_addr;
        return NULL;
    default:
        if (tag->type > MB2_TAG_LAST_KNOWN && !(tag->flags & MB2_TAG_OPTIONAL))
            return "the multiboot header asks for a feature that Nestor does not have";
        return NULL;
    }
}

static const char *read_tags(const struct l1_input *in, uint64_t header_offset, struct mb2_wishes *out)
{
    struct mb2_header header;
    struct mb2_tag tag;
    uint64_t at = header_offset + sizeof header, end;

    if (!l1_take(in, header_offset, &header, sizeof header))
        return "truncated multiboot header";
    if (header.architecture != MB2_ARCHITECTURE_I386)
        return "the multiboot header is for another architecture";
    end = header_offset + header.length;
    while (at + sizeof tag <= end) {
        const char *error;
        if (!l1_take(in, at, &tag, sizeof tag))
            return "truncated multiboot header";
        if (tag.type == MB2_TAG_END)
            return NULL;
        if (tag.size < sizeof tag)
            return "a multiboot header tag is shorter than its own head";
        error = read_tag(in, at, &tag, out);
        if (error)
            return error;
        at += ALIGN_UP(tag.size, 8);
    }
    return NULL;
}

/* -1 as load address means: the file from its start. */
static void resolve_load_address(struct load_addresses *a, uint64_t header_offset)
{
    if (a->load == UINT32_MAX)
        a->load = a->header - (uint32_t)header_offset;
}

const char *l1_multiboot2_plan(const struct l1_input *in, struct l1_plan *plan)
{
    int64_t at = l1_multiboot2_find(in->image, in->module[0].size);
    struct mb2_wishes wishes = {0};
    const char *error = read_tags(in, (uint64_t)at, &wishes);
    uint64_t entry = 0;

    if (error)
        return error;
    if (wishes.has_addresses) {
        resolve_load_address(&wishes.addresses, (uint64_t)at);
        error = plan_by_addresses(in, plan, (uint64_t)at, &wishes.addresses);
    } else {
        error = l1_elf_plan(in, plan, &entry);
    }
    if (!error)
        error = set_entry(plan, &plan->start, wishes.has_entry ? wishes.entry : entry);
    if (!error)
        error = l1_multiboot2_info(in, plan, &plan->start.ebx);
    if (!error)
        error = l1_place_gdt(in, plan);
    plan->start.eax = MB2_LOADER_MAGIC;
    return error;
}
