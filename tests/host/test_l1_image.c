/* sources: vmx/l1_image.c vmx/l1_stash.c vmx/l1_linux.c vmx/l1_elf.c vmx/l1_multiboot.c vmx/l1_multiboot_info.c vmx/l1_load.c mm/memmap.c */
#include "tests/host/host.h"

#include <elf.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/layout.h"
#include "vmx/l1_image.h"
#include "vmx/l1_load.h"

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

static void put16(uint64_t offset, uint16_t value)
{
    memcpy(image + offset, &value, sizeof value);
}

static void put32(uint64_t offset, uint32_t value)
{
    memcpy(image + offset, &value, sizeof value);
}

static void put64(uint64_t offset, uint64_t value)
{
    memcpy(image + offset, &value, sizeof value);
}

static uint32_t word_at(hpa_t where)
{
    uint32_t value;
    memcpy(&value, memory + where, sizeof value);
    return value;
}

static uint64_t quad_at(hpa_t where)
{
    uint64_t value;
    memcpy(&value, memory + where, sizeof value);
    return value;
}

/* A PC with 64 MiB, of which Nestor keeps the top 8. */
static int setup(void **state)
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
    in = (struct l1_input){.map = &map, .module = module, .modules = 1, .image = image};
    module[0] = (struct boot_module){50 * MIB, 0, "l1 first=1 second"};
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    host_memory_free();
    return 0;
}

static void check_plan(void)
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

static void plan_and_load(enum l1_kind kind)
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

static void expect_error(const char *part)
{
    const char *error = l1_plan(&in, &plan);

    if (!error || !strstr(error, part))
        fail_msg("expected \"%s\", got \"%s\"", part, error ? error : "(none)");
}

/* --- Linux --- */

#define LINUX_SETUP (4 * 512)
#define LINUX_CODE 0x20000

static void make_linux(void)
{
    image[0x1f1] = 3;
    put32(0x1f4, LINUX_CODE / 16);
    put16(0x1fe, 0xaa55);
    put16(0x200, 0x6aeb); /* jump over 0x6a bytes: the header ends at 0x26c */
    put32(0x202, 0x53726448);
    put16(0x206, 0x20f);
    image[0x211] = 1;
    put32(0x214, 0x100000);
    put32(0x22c, 0x7fffffff);
    put32(0x230, 0x200000);
    image[0x234] = 1;
    put32(0x238, 2047);
    put64(0x258, 0x1000000);
    put32(0x260, 0x400000);
    for (unsigned i = 0; i < LINUX_CODE; i++)
        image[LINUX_SETUP + i] = (uint8_t)(i * 7 + 1);
    module[0].size = LINUX_SETUP + LINUX_CODE;
}

static void test_linux_plain(void **state)
{
    hpa_t params;

    (void)state;
    make_linux();
    plan_and_load(L1_LINUX);
    params = plan.start.esi;
    assert_int_equal(plan.start.rip, 0x1000000);
    assert_memory_equal(memory + 0x1000000, image + LINUX_SETUP, LINUX_CODE);
    assert_true(params < 0xa0000 && IS_ALIGNED(params, PAGE_SIZE));
    assert_int_equal(word_at(params + 0x202), 0x53726448);
    assert_int_equal(memory[params + 0x210], 0xff);
    assert_int_equal(word_at(params + 0x214), 0x1000000);
    assert_int_equal(word_at(params + 0x218), 0);
    assert_int_equal(word_at(params + 0x21c), 0);
    assert_string_equal((char *)memory + word_at(params + 0x228), "l1 first=1 second");
    assert_int_equal(quad_at(params + 0x70), 0);
    assert_int_equal(memory[params], 0);
}

static void test_linux_e820(void **state)
{
    hpa_t params;
    unsigned count;

    (void)state;
    make_linux();
    plan_and_load(L1_LINUX);
    params = plan.start.esi;
    count = memory[params + 0x1e8];
    assert_int_equal(count, map.count);
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(quad_at(params + 0x2d0 + i * 20), map.region[i].base);
        assert_int_equal(quad_at(params + 0x2d0 + i * 20 + 8), map.region[i].size);
        assert_int_equal(word_at(params + 0x2d0 + i * 20 + 16), map.region[i].type);
    }
}

