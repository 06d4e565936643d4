/* The world of the tests of L1's loaders: a PC with 64 MiB of RAM, an image as the boot loader would leave it, and
 * images that are good, for a test to spoil.
 * setup() and teardown() around each test; each program has its own copy.
 * tests/host/ only. */
#ifndef TESTS_HOST_L1_WORLD_H
#define TESTS_HOST_L1_WORLD_H

#include "tests/host/host.h"

#include <elf.h>
#include <string.h>

#include "kernel/layout.h"
#include "l1/l1_image.h"
#include "l1/l1_load.h"
#include "l1/l1_plan.h"
#include "tests/host/linux_header.h"

#define MEMORY (64 * MIB)
#define CARVEOUT (56 * MIB)
#define LOW_RAM_END 0x9f000
#define IMAGE_MAX (2 * MIB)

static uint8_t *memory;
static uint8_t image[IMAGE_MAX];
static struct memmap map;
static struct boot_module module[BOOTINFO_MAX_MODULES];
static struct l1_plan plan;
static struct l1_input in;

static inline void put16(uint64_t offset, uint16_t value)
{
    memcpy(image + offset, &value, sizeof value);
}

static inline void put32(uint64_t offset, uint32_t value)
{
    memcpy(image + offset, &value, sizeof value);
}

static inline void put64(uint64_t offset, uint64_t value)
{
    memcpy(image + offset, &value, sizeof value);
}

static inline uint32_t word_at(hpa_t where)
{
    uint32_t value;
    memcpy(&value, memory + where, sizeof value);
    return value;
}

static inline uint64_t quad_at(hpa_t where)
{
    uint64_t value;
    memcpy(&value, memory + where, sizeof value);
    return value;
}

/* A PC with 64 MiB, of which Nestor keeps the top 8. */
static inline int setup(void **state)
{
    (void)state;
    memory = host_memory(MEMORY);
    memset(&map, 0, sizeof map);
    assert_int_equal(memmap_set(&map, 0, 0x9fc00, REGION_RAM), 0);
    assert_int_equal(memmap_set(&map, 0x9fc00, 0x400, REGION_RESERVED), 0);
    assert_int_equal(memmap_set(&map, 0xf0000, 0x10000, REGION_RESERVED), 0);
    assert_int_equal(memmap_set(&map, MIB, MEMORY - MIB, REGION_RAM), 0);
    assert_int_equal(memmap_set(&map, CARVEOUT, MEMORY - CARVEOUT, REGION_RESERVED), 0);
    memset(image, 0, sizeof image);
    memset(module, 0, sizeof module);
    in = (struct l1_input){.map = &map, .free = &map, .module = module, .modules = 1, .image = image};
    module[0] = (struct boot_module){50 * MIB, 0, "l1 first=1 second"};
    return 0;
}

static inline int teardown(void **state)
{
    (void)state;
    host_memory_free();
    return 0;
}

static inline void check_plan(void)
{
    for (unsigned i = 0; i < plan.copies; i++) {
        uint64_t size = plan.copy[i].length + plan.copy[i].zeros;
        assert_true(plan.copy[i].to >= PAGE_SIZE);
        assert_true(memmap_is(&map, plan.copy[i].to, size, REGION_RAM));
        for (unsigned k = 0; k < in.modules; k++)
            assert_true(module[k].start + module[k].size <= plan.copy[i].to ||
                        plan.copy[i].to + size <= module[k].start);
        for (unsigned k = 0; k < i; k++)
            assert_true(plan.copy[k].to + plan.copy[k].length + plan.copy[k].zeros <= plan.copy[i].to ||
                        plan.copy[i].to + size <= plan.copy[k].to);
    }
}

