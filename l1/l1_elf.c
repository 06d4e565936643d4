#include "l1/l1_elf.h"

#include "kernel/string.h"

#define CLASS_32 1
#define CLASS_64 2
#define DATA_LITTLE_ENDIAN 1
#define MACHINE_386 3
#define MACHINE_X86_64 62
#define TYPE_EXECUTABLE 2
#define SEGMENT_LOAD 1

/* System V ABI, "Object Files": both classes, as far as they are used. */
struct elf_ident {
    uint8_t magic[4], class, data, rest[10];
};
struct elf32_header {
    struct elf_ident ident;
    uint16_t type, machine;
    uint32_t version, entry, phoff, shoff, flags;
    uint16_t ehsize, phentsize, phnum, shentsize, shnum, shstrndx;
};
struct elf64_header {
    struct elf_ident ident;
    uint16_t type, machine;
    uint32_t version;
    uint64_t entry, phoff, shoff;
    uint32_t flags;
    uint16_t ehsize, phentsize, phnum, shentsize, shnum, shstrndx;
};
struct elf32_segment {
    uint32_t type, offset, vaddr, paddr, filesz, memsz, flags, align;
};
struct elf64_segment {
    uint32_t type, flags;
    uint64_t offset, vaddr, paddr, filesz, memsz, align;
};
_Static_assert(sizeof(struct elf32_header) == 52 && sizeof(struct elf64_header) == 64, "ABI");
_Static_assert(sizeof(struct elf32_segment) == 32 && sizeof(struct elf64_segment) == 56, "ABI");

/* Both classes as one. */
struct elf {
    bool wide;
    uint64_t entry, phoff;
    unsigned phnum, phentsize;
};
struct segment_info {
    uint32_t type;
    uint64_t offset, vaddr, paddr, filesz, memsz;
};

static bool read_header(const struct l1_input *in, struct elf *elf)
{
    struct elf32_header narrow;
    struct elf64_header wide;

    if (!l1_take(in, 0, &narrow, sizeof narrow) ||
        memcmp(narrow.ident.magic,
               "\x7f"
               "ELF",
               4) ||
        narrow.ident.data != DATA_LITTLE_ENDIAN || narrow.type != TYPE_EXECUTABLE)
        return false;
    if (narrow.ident.class == CLASS_32 && narrow.machine == MACHINE_386) {
        *elf = (struct elf){false, narrow.entry, narrow.phoff, narrow.phnum, narrow.phentsize};
        return narrow.phentsize >= sizeof(struct elf32_segment);
    }
    if (narrow.ident.class != CLASS_64 || narrow.machine != MACHINE_X86_64 || !l1_take(in, 0, &wide, sizeof wide))
        return false;
    *elf = (struct elf){true, wide.entry, wide.phoff, wide.phnum, wide.phentsize};
    return wide.phentsize >= sizeof(struct elf64_segment);
}

static bool read_segment(const struct l1_input *in, const struct elf *elf, unsigned n, struct segment_info *out)
{
    uint64_t offset = elf->phoff + (uint64_t)n * elf->phentsize;
    struct elf32_segment narrow;
    struct elf64_segment wide;

    if (offset < elf->phoff)
        return false;
    if (elf->wide) {
        if (!l1_take(in, offset, &wide, sizeof wide))
            return false;
        *out = (struct segment_info){wide.type, wide.offset, wide.vaddr, wide.paddr, wide.filesz, wide.memsz};
        return true;
    }
    if (!l1_take(in, offset, &narrow, sizeof narrow))
        return false;
    *out = (struct segment_info){narrow.type, narrow.offset, narrow.vaddr, narrow.paddr, narrow.filesz, narrow.memsz};
    return true;
}

static const char *plan_segment(const struct l1_input *in, struct l1_plan *plan, const struct segment_info *segment)
{
    uint64_t size = in->module[0].size;

    if (segment->offset > size || segment->filesz > size - segment->offset)
        return "an ELF segment lies outside the file: the image is truncated";
    if (segment->filesz > segment->memsz)
        return "an ELF segment is larger in the file than in memory";
    return l1_add_copy(in, plan,
                       (struct l1_copy){.to = segment->paddr,
                                        .from = in->image + segment->offset,
                                        .length = segment->filesz,
                                        .zeros = segment->memsz - segment->filesz});
}

const char *l1_elf_plan(const struct l1_input *in, struct l1_plan *plan, uint64_t *entry)
{
    struct elf elf;
    bool entry_found = false;

    if (!read_header(in, &elf))
        return "the multiboot image is no ELF executable for x86";
    *entry = elf.entry;
    for (unsigned i = 0; i < elf.phnum; i++) {
        struct segment_info segment;
        const char *error;
        if (!read_segment(in, &elf, i, &segment))
            return "the ELF program headers lie outside the file: the image is truncated";
        if (segment.type != SEGMENT_LOAD || segment.memsz == 0)
            continue;
        error = plan_segment(in, plan, &segment);
        if (error)
            return error;
        /* The entry is a linear address; L1 starts without paging. */
        if (!entry_found && elf.entry >= segment.vaddr && elf.entry - segment.vaddr < segment.memsz) {
            *entry = elf.entry - segment.vaddr + segment.paddr;
            entry_found = true;
        }
    }
    return entry_found ? NULL : "the ELF entry address lies in no segment";
}