static void test_linux_initrd_stays(void **state)
{
    (void)state;
    make_linux();
    module[1] = (struct boot_module){40 * MIB, 12345, "initrd"};
    in.modules = 2;
    plan_and_load(L1_LINUX);
    assert_int_equal(word_at(plan.start.esi + 0x218), 40 * MIB);
    assert_int_equal(word_at(plan.start.esi + 0x21c), 12345);
}

static void test_linux_initrd_moves_where_the_kernel_reaches(void **state)
{
    uint32_t base;

    (void)state;
    make_linux();
    put32(0x22c, 32 * MIB - 1);
    module[1] = (struct boot_module){40 * MIB, 123456, "initrd"};
    in.modules = 2;
    host_random_fill(memory + 40 * MIB, 123456);
    plan_and_load(L1_LINUX);
    base = word_at(plan.start.esi + 0x218);
    assert_true(base + 123456 <= 32 * MIB && IS_ALIGNED(base, PAGE_SIZE));
    assert_memory_equal(memory + base, memory + 40 * MIB, 123456);
}

static void test_linux_several_initrds_become_one(void **state)
{
    uint32_t base;

    (void)state;
    make_linux();
    module[1] = (struct boot_module){40 * MIB, 4097, "a"};
    module[2] = (struct boot_module){44 * MIB, 5000, "b"};
    in.modules = 3;
    host_random_fill(memory + 40 * MIB, 8 * MIB);
    plan_and_load(L1_LINUX);
    base = word_at(plan.start.esi + 0x218);
    assert_int_equal(word_at(plan.start.esi + 0x21c), 4100 + 5000);
    assert_memory_equal(memory + base, memory + 40 * MIB, 4097);
    assert_memory_equal(memory + base + 4097, "\0\0\0", 3);
    assert_memory_equal(memory + base + 4100, memory + 44 * MIB, 5000);
}

static void test_linux_avoids_the_stash(void **state)
{
    (void)state;
    make_linux();
    module[1] = (struct boot_module){18 * MIB, 1 * MIB, "initrd"};
    in.modules = 2;
    plan_and_load(L1_LINUX);
    assert_int_equal(plan.start.rip, 20 * MIB);
    assert_int_equal(word_at(plan.start.esi + 0x214), 20 * MIB);
}

static void test_linux_rsdp(void **state)
{
    static const uint8_t rsdp[36] = "RSD PTR ";
    hpa_t where, params;
    bool found = false;

    (void)state;
    make_linux();
    in.rsdp = rsdp;
    in.rsdp_size = sizeof rsdp;
    plan_and_load(L1_LINUX);
    params = plan.start.esi;
    where = quad_at(params + 0x70);
    assert_memory_equal(memory + where, rsdp, sizeof rsdp);
    /* L1 must not take the page for free memory. */
    for (unsigned i = 0; i < memory[params + 0x1e8]; i++)
        found |= quad_at(params + 0x2d0 + i * 20) == where && quad_at(params + 0x2d0 + i * 20 + 8) == PAGE_SIZE &&
                 word_at(params + 0x2d0 + i * 20 + 16) == REGION_ACPI;
    assert_true(found);
    put16(0x206, 0x20d);
    plan_and_load(L1_LINUX);
    assert_int_equal(quad_at(plan.start.esi + 0x70), 0);
}

static void test_linux_fixed_address(void **state)
{
    (void)state;
    make_linux();
    image[0x234] = 0;
    put64(0x258, 0x100000);
    plan_and_load(L1_LINUX);
    assert_int_equal(plan.start.rip, 0x100000);
    module[1] = (struct boot_module){2 * MIB, PAGE_SIZE, "initrd"};
    in.modules = 2;
    expect_error("does not fit into RAM");
}

