/* EPT tables: the entry format, and EPT01, the identity map under which L1 runs.
 * EPT01 maps all physical addresses one to one but Nestor's carve-out, whose pages all lead to one page of ones
 * (read and execute only), and pages that are write-protected for tracing.
 * vmx/ gives EPT01 to the hardware and executes INVEPT when ept->generation moved; mm never executes it. */
#ifndef MM_EPT_H
#define MM_EPT_H

#include "kernel/base.h"
#include "kernel/layout.h"
#include "kernel/spinlock.h"
#include "mm/memmap.h"
#include "mm/mtrr.h"

/* SDM 3C 29.3.2 "EPT Translation Mechanism" */
#define EPT_R BIT(0)
#define EPT_W BIT(1)
#define EPT_X BIT(2)
#define EPT_RWX (EPT_R | EPT_W | EPT_X)
#define EPT_MEMTYPE BITS(5, 3)
#define EPT_IGNORE_PAT BIT(6)
#define EPT_LARGE BIT(7)
#define EPT_A BIT(8)
#define EPT_D BIT(9)
#define EPT_XU BIT(10) /* with mode-based execute control: X for user-mode addresses; EPT_X is the supervisor's then */
#define EPT_SUPPRESS_VE BIT(63)
#define EPT_SUB_PAGE BIT(61) /* of a 4 KiB page without W: sub-page write permissions say which stores may be */
#define EPT_ADDRESS BITS(51, 12)
#define EPT_ENTRIES 512u
#define EPT_TOP_LEVEL 4u

/* Bytes that one entry of a table at `level` maps: 1: 4 KiB, 2: 2 MiB, 3: 1 GiB, 4: 512 GiB; and which entry it is. */
static inline uint64_t ept_level_size(unsigned level)
{
    /* No level is 0. NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult) */
    return PAGE_SIZE << (9 * (level - 1));
}
static inline unsigned ept_index(gpa_t gpa, unsigned level)
{
    return (unsigned)(gpa >> (9 * level + 3)) % EPT_ENTRIES;
}
/* True if an entry that allows something ends the walk at `level`. */
static inline bool ept_is_leaf(uint64_t entry, unsigned level)
{
    return level == 1 || (level <= 3 && (entry & EPT_LARGE));
}

struct ept_features {
    bool pages_1g;         /* IA32_VMX_EPT_VPID_CAP */
    bool access_dirty;     /* the same; used so that A/D updates of L1's paging obey W as all writes do */
    unsigned address_bits; /* MAXPHYADDR, at most 48 */
};

#define EPT_RETIRED_MAX 32

/* A table that a large page took the place of. Another processor may still walk it, until it passed an INVEPT. */
struct ept_retired {
    void *table;
    uint64_t generation; /* the first one under which no processor knows the table */
};

/* A page that keeps a leaf of its own. */
struct ept_pin {
    gpa_t page;
    bool listed;
    struct ept_pin *next;
};

struct ept {
    /* Set by the caller before ept_build. */
    struct ept_features features;
    struct mtrr mtrr;
    const struct memmap *map; /* L1's view: the carve-out is REGION_RESERVED in it */
    hpa_t carveout_base;      /* multiples of 2 MiB, both */
    uint64_t carveout_size;
    bool keep_split; /* an injected fault: large pages are never joined again */
    /* Set by ept_build and constant from then on. */
    hpa_t ones_page;          /* what the carve-out reads as */
    uint64_t *root;           /* PML4 table */
    uint64_t *carveout_table; /* the one page table behind all 2 MiB pieces of the carve-out */
    gpa_t mapped_end;         /* mapped at the start; what is above comes on demand */
    /* Moves after a permission was taken away or a table was replaced: each processor that runs on this EPT passes an
     * INVEPT before its next entry (vmx/run.c compares). Atomic. */
    uint64_t generation;
    struct spinlock lock; /* guards the tables and what follows */
    struct ept_pin *pins; /* a page may be in it several times */
    uint64_t *hidden;     /* ept_hide(): the leaf of the page, NULL if there is none, and what it was */
    gpa_t hidden_page;    /* the last one */
    uint64_t hidden_was;
    unsigned retired_count;
    struct ept_retired retired[EPT_RETIRED_MAX];
};

/* One translation. level 1: 4 KiB, 2: 2 MiB, 3: 1 GiB; 0: not mapped. */
struct ept_leaf {
    hpa_t hpa; /* of the page that holds the address, low bits included */
    unsigned level;
    uint64_t permissions; /* EPT_R | EPT_W | EPT_X | EPT_XU */
    unsigned memtype;
};

static inline struct ept_leaf ept_leaf_of(uint64_t entry, gpa_t gpa, unsigned level)
{
    uint64_t inside = ept_level_size(level) - 1;
    return (struct ept_leaf){.hpa = (entry & EPT_ADDRESS & ~inside) | (gpa & inside),
                             .level = level,
                             .permissions = entry & (EPT_RWX | EPT_XU),
                             .memtype = (unsigned)GET(entry, EPT_MEMTYPE)};
}

