/* sources: l1/l1_plan.c l1/l1_image.c l1/l1_stash.c l1/l1_linux.c l1/l1_elf.c l1/l1_multiboot.c
   l1/l1_disk.c l1/l1_multiboot_info.c mm/memmap.c */
#include "tests/fuzz/fuzz.h"

#include <elf.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/layout.h"
#include "l1/l1_image.h"
#include "l1/l1_plan.h"
#include "tests/host/linux_header.h"

#define MEMORY (64 * MIB)
#define CARVEOUT (56 * MIB)
#define IMAGE_MAX 4096u
#define KINDS 4

static uint8_t image[IMAGE_MAX];
static struct memmap map;
static struct boot_module module[BOOTINFO_MAX_MODULES];
static struct l1_plan plan;

static void elf_header(bool wide)
{
    Elf32_Ehdr small = {.e_ident = ELFMAG "\x1\x1\x1", .e_type = ET_EXEC, .e_machine = EM_386, .e_version = 1};
    Elf64_Ehdr large = {.e_ident = ELFMAG "\x2\x1\x1", .e_type = ET_EXEC, .e_machine = EM_X86_64, .e_version = 1};
    Elf32_Phdr segment = {.p_type = PT_LOAD, .p_paddr = 0x400000, .p_vaddr = 0x400000, .p_offset = 0x400};
    Elf64_Phdr segment64 = {.p_type = PT_LOAD, .p_paddr = 0x400000, .p_vaddr = 0x400000, .p_offset = 0x400};

    small.e_entry = large.e_entry = 0x400010;
    small.e_phoff = large.e_phoff = 0x80;
    small.e_phnum = large.e_phnum = 2;
    small.e_ehsize = sizeof small;
    large.e_ehsize = sizeof large;
    small.e_phentsize = sizeof segment;
    large.e_phentsize = sizeof segment64;
    segment.p_filesz = segment64.p_filesz = 0x200;
    segment.p_memsz = segment64.p_memsz = 0x3000;
    memcpy(image, wide ? (void *)&large : (void *)&small, wide ? sizeof large : sizeof small);
    for (unsigned i = 0; i < 2; i++) {
        memcpy(image + 0x80 + i * (wide ? sizeof segment64 : sizeof segment),
               wide ? (void *)&segment64 : (void *)&segment, wide ? sizeof segment64 : sizeof segment);
        segment.p_paddr = segment64.p_paddr = 0x600000;
    }
}

static void multiboot_headers(bool second)
{
    elf_header(second);
    if (second) {
        linux_put(image, 0x200, 0xe85250d6, 4);
        linux_put(image, 0x208, 24, 4);
        linux_put(image, 0x20c, 0u - 0xe85250d6u - 24, 4);
        linux_put(image, 0x214, 8, 4); /* the end tag */
    } else {
        linux_put(image, 0x200, 0x1badb002, 4);
        linux_put(image, 0x204, 3, 4);
        linux_put(image, 0x208, 0u - 0x1badb002u - 3, 4);
    }
}

static uint64_t image_take(struct fuzz_input *in)
{
    uint8_t kind = fuzz_take_8(in) % KINDS;
    uint64_t size = fuzz_take_32(in) % (IMAGE_MAX + 1);

    memset(image, 0, sizeof image);
    if (kind == 0) {
        fuzz_take(in, image, size);
        return size;
    }
    if (kind == 1)
        linux_header(image, 1, 0x400);
    else
        multiboot_headers(kind == 3);
    for (unsigned edits = 0; in->size && edits < 64; edits++)
        linux_put(image, (fuzz_take_8(in) | (uint32_t)fuzz_take_8(in) << 8) % (IMAGE_MAX - 3), fuzz_take_32(in), 4);
    return MAX(size, 0x300);
}

static void machine_take(struct fuzz_input *in, struct l1_input *input)
{
    memset(&map, 0, sizeof map);
    FUZZ_CHECK(memmap_set(&map, 0, 0x9fc00, REGION_RAM) == 0);
    FUZZ_CHECK(memmap_set(&map, MIB, MEMORY - MIB, REGION_RAM) == 0);
    FUZZ_CHECK(memmap_set(&map, CARVEOUT, MEMORY - CARVEOUT, REGION_RESERVED) == 0);
    *input = (struct l1_input){.map = &map, .free = &map, .module = module, .modules = 1 + fuzz_take_8(in) % 4};
    module[0] = (struct boot_module){50 * MIB, 0, "kernel option"};
    for (unsigned i = 1; i < input->modules; i++)
        module[i] = (struct boot_module){(50 - 2 * i) * MIB, fuzz_take_32(in) % (2 * MIB), "module"};
}

static bool overlap(hpa_t a, uint64_t a_size, hpa_t b, uint64_t b_size)
{
    return a < b + b_size && b < a + a_size;
}

static void copy_check(const struct l1_input *in, const struct l1_copy *copy)
{
    const volatile uint8_t *from = copy->from;
    uint64_t size = copy->length + copy->zeros;

    if (copy->length)
        (void)(from[0] + from[copy->length - 1]); /* the sanitizer knows whether they exist */
    for (unsigned i = 0; i < in->modules; i++)
        FUZZ_CHECK(!overlap(copy->to, size, module[i].start, module[i].size));
    FUZZ_CHECK(size == 0 || memmap_is(&map, copy->to, size, REGION_RAM));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input bytes = {data, size};
    struct l1_input in;
    uint8_t *copy;

    if (!layout_host_memory)
        layout_host_memory = calloc(1, MEMORY);
    machine_take(&bytes, &in);
    module[0].size = image_take(&bytes);
    copy = malloc(module[0].size); /* of its own size: a read beyond the end is seen */
    memcpy(copy, image, module[0].size);
    in.image = copy;
    if (!l1_plan(&in, &plan)) {
        FUZZ_CHECK(plan.kind != L1_UNKNOWN && plan.copies > 0 && plan.copies <= L1_COPIES_MAX);
        FUZZ_CHECK(plan.busy_count <= ARRAY_SIZE(plan.busy) && plan.blob_used <= L1_BLOB_SIZE);
        for (unsigned i = 0; i < plan.copies; i++) {
            copy_check(&in, &plan.copy[i]);
            for (unsigned k = 0; k < i; k++)
                FUZZ_CHECK(!overlap(plan.copy[i].to, plan.copy[i].length + plan.copy[i].zeros, plan.copy[k].to,
                                    plan.copy[k].length + plan.copy[k].zeros));
        }
    }
    free(copy);
    return 0;
}