static void test_linux_errors(void **state)
{
    static char line[3000];

    (void)state;
    make_linux();
    put16(0x206, 0x209);
    expect_error("too old boot protocol");
    make_linux();
    image[0x211] = 0;
    expect_error("zImage");
    image[0x211] = 1;
    put32(0x1f4, 0);
    expect_error("no protected-mode code");
    put32(0x1f4, LINUX_CODE / 16 + 1);
    expect_error("truncated bzImage");
    put32(0x1f4, UINT32_MAX);
    expect_error("truncated bzImage");
    make_linux();
    for (uint64_t size = 0x1f1; size < LINUX_SETUP + LINUX_CODE; size += 577) {
        module[0].size = size;
        assert_non_null(l1_plan(&in, &plan));
    }
    module[0].size = LINUX_SETUP;
    expect_error("truncated bzImage");
    make_linux();
    put32(0x260, 60 * MIB);
    expect_error("too little memory");
    put32(0x260, UINT32_MAX);
    expect_error("too little memory");
    make_linux();
    memset(line, 'x', sizeof line - 1);
    module[0].string = line;
    expect_error("command line is longer");
    module[0].string = "";
    module[1] = (struct boot_module){40 * MIB, 30 * MIB, "initrd"};
    in.modules = 2;
    put32(0x22c, 32 * MIB - 1);
    expect_error("too little memory for the initrd");
}

/* --- ELF and multiboot 1 --- */

#define ELF_CODE_OFFSET 0x1000
#define ELF_CODE_SIZE 0x3000
#define ELF_ADDRESS 0x400000

static void put_multiboot1(uint64_t offset, uint32_t flags)
{
    put32(offset, 0x1badb002);
    put32(offset + 4, flags);
    put32(offset + 8, 0u - 0x1badb002u - flags);
}

static void make_elf32(void)
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

static void test_multiboot1_elf32(void **state)
{
    hpa_t info;

    (void)state;
    make_elf32();
    plan_and_load(L1_MULTIBOOT1);
    assert_int_equal(plan.start.eax, 0x2badb002);
    assert_int_equal(plan.start.rip, ELF_ADDRESS + 0x10);
    assert_memory_equal(memory + ELF_ADDRESS, image + ELF_CODE_OFFSET, ELF_CODE_SIZE);
    for (unsigned i = 0; i < 0x5000; i++)
        assert_int_equal(memory[ELF_ADDRESS + ELF_CODE_SIZE + i], 0);
    info = plan.start.ebx;
    assert_int_equal(word_at(info) & 0x24d, 0x24d);
    assert_int_equal(word_at(info + 4), 639);
    assert_int_equal(word_at(info + 8), (CARVEOUT - MIB) / KIB);
    assert_string_equal((char *)memory + word_at(info + 16), "l1 first=1 second");
    assert_int_equal(word_at(info + 20), 0);
    assert_string_equal((char *)memory + word_at(info + 64), "Nestor");
}

static void test_multiboot1_mmap(void **state)
{
    uint32_t at, end;
    unsigned i = 0;

    (void)state;
    make_elf32();
    plan_and_load(L1_MULTIBOOT1);
    at = word_at(plan.start.ebx + 48);
    end = at + word_at(plan.start.ebx + 44);
    for (; at < end; at += word_at(at) + 4, i++) {
        assert_int_equal(quad_at(at + 4), map.region[i].base);
        assert_int_equal(quad_at(at + 12), map.region[i].size);
        assert_int_equal(word_at(at + 20), map.region[i].type);
    }
    assert_int_equal(i, map.count);
}

static void test_multiboot1_modules(void **state)
{
    uint32_t list;

    (void)state;
    make_elf32();
    module[1] = (struct boot_module){48 * MIB, 100, "one a=b"};
    module[2] = (struct boot_module){47 * MIB, 5000, ""};
    in.modules = 3;
    plan_and_load(L1_MULTIBOOT1);
    assert_int_equal(word_at(plan.start.ebx + 20), 2);
    list = word_at(plan.start.ebx + 24);
    assert_int_equal(word_at(list), 48 * MIB);
    assert_int_equal(word_at(list + 4), 48 * MIB + 100);
    assert_string_equal((char *)memory + word_at(list + 8), "one a=b");
    assert_int_equal(word_at(list + 16), 47 * MIB);
    assert_string_equal((char *)memory + word_at(list + 24), "");
}