static inline uint64_t *ept_table_of(uint64_t entry)
{
    return hpa_to_va(entry & EPT_ADDRESS);
}
/* Builds the identity map, up to 4 GiB or the end of RAM. Returns 0, or -1 when the pool is empty. */
MUST_CHECK int ept_build(struct ept *ept);
/* The EPTP for the hardware. */
uint64_t ept_pointer(const struct ept *ept);
/* The translation of gpa as it is now. */
struct ept_leaf ept_translate(struct ept *ept, gpa_t gpa);
/* The leaf of a gpa that is RAM of L1, all of which is mapped, as it stands in the table. */
static ALWAYS_INLINE uint64_t ept_ram_leaf(struct ept *ept, gpa_t gpa)
{
    uint64_t entry = 0;
    const uint64_t *table = ept->root;

    spinlock_lock(&ept->lock);
#pragma GCC unroll 4
    for (unsigned level = EPT_TOP_LEVEL; level > 0; level--) {
        entry = table[ept_index(gpa, level)];
        if (entry & EPT_LARGE) /* ours have bit 7 in leaves alone */
            break;
        table = ept_table_of(entry);
    }
    spinlock_unlock(&ept->lock);
    return entry;
}
/* For a look at many pages at once: while EPT01 is held, none of its entries changes, but W in a leaf of Nestor's
 * memory. Short, and nothing else here is called meanwhile. */
static inline void ept_hold(struct ept *ept)
{
    spinlock_lock(&ept->lock);
}
static inline void ept_let_go(struct ept *ept)
{
    spinlock_unlock(&ept->lock);
}
/* The leaf of gpa and its level, while EPT01 is held; NULL when nothing is mapped there. */
const uint64_t *ept_find_held(const struct ept *ept, gpa_t gpa, unsigned *level);
/* Takes W from / gives W back to the 4 KiB page of gpa; the first splits large pages down to it and tells nobody: only
 * mm/ept_watch:ept_revoke() does. The second joins the large page again when all its parts are alike. 0, or -1 when the
 * pool is empty (protect) or the page is no RAM of L1. */
MUST_CHECK int ept_write_protect(struct ept *ept, gpa_t gpa);
void ept_write_allow(struct ept *ept, gpa_t gpa);
/* Takes W from the 4 KiB page of gpa, which may be MMIO, for good and before any processor runs on this EPT: vmx/
 * answers the violations. 0, or -1 when the pool is empty. */
MUST_CHECK int ept_trap_writes(struct ept *ept, gpa_t gpa);
/* Splits large pages down to the 4 KiB page, and keeps them so until the last ept_unpin() of it. -1 when the pool is
 * empty or nothing is mapped there. What is cached of the large page stays until an INVEPT. */
MUST_CHECK int ept_pin(struct ept *ept, gpa_t page, struct ept_pin *pin);
/* Nothing if not listed. */
void ept_unpin(struct ept *ept, struct ept_pin *pin);
/* The generation moves; what it is now. For mm/ept_watch:ept_revoke(). */
uint64_t ept_next_generation(struct ept *ept);
/* All processors passed an INVEPT for `generation`: tables retired up to then go back to the allocator. Until then a
 * join keeps its table aside; when EPT_RETIRED_MAX of them wait, pages stay split until a later ept_write_allow. */
void ept_retire_done(struct ept *ept, uint64_t generation);
/* Maps the 1 GiB around gpa, which ept_build did not reach (64-bit MMIO): true when it is mapped now and the access
 * can be repeated. False below ept->mapped_end, beyond the address width, and when pages are so short that L1 gets no
 * more of them for this. */
bool ept_map_on_demand(struct ept *ept, gpa_t gpa);
/* Makes a 4 KiB page that is no RAM read as ones and lose its stores, like the carve-out, until ept_show(). One page at
 * a time, and only where one processor runs on this EPT. 0, or -1 when it cannot be. Both under
 * mm/ept_watch:ept_revoke(). */
MUST_CHECK int ept_hide(struct ept *ept, gpa_t page);
/* Nothing if no page is hidden. */
void ept_show(struct ept *ept);
/* True if gpa lies in Nestor's carve-out, or in the page that is hidden like it. */
bool ept_is_carveout(const struct ept *ept, gpa_t gpa);
/* The leaf behind which a page of the carve-out lies; pieces of 2 MiB share it. vmx/ sets EPT_W in it for one
 * instruction of L1 (the store then changes the page of ones, which vmx/ fills again), clears it and passes an
 * INVEPT. NULL when gpa is outside. */
uint64_t *ept_carveout_entry(struct ept *ept, gpa_t gpa);
/* Fills the page of ones (again). */
void ept_fill_ones(struct ept *ept);

#endif