static inline void plan_and_load(enum l1_kind kind)
{
    const char *error = l1_plan(&in, &plan);

    if (error)
        fail_msg("%s", error);
    assert_int_equal(plan.kind, kind);
    check_plan();
    host_random_fill(memory, MEMORY / 64); /* so that zeros and copies show */
    l1_load(&plan);
    /* The GDT of the start state: flat code and data. */
    assert_int_equal(plan.start.cs, 0x10);
    assert_int_equal(plan.start.ds, 0x18);
    assert_true(plan.start.gdt_limit >= 0x1f);
    assert_int_equal(quad_at(plan.start.gdt + 0x10), 0x00cf9b000000ffff);
    assert_int_equal(quad_at(plan.start.gdt + 0x18), 0x00cf93000000ffff);
}

static inline void expect_error(const char *part)
{
    const char *error = l1_plan(&in, &plan);

    if (!error || !strstr(error, part))
        fail_msg("expected \"%s\", got \"%s\"", part, error ? error : "(none)");
}

#define LINUX_SETUP (4 * 512)
#define LINUX_CODE 0x20000

static inline void make_linux(void)
{
    linux_header(image, LINUX_SETUP / 512 - 1, LINUX_CODE);
    for (unsigned i = 0; i < LINUX_CODE; i++)
        image[LINUX_SETUP + i] = (uint8_t)(i * 7 + 1);
    module[0].size = LINUX_SETUP + LINUX_CODE;
}

#define ELF_CODE_OFFSET 0x1000
#define ELF_CODE_SIZE 0x3000
#define ELF_ADDRESS 0x400000

static inline void put_multiboot1(uint64_t offset, uint32_t flags)
{
    put32(offset, 0x1badb002);
    put32(offset + 4, flags);
    put32(offset + 8, 0u - 0x1badb002u - flags);
}

static inline void make_elf32(void)
{
    Elf32_Ehdr *header = (Elf32_Ehdr *)image;
    Elf32_Phdr *segment = (Elf32_Phdr *)(image + sizeof *header);

    memcpy(header->e_ident,
           "\x7f"
           "ELF\1\1\1",
           7);
    header->e_type = ET_EXEC;
    header->e_machine = EM_386;
    header->e_entry = ELF_ADDRESS + 0x10;
    header->e_phoff = sizeof *header;
    header->e_phentsize = sizeof *segment;
    header->e_phnum = 2;
    segment[0].p_type = PT_NOTE;
    segment[1] = (Elf32_Phdr){.p_type = PT_LOAD,
                              .p_offset = ELF_CODE_OFFSET,
                              .p_vaddr = ELF_ADDRESS,
                              .p_paddr = ELF_ADDRESS,
                              .p_filesz = ELF_CODE_SIZE,
                              .p_memsz = ELF_CODE_SIZE + 0x5000};
    host_random_fill(image + ELF_CODE_OFFSET, ELF_CODE_SIZE);
    module[0].size = ELF_CODE_OFFSET + ELF_CODE_SIZE;
    put_multiboot1(ELF_CODE_OFFSET, 0);
}

static inline uint64_t put_tag(uint64_t at, uint16_t type, uint16_t flags, uint32_t size)
{
    put16(at, type);
    put16(at + 2, flags);
    put32(at + 4, size);
    return at + ALIGN_UP(size, 8);
}

static inline void put_multiboot2(uint64_t offset, uint32_t length)
{
    put32(offset, 0xe85250d6);
    put32(offset + 4, 0);
    put32(offset + 8, length);
    put32(offset + 12, 0u - 0xe85250d6u - length);
}

static inline void make_multiboot2(void)
{
    uint64_t at = ELF_CODE_OFFSET + 0x20 + 16;

    make_elf32();
    put32(ELF_CODE_OFFSET, 0);
    at = put_tag(at, 1, 0, 16);
    at = put_tag(at, 6, 0, 8);
    at = put_tag(at, 77, 1, 12);
    at = put_tag(at, 0, 0, 8);
    put_multiboot2(ELF_CODE_OFFSET + 0x20, (uint32_t)(at - ELF_CODE_OFFSET - 0x20));
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

#endif
