/* sources: l1/l1_plan.c l1/l1_image.c l1/l1_stash.c l1/l1_linux.c l1/l1_elf.c l1/l1_multiboot.c
   l1/l1_disk.c l1/l1_multiboot_info.c l1/l1_load.c mm/memmap.c */
#include "tests/host/l1_world.h"

/* --- ELF and multiboot 1 --- */

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

static const struct boot_framebuffer a_screen = {SCREEN_RGB, 0x40c0000000, 3200, 800, 600, 32, {16, 8}, {8, 7}, {0, 6}};

static void test_framebuffer_of_the_older(void **state)
{
    hpa_t info;

    (void)state;
    make_elf32();
    in.screen = &a_screen;
    plan_and_load(L1_MULTIBOOT1);
    info = plan.start.ebx;
    assert_true(word_at(info) & BIT(12));
    assert_int_equal(quad_at(info + 88), 0x40c0000000);
    assert_int_equal(word_at(info + 96), 3200);
    assert_int_equal(word_at(info + 100), 800);
    assert_int_equal(word_at(info + 104), 600);
    assert_memory_equal(memory + info + 108, "\x20\x01\x10\x08\x08\x07\x00\x06", 8);
    in.screen = NULL;
    plan_and_load(L1_MULTIBOOT1);
    assert_false(word_at(plan.start.ebx) & BIT(12));
}

static void test_uefi_of_the_newer(void **state)
{
    static struct efi_map efi = {.size = 96, .descriptor_size = 48, .version = 1};
    hpa_t tag;

    (void)state;
    host_random_fill(efi.bytes, efi.size);
    make_multiboot2();
    in.screen = &a_screen;
    in.efi_map = &efi;
    in.efi_system_table = 0x13f0a1018;
    plan_and_load(L1_MULTIBOOT2);
    tag = find_tag(8, 0);
    assert_int_equal(word_at(tag + 4), 38);
    assert_int_equal(quad_at(tag + 8), 0x40c0000000);
    assert_memory_equal(memory + tag + 28, "\x20\x01\x00\x00\x10\x08\x08\x07\x00\x06", 10);
    assert_int_equal(quad_at(find_tag(12, 0) + 8), 0x13f0a1018);
    tag = find_tag(17, 0);
    assert_int_equal(word_at(tag + 4), 16 + 96);
    assert_int_equal(word_at(tag + 8), 48);
    assert_int_equal(word_at(tag + 12), 1);
    assert_memory_equal(memory + tag + 16, efi.bytes, 96);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_multiboot1_elf32),         TEST(test_multiboot1_mmap),
        TEST(test_multiboot1_modules),       TEST(test_multiboot1_elf64),
        TEST(test_multiboot1_by_addresses),  TEST(test_elf_errors),
        TEST(test_too_many_segments),        TEST(test_multiboot2),
        TEST(test_multiboot2_by_addresses),  TEST(test_multiboot2_errors),
        TEST(test_framebuffer_of_the_older), TEST(test_uefi_of_the_newer),
    };

    return cmocka_run_group_tests_name("l1_multiboot", tests, NULL, NULL);
}
