#include "guests/diff/arena.h"

#include "guests/lib/mem.h"
#include "guests/lib/page.h"
#include "guests/lib/paging.h"

#define SPPT_LEVELS 4
#define SPPT_VALID BIT(0)
#define VECTORS 256
#define GATE32_TYPE 0x8e
#define GATE_DPL3 0x60
#define TSS_STACK0 4
#define TSS32_SS0 8
#define TSS_IO_MAP 102
#define RFLAGS_RF BIT(16)

static const uint8_t vmcall_bytes[] = {0x0f, 0x01, 0xc1, 0x90};

static uint8_t *arena, *golden;
static uint64_t *ept_roots[2];      /* without and with A/D flags */
static uint64_t *sppt[SPPT_LEVELS]; /* of the page's whole address space, one table per level */

static const uint64_t gdt[] = {
    [L2_CODE64 / 8] = 0x00af9b000000ffff,
    [L2_DATA / 8] = 0x00cf93000000ffff,
    [L2_CODE32 / 8] = 0x00cf9b000000ffff,
    [L2_USER_DATA / 8] = 0x00cff3000000ffff,
    [L2_USER_CODE64 / 8] = 0x00affb000000ffff,
    [L2_USER_CODE32 / 8] = 0x00cffb000000ffff,
    [L2_TSS / 8] = 0x00008b0000000067 | AT(PAGE_TSS) << 16,
    [L2_CODE16 / 8] = 0x00009b000000ffff,
    [L2_DATA16 / 8] = 0x000093000000ffff,
    [L2_LDT / 8] = 0x000082000000007f | LDT_AT << 16,
    [L2_TSS_OTHER / 8] = 0x0000890000000067 | TSS32_OTHER_AT << 16,
    [L2_ABSENT / 8] = 0x00cf13000000ffff,
    [L2_CONFORMING / 8] = 0x00cf9f000000ffff,
    [L2_READ_ONLY / 8] = 0x00cf91000000ffff,
};
_Static_assert(sizeof(gdt) == L2_GDT_LIMIT + 1, "the limit of L2's GDT");

static void *golden_at(uint64_t address)
{
    return golden + address;
}

void *arena_at(uint64_t address)
{
    return arena + address;
}

static void put32(uint64_t address, uint32_t value)
{
    memcpy(golden_at(address), &value, sizeof(value));
}

static void put64(uint64_t address, uint64_t value)
{
    memcpy(golden_at(address), &value, sizeof(value));
}

static uint8_t gate_type(unsigned vector)
{
    bool user = vector == 3 || vector == 4 || vector >= 0x80;

    return (uint8_t)(GATE32_TYPE | (user ? GATE_DPL3 : 0));
}

static void build_vectors(void)
{
    for (unsigned vector = 0; vector < VECTORS; vector++) {
        uint64_t handler = AT(PAGE_HANDLERS) + vector * HANDLER_SIZE;
        uint32_t low = (uint32_t)handler, type = (uint32_t)gate_type(vector) << 8;

        memcpy(golden_at(handler), vmcall_bytes, sizeof(vmcall_bytes));
        put32(AT(PAGE_IDT64) + 16 * vector, low | L2_CODE64 << 16);
        put32(AT(PAGE_IDT64) + 16 * vector + 4, type);
        put32(AT(PAGE_IDT32) + 8 * vector, low | L2_CODE32 << 16);
        put32(AT(PAGE_IDT32) + 8 * vector + 4, type);
        put32(AT(PAGE_IVT) + 4 * vector, (uint32_t)((AT(PAGE_HANDLERS) >> 4) << 16 | vector * HANDLER_SIZE));
    }
}

static void build_tables(void)
{
    memcpy(golden_at(AT(PAGE_TABLES)), gdt, sizeof(gdt));
    put64(LDT_AT + 8, 0x00cff3000000ffff);
    put64(AT(PAGE_TSS) + TSS_STACK0, RING_STACK_TOP);
    put32(AT(PAGE_TSS) + TSS_IO_MAP - 2, 0x68u << 16);
    for (uint64_t tss = TSS32_AT; tss <= TSS32_OTHER_AT; tss += TSS32_OTHER_AT - TSS32_AT) {
        put32(tss + TSS_STACK0, (uint32_t)RING_STACK_TOP);
        put32(tss + TSS32_SS0, L2_DATA);
        put32(tss + TSS_IO_MAP - 2, 0x68u << 16);
    }
}

static uint64_t rights_of(unsigned page)
{
    switch (page) {
    case PAGE_KERNEL:
        return PTE_P | PTE_W;
    case PAGE_READ:
        return PTE_P | PTE_U;
    case PAGE_NX:
    case PAGE_APIC: /* Bochs panics when code is fetched from an APIC-access page */
        return PTE_P | PTE_W | PTE_U | PTE_NX;
    case PAGE_ABSENT:
        return 0;
    default:
        return PTE_P | PTE_W | PTE_U;
    }
}

