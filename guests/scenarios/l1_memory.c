/* Physical addresses that are no RAM, as L1 finds them: devices, ROM, holes, and the space above everything. */
#include "guests/lib/cpu.h"
#include "guests/lib/irq.h"
#include "guests/lib/multiboot.h"
#include "guests/lib/page.h"
#include "guests/lib/paging.h"
#include "guests/scenarios/scenario.h"

#define VGA_TEXT 0xb8000ull
#define BIOS_ROM 0xffff0ull
#define IOAPIC_SELECT 0xfec00000ull
#define IOAPIC_WINDOW 0xfec00010ull
#define ALL_ONES 0xffffffffu
#define ROUNDS 64
#define PF_RESERVED_BIT BIT(3)

static volatile uint32_t *word_at(uint64_t address)
{
    return (volatile uint32_t *)address;
}

static void memory_lapic(void)
{
    uint32_t id = irq_lapic_read(LAPIC_ID), version = irq_lapic_read(0x30);

    CHECK_EQ(id >> 24, cpu_cpuid(1, 0).ebx >> 24);
    print("# LAPIC version %x\n", version);
    irq_lapic_write(0xd0, 0x12000000); /* logical destination */
    CHECK_EQ(irq_lapic_read(0xd0), 0x12000000);
    irq_lapic_write(0xd0, 0);
}

static void memory_ioapic(void)
{
    *word_at(IOAPIC_SELECT) = 1;
    CHECK_EQ(*word_at(IOAPIC_SELECT) & 0xff, 1);
    print("# IOAPIC version %x\n", *word_at(IOAPIC_WINDOW));
    *word_at(IOAPIC_SELECT) = 0x10 + 2 * 5;
    *word_at(IOAPIC_WINDOW) = BIT(16) | 0x77;
    CHECK_EQ(*word_at(IOAPIC_WINDOW), BIT(16) | 0x77);
    *word_at(IOAPIC_WINDOW) = BIT(16);
}

/* Text memory of the display, the old way between RAM and ROM. */
static void memory_vga(void)
{
    volatile uint16_t *text = (volatile uint16_t *)VGA_TEXT;
    uint16_t saved[ROUNDS];

    for (unsigned i = 0; i < ROUNDS; i++) {
        saved[i] = text[i];
        text[i] = (uint16_t)(0x0700 | ('A' + i % 26));
    }
    for (unsigned i = 0; i < ROUNDS; i++) {
        CHECK_EQ(text[i], 0x0700 | ('A' + i % 26));
        text[i] = saved[i];
    }
}

static void memory_rom(void)
{
    uint32_t value = *word_at(BIOS_ROM);

    print("# reset vector %x\n", value);
    *word_at(BIOS_ROM) = ~value;
    CHECK_EQ(*word_at(BIOS_ROM), value);
    CHECK_EQ(*word_at(0xfffffff0), value); /* its mirror below 4 GiB */
}

/* Below 4 GiB and above RAM, where nothing answers. */
static void memory_hole(void)
{
    const uint64_t hole = 0xd0000000;

    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t address = hole + i * 0x10040ull;
        CHECK_EQ(*word_at(address), ALL_ONES);
        *word_at(address) = 0x12345678;
        CHECK_EQ(*word_at(address), ALL_ONES);
    }
}

/* A linear window of one large page onto a physical address. */
static uint64_t map_high(uint64_t physical)
{
    uint64_t *root = (uint64_t *)(cpu_read_cr3() & PAGING_ADDRESS);
    uint64_t *pointers = page_alloc(), *directory = page_alloc();

    root[1] = (uint64_t)pointers | PTE_P | PTE_W;
    pointers[0] = (uint64_t)directory | PTE_P | PTE_W;
    directory[0] = physical | PTE_P | PTE_W | PAGING_LARGE;
    cpu_write_cr3(cpu_read_cr3());
    return 512 * GIB;
}

static void unmap_high(void)
{
    ((uint64_t *)(cpu_read_cr3() & PAGING_ADDRESS))[1] = 0;
    cpu_write_cr3(cpu_read_cr3());
}

/* The 64-bit space above 4 GiB, up to what the CPU's addresses reach; beyond, page tables have reserved bits. */
static void memory_above_4g(void)
{
    unsigned bits = cpu_physical_bits();
    uint64_t window;

    for (unsigned shift = 33; shift < bits; shift++) {
        window = map_high(BIT(shift));
        CHECK_EQ(*word_at(window + 0x1234), ALL_ONES);
        *word_at(window) = 0;
        CHECK_EQ(*word_at(window), ALL_ONES);
    }
    window = map_high(BIT(bits) - LARGE_2M);
    CHECK_EQ(*word_at(window + LARGE_2M - 4), ALL_ONES);
    window = map_high(BIT(bits));
    CHECK_FAULT((void)*word_at(window), VECTOR_PF);
    CHECK_EQ(fault.error & PF_RESERVED_BIT, PF_RESERVED_BIT);
    unmap_high();
}

/* Each region of the memory map that is RAM holds what is written, at its first and last page. */
static void memory_ram(void)
{
    const struct region *regions;
    unsigned count = multiboot_regions(&regions);
    uint64_t own_end = page_region_end();

    CHECK(count >= 2);
    for (unsigned i = 0; i < count; i++) {
        uint64_t last = (regions[i].base + regions[i].size - 8) & ~7ull;
        if (!regions[i].usable || regions[i].base + regions[i].size > own_end || last < MIB)
            continue;
        uint32_t saved = *word_at(last);
        *word_at(last) = ~saved;
        CHECK_EQ(*word_at(last), ~saved);
        *word_at(last) = saved;
    }
}

const struct scenario l1_memory_scenarios[] = {
    {"l1-memory-lapic", memory_lapic, NULL}, {"l1-memory-ioapic", memory_ioapic, NULL},
    {"l1-memory-vga", memory_vga, NULL},     {"l1-memory-rom", memory_rom, NULL},
    {"l1-memory-hole", memory_hole, NULL},   {"l1-memory-above-4g", memory_above_4g, NULL},
    {"l1-memory-ram", memory_ram, NULL},     {NULL, NULL, NULL},
};
