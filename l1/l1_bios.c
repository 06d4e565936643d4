#include "l1/l1_bios.h"

#include "boot/bootinfo.h"
#include "kernel/layout.h"
#include "kernel/string.h"

#define VECTORS 256u /* the interrupt table is at 0 */
#define SIZE_SERVICE 0x12u
#define MEMORY_SERVICE 0x15u
#define FIRST_SERVICE 0x10u
#define LAST_SERVICE 0x1fu
/* Words of the BIOS data area. */
#define EXTENDED_AREA 0x40eu /* its segment */
#define BASE_MEMORY_KIB 0x413u
#define CONVENTIONAL_END (640 * KIB)
#define BLOCK (64 * KIB)

extern const uint8_t bios15_code[L1_BIOS_TABLE_OFFSET];

_Static_assert(L1_BIOS_TABLE_OFFSET + sizeof(struct l1_bios_table) <= PAGE_SIZE, "one page");
_Static_assert(offsetof(struct l1_bios_table, region) == 16, "l1/bios15.asm: REGIONS");

static uint32_t read_vector(void)
{
    uint32_t vector;

    memcpy(&vector, hpa_to_va(MEMORY_SERVICE * sizeof vector), sizeof vector);
    return vector;
}

static void put_vector(unsigned n, hpa_t page, unsigned offset)
{
    uint32_t vector = (uint32_t)(page >> 4) << 16 | offset;

    memcpy(hpa_to_va(n * sizeof vector), &vector, sizeof vector);
}

/* Without a BIOS: no service but two; device interrupts, wherever the controllers put them, just return. */
static unsigned answer_of(unsigned vector)
{
    if (vector == MEMORY_SERVICE)
        return 0;
    if (vector == SIZE_SERVICE)
        return L1_BIOS_SIZE;
    return vector >= FIRST_SERVICE && vector <= LAST_SERVICE ? L1_BIOS_REFUSE : L1_BIOS_RETURN;
}

bool l1_bios_present(void)
{
    return read_vector() != 0;
}

hpa_t l1_bios_find(const struct memmap *map)
{
    return memmap_find_top(map, PAGE_SIZE, PAGE_SIZE, CONVENTIONAL_END, NULL, 0);
}

/* Bytes of RAM without a gap from `base` on. */
static uint64_t ram_from(const struct memmap *map, hpa_t base)
{
    for (unsigned i = 0; i < map->count; i++) {
        const struct memmap_region *region = &map->region[i];
        if (region->type == REGION_RAM && region->base <= base && base - region->base < region->size)
            return region->base + region->size - base;
    }
    return 0;
}

void l1_bios_fill(const struct memmap *map, uint32_t bios_vector, struct l1_bios_table *table)
{
    uint64_t kib = ram_from(map, MIB) / KIB;

    *table = (struct l1_bios_table){
        .bios_vector = bios_vector,
        .count = MIN(map->count, L1_BIOS_REGIONS),
        .kib_from_1m = (uint16_t)MIN(kib, 15 * KIB),
        .blocks_from_16m = (uint16_t)MIN(ram_from(map, 16 * MIB) / BLOCK, UINT16_MAX),
        .kib_from_1m_all = (uint16_t)MIN(kib, UINT16_MAX),
    };
    for (unsigned i = 0; i < table->count; i++) {
        table->region[i].base = map->region[i].base;
        table->region[i].size = map->region[i].size;
        table->region[i].type = map->region[i].type;
    }
}

void l1_bios_install(const struct memmap *map, hpa_t page)
{
    uint8_t *to = hpa_to_va(page);
    uint16_t base_memory = (uint16_t)(page / KIB);

    memcpy(to, bios15_code, L1_BIOS_TABLE_OFFSET);
    l1_bios_fill(map, read_vector(), (struct l1_bios_table *)(to + L1_BIOS_TABLE_OFFSET));
    put_vector(MEMORY_SERVICE, page, 0);
    memcpy(hpa_to_va(BASE_MEMORY_KIB), &base_memory, sizeof base_memory);
}

void l1_bios_stand_in(hpa_t page, const uint8_t *rsdp, uint32_t size)
{
    uint8_t *to = hpa_to_va(page);
    struct l1_bios_table *table = (struct l1_bios_table *)(to + L1_BIOS_TABLE_OFFSET);
    uint16_t segment = (uint16_t)(page >> 4);

    for (unsigned n = 0; n < VECTORS; n++)
        put_vector(n, page, answer_of(n));
    table->bios_vector = (uint32_t)segment << 16 | L1_BIOS_REFUSE;
    memcpy(hpa_to_va(EXTENDED_AREA), &segment, sizeof segment);
    memcpy(to + L1_BIOS_ROOT, rsdp, MIN(size, L1_BIOS_TABLE_OFFSET - L1_BIOS_ROOT));
}