static void test_multiboot1_elf64(void **state)
{
    Elf64_Ehdr *header = (Elf64_Ehdr *)image;
    Elf64_Phdr *segment = (Elf64_Phdr *)(image + sizeof *header);

    (void)state;
    memcpy(header->e_ident,
           "\x7f"
           "ELF\2\1\1",
           7);
    header->e_type = ET_EXEC;
    header->e_machine = EM_X86_64;
    header->e_entry = 0xffffffff80100020;
    header->e_phoff = sizeof *header;
    header->e_phentsize = sizeof *segment;
    header->e_phnum = 2;
    segment[0] = (Elf64_Phdr){.p_type = PT_LOAD,
                              .p_offset = 0x1000,
                              .p_vaddr = 0xffffffff80100000,
                              .p_paddr = 0x100000,
                              .p_filesz = 0x2000,
                              .p_memsz = 0x2000};
    segment[1] = (Elf64_Phdr){.p_type = PT_LOAD,
                              .p_offset = 0x3000,
                              .p_vaddr = 0xffffffff80102000,
                              .p_paddr = 0x102000,
                              .p_filesz = 0,
                              .p_memsz = 0x1000};
    module[0].size = 0x3000;
    put_multiboot1(0x1004, 3);
    plan_and_load(L1_MULTIBOOT1);
    assert_int_equal(plan.start.rip, 0x100020);
    assert_memory_equal(memory + 0x100000, image + 0x1000, 0x2000);
}

static void test_multiboot1_by_addresses(void **state)
{
    (void)state;
    put_multiboot1(0x40, 0x10002);
    put32(0x4c, 0x200040);
    put32(0x50, 0x200000);
    put32(0x54, 0x201000);
    put32(0x58, 0x202000);
    put32(0x5c, 0x200100);
    module[0].size = 0x1800;
    host_random_fill(image + 0x100, 0xf00);
    plan_and_load(L1_MULTIBOOT1);
    assert_int_equal(plan.start.rip, 0x200100);
    assert_memory_equal(memory + 0x200000, image, 0x1000);
    assert_int_equal(memory[0x201000], 0);
    assert_int_equal(memory[0x201fff], 0);
    put32(0x54, 0); /* the whole file */
    put32(0x58, 0);
    plan_and_load(L1_MULTIBOOT1);
    assert_memory_equal(memory + 0x200000, image, 0x1800);
    put32(0x54, 0x202000);
    expect_error("more than the file holds");
    put32(0x54, 0x1fff00);
    expect_error("more than the file holds");
    put32(0x54, 0x201000);
    put32(0x50, 0x200050);
    expect_error("load address");
    put32(0x50, 0x1fff00);
    expect_error("load address");
    put32(0x50, 0x200000);
    put32(0x5c, 0x300000);
    expect_error("entry address");
}

static void test_elf_errors(void **state)
{
    Elf32_Ehdr *header = (Elf32_Ehdr *)image;
    Elf32_Phdr *segment = (Elf32_Phdr *)(image + sizeof *header) + 1;

    (void)state;
    make_elf32();
    module[0].size -= 1;
    expect_error("outside the file");
    make_elf32();
    segment->p_offset = UINT32_MAX;
    expect_error("outside the file");
    make_elf32();
    segment->p_memsz = 1;
    expect_error("larger in the file");
    make_elf32();
    segment->p_paddr = 0;
    expect_error("does not fit into RAM");
    segment->p_paddr = 0x9c000;
    expect_error("does not fit into RAM");
    segment->p_paddr = CARVEOUT - PAGE_SIZE;
    expect_error("does not fit into RAM");
    segment->p_paddr = 50 * MIB;
    expect_error("does not fit into RAM");
    make_elf32();
    header->e_entry = 0x100;
    expect_error("entry address");
    make_elf32();
    header->e_phoff = UINT32_MAX - 8;
    expect_error("program headers");
    make_elf32();
    header->e_phentsize = 8;
    expect_error("no ELF executable");
    make_elf32();
    header->e_machine = EM_ARM;
    expect_error("no ELF executable");
    make_elf32();
    put_multiboot1(ELF_CODE_OFFSET, 8);
    expect_error("feature");
}

