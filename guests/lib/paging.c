#include "guests/lib/paging.h"

#include "guests/lib/page.h"
#include "vmx/vmx_bits.h"

#define LEVELS 4
#define ENTRIES 512
#define MEMORY_TYPE_WB 6
#define MAPPED_SIZE (4 * GIB)

_Static_assert((PTE_P | PTE_W | PTE_U) == EPT_RWX, "entries that point to tables are the same in both kinds");

/* Bytes that one entry of a level spans; level 1 is the lowest. */
static uint64_t span_of(int level)
{
    return PAGE_SIZE << (9 * (level - 1));
}

/* Puts a table in place of a leaf or of nothing; a leaf goes on in the table's entries. */
static void push_down(uint64_t *entry, int level)
{
    uint64_t leaf = *entry;
    uint64_t *table = page_alloc();

    for (unsigned i = 0; leaf && i < ENTRIES; i++) {
        table[i] = leaf + i * span_of(level - 1);
        if (level == 2)
            table[i] &= ~PAGING_LARGE;
    }
    *entry = (uint64_t)table | EPT_RWX | (leaf & EPT_XU);
}

uint64_t *paging_entry(uint64_t *root, uint64_t address, uint64_t span)
{
    uint64_t *table = root;

    for (int level = LEVELS;; level--) {
        uint64_t *entry = &table[address / span_of(level) % ENTRIES];
        if (span_of(level) == span)
            return entry;
        if (!*entry || (*entry & PAGING_LARGE))
            push_down(entry, level);
        table = (uint64_t *)(*entry & PAGING_ADDRESS);
    }
}

static uint64_t *alloc_identity(uint64_t leaf_size, uint64_t flags)
{
    uint64_t *root = page_alloc();

    for (uint64_t address = 0; address < MAPPED_SIZE; address += leaf_size)
        *paging_entry(root, address, leaf_size) = address | flags | PAGING_LARGE;
    return root;
}

uint64_t *ept_alloc_identity(uint64_t leaf_size)
{
    return alloc_identity(leaf_size, EPT_RWX | EPT_WB);
}

static void open_to_users(uint64_t *table, int level)
{
    for (unsigned i = 0; i < ENTRIES; i++) {
        if (!table[i])
            continue;
        table[i] |= EPT_XU;
        if (level > 1 && !(table[i] & PAGING_LARGE))
            open_to_users((uint64_t *)(table[i] & PAGING_ADDRESS), level - 1);
    }
}

void ept_open_to_users(uint64_t *root)
{
    open_to_users(root, LEVELS);
}

uint64_t *paging_alloc_identity(void)
{
    return alloc_identity(LARGE_2M, PTE_P | PTE_W | PTE_U);
}

uint64_t ept_pointer(const uint64_t *root, bool accessed_dirty)
{
    return (uint64_t)root | PUT(MEMORY_TYPE_WB, EPTP_MEMORY_TYPE) | PUT(LEVELS - 1, EPTP_WALK_LENGTH) |
           (accessed_dirty ? EPTP_AD : 0);
}