/* `first` is PAGE_PML4 or PAGE_PML4_HOST; the 32-bit and 64-bit tables map the same. */
static void build_paging(unsigned first, bool ept)
{
    const uint64_t all = PTE_P | PTE_W | PTE_U;
    unsigned shift = first - PAGE_PML4;

    put64(AT(first), arena_physical(PAGE_PDPT, ept) | all);
    put64(AT(PAGE_PDPT + shift), arena_physical(PAGE_PD, ept) | all);
    put64(AT(PAGE_PD + shift), arena_physical(PAGE_PT, ept) | all);
    put32(AT(PAGE_PD32 + shift), (uint32_t)(arena_physical(PAGE_PT32, ept) | all));
    for (unsigned i = 0; i < 4; i++)
        put64(AT(PAGE_PDPTES + shift) + 8 * i, i ? 0 : arena_physical(PAGE_PD, ept) | PTE_P);
    for (unsigned i = 0; i < ARENA_PAGES; i++) {
        uint64_t target = ept ? AT(i) : (uint64_t)arena + AT(i);
        put64(AT(PAGE_PT + shift) + 8 * i, target | rights_of(i));
        put32(AT(PAGE_PT32 + shift) + 4 * i, i == PAGE_APIC && !ept ? 0 : (uint32_t)(target | rights_of(i)));
    }
}

uint64_t arena_physical(enum arena_page page, bool ept)
{
    if (ept)
        return AT(page);
    if (page >= PAGE_PML4 && page <= PAGE_PDPTES)
        page += PAGE_PML4_HOST - PAGE_PML4;
    return (uint64_t)arena + AT(page);
}

void arena_init(void)
{
    arena = page_alloc_run(ARENA_PAGES, ARENA_PAGES * PAGE_SIZE);
    golden = page_alloc_run(ARENA_PAGES, PAGE_SIZE);
    ept_roots[0] = page_alloc();
    ept_roots[1] = page_alloc();
    for (unsigned i = 0; i < SPPT_LEVELS; i++)
        sppt[i] = page_alloc();
    for (uint64_t at = AT(PAGE_CODE); at < AT(PAGE_CODE + 1); at += sizeof(vmcall_bytes))
        memcpy(golden_at(at), vmcall_bytes, sizeof(vmcall_bytes));
    for (uint64_t at = AT(PAGE_DATA); at < AT(PAGE_SPECIAL + 1); at += 8)
        put64(at, at * 0x0101010101010101ull);
    build_vectors();
    build_tables();
    build_paging(PAGE_PML4, true);
    build_paging(PAGE_PML4_HOST, false);
    arena_reset();
}

static void copy_quads(void *to, const void *from, uint64_t quads)
{
    asm volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(quads) : : "memory");
}

void arena_reset(void)
{
    copy_quads(arena, golden, ARENA_PAGES * PAGE_SIZE / 8);
    for (unsigned i = 0; i < ARENA_PAGES; i++)
        *arena_sppt_entry(i, 1) = 0;
    for (unsigned level = SPPT_LEVELS; level > 1; level--)
        *arena_sppt_entry(0, level) = (uint64_t)sppt[level - 2] | SPPT_VALID;
    for (unsigned i = 0; i < 2 * ARENA_PAGES; i++) {
        unsigned page = i / 2;
        uint64_t rights = page == PAGE_APIC ? EPT_R | EPT_W : EPT_RWX | EPT_XU;
        *arena_ept_entry(i % 2, page, PAGE_SIZE) = ((uint64_t)arena + AT(page)) | rights | EPT_WB;
        for (uint64_t span = LARGE_2M; span <= 512 * LARGE_1G; span *= 512)
            *arena_ept_entry(i % 2, page, span) = (*arena_ept_entry(i % 2, page, span) & ~EPT_ACCESSED) | EPT_XU;
    }
}

uint64_t arena_spptp(void)
{
    return (uint64_t)sppt[SPPT_LEVELS - 1];
}

uint64_t *arena_sppt_entry(enum arena_page page, unsigned level)
{
    return &sppt[level - 1][level > 1 ? 0 : page];
}

uint64_t arena_eptp(bool accessed_dirty)
{
    return ept_pointer(ept_roots[accessed_dirty], accessed_dirty);
}

uint64_t *arena_ept_entry(bool accessed_dirty, enum arena_page page, uint64_t span)
{
    return paging_entry(ept_roots[accessed_dirty], AT(page), span);
}

uint64_t arena_compared(enum arena_page page, uint64_t quad)
{
    return page == PAGE_STACK || page == PAGE_IVT ? quad & ~(RFLAGS_RF | RFLAGS_RF << 32) : quad;
}

uint64_t arena_hash(enum arena_page page)
{
    const uint64_t *p = arena_at(AT(page));
    uint64_t hash = 0;

    for (unsigned i = 0; i < PAGE_SIZE / 8; i++)
        hash = (hash ^ arena_compared(page, p[i])) * 0x100000001b3ull + (hash >> 31);
    return hash;
}

void arena_restore(enum arena_page page, unsigned offset, unsigned size)
{
    copy_quads(arena_at(AT(page) + offset), golden_at(AT(page) + offset), size / 8);
}