static void test_too_many_segments(void **state)
{
    Elf32_Ehdr *header = (Elf32_Ehdr *)image;
    Elf32_Phdr *segment = (Elf32_Phdr *)(image + sizeof *header);

    (void)state;
    make_elf32();
    put_multiboot1(ELF_CODE_OFFSET + 0x2000, 0);
    header->e_phnum = 100;
    for (unsigned i = 0; i < 100; i++)
        segment[i] = (Elf32_Phdr){.p_type = PT_LOAD,
                                  .p_offset = 0x2000,
                                  .p_vaddr = 0x400000 + i * 0x1000,
                                  .p_paddr = 0x400000 + i * 0x1000,
                                  .p_filesz = 32,
                                  .p_memsz = 32};
    expect_error("too many segments");
    header->e_phnum = 50;
    plan_and_load(L1_MULTIBOOT1);
}

/* --- multiboot 2 --- */

static uint64_t put_tag(uint64_t at, uint16_t type, uint16_t flags, uint32_t size)
{
    put16(at, type);
    put16(at + 2, flags);
    put32(at + 4, size);
    return at + ALIGN_UP(size, 8);
}

static void put_multiboot2(uint64_t offset, uint32_t length)
{
    put32(offset, 0xe85250d6);
    put32(offset + 4, 0);
    put32(offset + 8, length);
    put32(offset + 12, 0u - 0xe85250d6u - length);
}

static void make_multiboot2(void)
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

/* The tag of `type` number `skip` of the information block; 0 when there is none. */
static hpa_t find_tag(uint32_t type, unsigned skip)
{
    hpa_t at = plan.start.ebx + 8, end = plan.start.ebx + word_at(plan.start.ebx);

    assert_true(IS_ALIGNED(plan.start.ebx, 8));
    for (; at < end; at += ALIGN_UP(word_at(at + 4), 8)) {
        assert_true(word_at(at + 4) >= 8);
        if (word_at(at) == type && skip-- == 0)
            return at;
        if (word_at(at) == 0)
            assert_int_equal(at + 8, end);
    }
    return 0;
}

static void test_multiboot2(void **state)
{
    static const uint8_t rsdp[36] = "RSD PTR ";
    hpa_t mmap;

    (void)state;
    make_multiboot2();
    in.rsdp = rsdp;
    in.rsdp_size = sizeof rsdp;
    module[1] = (struct boot_module){48 * MIB, 100, "one a=b"};
    module[2] = (struct boot_module){47 * MIB, 5000, "two"};
    in.modules = 3;
    plan_and_load(L1_MULTIBOOT2);
    assert_int_equal(plan.start.eax, 0x36d76289);
    assert_int_equal(plan.start.rip, ELF_ADDRESS + 0x10);
    assert_string_equal((char *)memory + find_tag(1, 0) + 8, "l1 first=1 second");
    assert_string_equal((char *)memory + find_tag(2, 0) + 8, "Nestor");
    assert_int_equal(word_at(find_tag(3, 0) + 8), 48 * MIB);
    assert_int_equal(word_at(find_tag(3, 0) + 12), 48 * MIB + 100);
    assert_string_equal((char *)memory + find_tag(3, 0) + 16, "one a=b");
    assert_string_equal((char *)memory + find_tag(3, 1) + 16, "two");
    assert_int_equal(find_tag(3, 2), 0);
    assert_int_equal(word_at(find_tag(4, 0) + 8), 639);
    assert_int_equal(word_at(find_tag(4, 0) + 12), (CARVEOUT - MIB) / KIB);
    assert_memory_equal(memory + find_tag(15, 0) + 8, rsdp, sizeof rsdp);
    assert_int_equal(find_tag(14, 0), 0);
    mmap = find_tag(6, 0);
    assert_int_equal(word_at(mmap + 4), 16 + map.count * 24);
    assert_int_equal(word_at(mmap + 8), 24);
    for (unsigned i = 0; i < map.count; i++) {
        assert_int_equal(quad_at(mmap + 16 + i * 24), map.region[i].base);
        assert_int_equal(quad_at(mmap + 24 + i * 24), map.region[i].size);
        assert_int_equal(word_at(mmap + 32 + i * 24), map.region[i].type);
    }
    in.rsdp_size = 20;
    plan_and_load(L1_MULTIBOOT2);
    assert_memory_equal(memory + find_tag(14, 0) + 8, rsdp, 20);
}

