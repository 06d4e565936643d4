#include "guests/lib/ept.h"

#include "guests/lib/page.h"
#include "vmx/vmx_bits.h"

#define LEVELS 4
#define ENTRIES 512
#define MEMORY_TYPE_WB 6

/* Bytes that one entry of a level spans; level 1 is the lowest. */
static uint64_t span(int level)
{
    return PAGE_SIZE << (9 * (level - 1));
}

static uint64_t *table_of(uint64_t entry)
{
    return (uint64_t *)(entry & EPT_ADDRESS);
}

/* Puts a table in place of a leaf or of nothing; a leaf goes on in the table's entries. */
static void push_down(uint64_t *entry, int level)
{
    uint64_t leaf = *entry;
    uint64_t *table = page_alloc();

    for (unsigned i = 0; leaf && i < ENTRIES; i++) {
        table[i] = leaf + i * span(level - 1);
        if (level == 2)
            table[i] &= ~EPT_LARGE;
    }
    *entry = (uint64_t)table | EPT_RWX;
}

uint64_t *ept_entry(uint64_t *root, uint64_t gpa, uint64_t leaf_size)
{
    uint64_t *table = root;

    for (int level = LEVELS;; level--) {
        uint64_t *entry = &table[gpa / span(level) % ENTRIES];
        if (span(level) == leaf_size)
            return entry;
        if (!*entry || (*entry & EPT_LARGE))
            push_down(entry, level);
        table = table_of(*entry);
    }
}

uint64_t *ept_alloc_identity(uint64_t leaf_size)
{
    uint64_t *root = page_alloc();

    for (uint64_t gpa = 0; gpa < 4 * GIB; gpa += leaf_size)
        *ept_entry(root, gpa, leaf_size) = gpa | EPT_RWX | EPT_WB | (leaf_size > PAGE_SIZE ? EPT_LARGE : 0);
    return root;
}

uint64_t ept_pointer(const uint64_t *root, bool accessed_dirty)
{
    return (uint64_t)root | PUT(MEMORY_TYPE_WB, EPTP_MEMORY_TYPE) | PUT(LEVELS - 1, EPTP_WALK_LENGTH) |
           (accessed_dirty ? EPTP_AD : 0);
}