static void test_multiboot2_by_addresses(void **state)
{
    uint64_t at = 0x80 + 16;

    (void)state;
    host_random_fill(image, 0x1000);
    put_tag(at, 2, 0, 24);
    put32(at + 8, 0x300080);
    put32(at + 12, UINT32_MAX);
    put32(at + 16, 0);
    put32(at + 20, 0x305000);
    at += 24;
    put_tag(at, 3, 0, 12);
    put32(at + 8, 0x300200);
    at += 16;
    at = put_tag(at, 0, 0, 8);
    put_multiboot2(0x80, (uint32_t)(at - 0x80));
    module[0].size = 0x1000;
    plan_and_load(L1_MULTIBOOT2);
    assert_int_equal(plan.start.rip, 0x300200);
    assert_memory_equal(memory + 0x300000, image, 0x1000);
    assert_int_equal(memory[0x304fff], 0);
}

static void test_multiboot2_errors(void **state)
{
    uint64_t tag = ELF_CODE_OFFSET + 0x20 + 16;

    (void)state;
    make_multiboot2();
    put16(tag, 11);
    expect_error("feature");
    put32(tag + 4, 7);
    put16(tag, 5);
    expect_error("shorter");
    make_multiboot2();
    put32(ELF_CODE_OFFSET + 0x24, 4);
    put32(ELF_CODE_OFFSET + 0x2c, 0u - 0xe85250d6u - 4 - *(uint32_t *)(image + ELF_CODE_OFFSET + 0x28));
    expect_error("architecture");
    make_multiboot2();
    put_tag(tag, 1, 0, 0x10000000);
    put_multiboot2(ELF_CODE_OFFSET + 0x20, UINT32_MAX);
    expect_error("truncated");
}

static void test_detect(void **state)
{
    (void)state;
    module[0].size = PAGE_SIZE;
    expect_error("no kernel");
    assert_int_equal(l1_detect(image, 0), L1_UNKNOWN);
    put_multiboot1(8188, 0);
    assert_int_equal(l1_detect(image, 8200), L1_MULTIBOOT1);
    assert_int_equal(l1_detect(image, 8199), L1_UNKNOWN);
    put32(8188, 0);
    put_multiboot1(8192, 0);
    assert_int_equal(l1_detect(image, IMAGE_MAX), L1_UNKNOWN);
    put_multiboot1(4096 + 2, 0);
    assert_int_equal(l1_detect(image, IMAGE_MAX), L1_UNKNOWN);
    put_multiboot2(32760, 16);
    assert_int_equal(l1_detect(image, IMAGE_MAX), L1_MULTIBOOT2);
    put_multiboot1(4096, 0);
    assert_int_equal(l1_detect(image, IMAGE_MAX), L1_MULTIBOOT1);
    put32(4096, 0);
    put32(32760 + 12, 0);
    assert_int_equal(l1_detect(image, IMAGE_MAX), L1_UNKNOWN);
    in.modules = 0;
    expect_error("no module");
}

static void test_too_little_low_memory(void **state)
{
    (void)state;
    make_elf32();
    assert_int_equal(memmap_set(&map, 0x3000, MIB - 0x3000, REGION_RESERVED), 0);
    expect_error("below 640 KiB");
    make_linux();
    expect_error("below 640 KiB");
}

/* --- the stash --- */

static void check_stash(unsigned count, const struct memmap_region *keep, unsigned keep_count)
{
    static uint8_t before[BOOTINFO_MAX_MODULES][256 * KIB], kept[64 * KIB];
    struct l1_move move[BOOTINFO_MAX_MODULES];
    const char *error;

    for (unsigned i = 0; i < count; i++) {
        host_random_fill(memory + module[i].start, module[i].size);
        memcpy(before[i], memory + module[i].start, module[i].size);
    }
    if (keep_count)
        memcpy(kept, memory + keep->base, keep->size);
    error = l1_stash_plan(&map, L1_STASH_LIMIT, module, count, keep, keep_count, move);
    assert_null(error);
    l1_stash(move, count, module);
    for (unsigned i = 0; i < count; i++) {
        assert_memory_equal(memory + module[i].start, before[i], module[i].size);
        assert_true(IS_ALIGNED(module[i].start, PAGE_SIZE));
        assert_true(memmap_is(&map, module[i].start, module[i].size, REGION_RAM));
    }
    if (keep_count)
        assert_memory_equal(memory + keep->base, kept, keep->size);
}

static void test_stash_goes_to_the_top(void **state)
{
    (void)state;
    module[0] = (struct boot_module){3 * MIB, 100000, ""};
    module[1] = (struct boot_module){4 * MIB, 200000, ""};
    module[2] = (struct boot_module){2 * MIB, 4096, ""};
    check_stash(3, NULL, 0);
    assert_int_equal(module[1].start, CARVEOUT - 200704);
    assert_int_equal(module[0].start, CARVEOUT - 200704 - 102400);
    assert_int_equal(module[2].start, CARVEOUT - 200704 - 102400 - 4096);
}

/* Modules in the carve-out, at the top of RAM, over each other's destinations: nothing may be lost. */
static void test_stash_random(void **state)
{
    const struct memmap_region keep = {CARVEOUT - 200 * KIB, 50 * KIB, REGION_RAM};

    (void)state;
    for (unsigned round = 0; round < 300; round++) {
        unsigned count = 1 + (unsigned)(host_random() % 12);
        hpa_t at = CARVEOUT - 2 * MIB + host_random() % (2 * MIB);
        for (unsigned i = 0; i < count; i++) {
            uint64_t size = 1 + host_random() % (256 * KIB - 1);
            if (at < keep.base + keep.size && keep.base < at + size)
                at = keep.base + keep.size;
            at = round % 2 ? ALIGN_UP(at, PAGE_SIZE) : at;
            module[i] = (struct boot_module){at, size, ""};
            at += size + (host_random() % 3 ? 0 : host_random() % MIB);
        }
        check_stash(count, &keep, round % 3 == 0);
    }
}

static void test_stash_without_room(void **state)
{
    struct l1_move move[2];

    (void)state;
    module[0] = (struct boot_module){3 * MIB, 30 * MIB, ""};
    module[1] = (struct boot_module){40 * MIB, 30 * MIB, ""};
    assert_non_null(l1_stash_plan(&map, L1_STASH_LIMIT, module, 2, NULL, 0, move));
    module[1].size = 10 * MIB;
    assert_null(l1_stash_plan(&map, L1_STASH_LIMIT, module, 2, NULL, 0, move));
    assert_non_null(l1_stash_plan(&map, 16 * MIB, module, 2, NULL, 0, move));
}

/* Damaged images must give an error or a sound plan, never a wild access. */
static void test_damaged_images(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 3000; round++) {
        memset(image, 0, 0x8000);
        if (round % 3 == 0)
            make_linux();
        else if (round % 3 == 1)
            make_elf32();
        else
            make_multiboot2();
        for (unsigned i = 0; i < 1 + round % 5; i++) {
            unsigned at =
                (unsigned)(host_random() % (round % 3 ? 0x80 : 0x300)) + (host_random() % 4 ? 0 : ELF_CODE_OFFSET);
            image[at] = (uint8_t)host_random();
        }
        if (host_random() % 4 == 0)
            module[0].size = host_random() % module[0].size;
        /* The plan may only name bytes of a buffer of exactly the file's size. */
        uint8_t *exact = malloc(module[0].size + 1);
        memcpy(exact, image, module[0].size);
        in.image = exact;
        if (!l1_plan(&in, &plan)) {
            check_plan();
            l1_load(&plan);
        }
        free(exact);
    }
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_detect),
        TEST(test_linux_plain),
        TEST(test_linux_e820),
        TEST(test_linux_initrd_stays),
        TEST(test_linux_initrd_moves_where_the_kernel_reaches),
        TEST(test_linux_several_initrds_become_one),
        TEST(test_linux_avoids_the_stash),
        TEST(test_linux_rsdp),
        TEST(test_linux_fixed_address),
        TEST(test_linux_errors),
        TEST(test_multiboot1_elf32),
        TEST(test_multiboot1_mmap),
        TEST(test_multiboot1_modules),
        TEST(test_multiboot1_elf64),
        TEST(test_multiboot1_by_addresses),
        TEST(test_elf_errors),
        TEST(test_too_many_segments),
        TEST(test_multiboot2),
        TEST(test_multiboot2_by_addresses),
        TEST(test_multiboot2_errors),
        TEST(test_too_little_low_memory),
        TEST(test_stash_goes_to_the_top),
        TEST(test_stash_random),
        TEST(test_stash_without_room),
        TEST(test_damaged_images),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
