/* The walk that a CPU would make of L1's EPT tables. The outcome is exact, as L1 sees it: a violation with the
 * permissions of the path, a misconfiguration at the entry that breaks a rule, or a page. Each entry is read once
 * into `path`, because L1 may change it at any moment; A and D flags are set afterwards by compare-and-exchange with
 * that copy, and if one of them fails the walk has not happened (EPT12_WALK_RACED). */
#include "nested/ept02/ept12_walk.h"

#include "mm/ept.h"
#include "vmx/vmx_bits.h"

#define TOP_LEVEL 4u
#define SUB_PAGE_PER_W (EPT_SUB_PAGE / EPT_W)
#define GPA_BITS 48u               /* what four levels translate */
#define LEAF_FLAGS (EPT_A | EPT_D) /* preset: see nested/ept02/ept02.c */
#define TABLE_RESERVED BITS(7, 3)  /* of an entry that leads to a table; bit 7 would make it a leaf */

/* The entries of one walk: where they lie and what they held when read. */
struct path {
    unsigned depth;
    gpa_t where[TOP_LEVEL];
    uint64_t entry[TOP_LEVEL];
};

/* Bits that must be 0 in an entry, large-page offsets included.
 * SDM 3C 29.3.2 "EPT Translation Mechanism", tables of the entry formats */
static uint64_t reserved_bits(const struct ept12_rules *rules, unsigned level, bool leaf)
{
    uint64_t beyond = BITS(51, 12) & ~(BIT(rules->address_bits) - 1);

    if (!leaf)
        return beyond | TABLE_RESERVED;
    return beyond | (BITS(51, 12) & (ept_level_size(level) - 1));
}

/* The two masks are computed once, so that the usual table and the usual page are recognised by one compare each. */
struct ept12_rules ept12_rules_from(const struct vmx_caps *offered, uint64_t eptp12)
{
    struct ept12_rules rules = {
        .exec_only = offered->ept_vpid & EPT_CAP_EXEC_ONLY,
        .pages_2m = offered->ept_vpid & EPT_CAP_2M,
        .pages_1g = offered->ept_vpid & EPT_CAP_1G,
        .address_bits = offered->address_bits,
        .page_rights = offered->ept_vpid & EPT_CAP_ADVANCED_INFO ? BITS(11, 9) : 0,
    };
    rules.rights = ept12_rights(eptp12);
    rules.table_judged = reserved_bits(&rules, 2, false) | rules.rights;
    rules.page_judged = reserved_bits(&rules, 1, true) | rules.rights | EPT_MEMTYPE;
    rules.page = rules.rights | PUT(MEMTYPE_WB, EPT_MEMTYPE);
    return rules;
}

/* 0 is UC, 1 WC, 4 WT, 5 WP, 6 WB. SDM 3C 29.3.2 "EPT Translation Mechanism" */
static bool memtype_is_reserved(uint64_t entry)
{
    unsigned memtype = (unsigned)GET(entry, EPT_MEMTYPE);

    return memtype == 2 || memtype == 3 || memtype == 7;
}

/* An entry that is present. SDM 3C 29.3.3.1 "EPT Misconfigurations" */
static bool is_misconfigured(const struct ept12_rules *rules, uint64_t entry, unsigned level, bool leaf)
{
    if ((entry & EPT_W) && !(entry & EPT_R))
        return true;
    if (!(entry & EPT_R) && !rules->exec_only)
        return true;
    if (entry & reserved_bits(rules, level, leaf))
        return true;
    return leaf && memtype_is_reserved(entry);
}

/* Bit 7 makes a leaf only where the page size is offered; elsewhere it is a reserved bit. */
static bool is_leaf(const struct ept12_rules *rules, uint64_t entry, unsigned level)
{
    if (level == 1)
        return true;
    return (entry & EPT_LARGE) && ((level == 2 && rules->pages_2m) || (level == 3 && rules->pages_1g));
}

/* Sets A in all entries of the path, and D in the leaf if written. Entries that have the flags are left alone. False
 * when L1 changed one since it was read. */
static bool set_flags(const struct gmem *gmem, const struct path *path, bool write)
{
    for (unsigned i = 0; i < path->depth; i++) {
        bool last = i + 1 == path->depth;
        uint64_t flags = EPT_A | (last && write ? EPT_D : 0);
        if ((path->entry[i] & flags) == flags)
            continue;
        if (!gmem_set_flags64(gmem, path->where[i], path->entry[i], path->entry[i] | flags))
            return false;
    }
    return true;
}

/* True if an entry of the path lacks a flag that this access sets. */
static bool lacks_flags(const struct path *path, bool write)
{
    uint64_t common = EPT_A;

    for (unsigned i = 0; i < path->depth; i++)
        common &= path->entry[i];
    return !common || (write && !(path->entry[path->depth - 1] & EPT_D));
}

/* One entry of the path. All-ones if no RAM, which is a misconfiguration. */
static inline uint64_t read_entry(const struct gmem *gmem, gpa_t where, struct path *path)
{
    uint64_t entry;
    (void)gmem_read64(gmem, where, &entry);
    path->where[path->depth] = where;
    path->entry[path->depth++] = entry;
    return entry;
}

/* The usual tables above: entries that restrict nothing and have no reserved bit. Takes back the first that is
 * another; the level of the table that is left. */
static inline unsigned follow_plain(const struct gmem *gmem, const struct ept12_rules *rules, gpa_t gpa2,
                                    struct path *path, gpa_t *table)
{
    unsigned level = TOP_LEVEL;
#pragma GCC unroll 3
    for (; level > 1; level--) {
        uint64_t entry = read_entry(gmem, *table + 8 * ept_index(gpa2, level), path);
        if ((entry & rules->table_judged) != rules->rights) {
            path->depth--;
            break;
        }
        *table = entry & EPT_ADDRESS;
    }
    return level;
}

/* Follows the entries down to a leaf, or to the first one that ends the walk. */
static inline void follow(const struct gmem *gmem, const struct ept12_rules *rules, uint64_t eptp12, gpa_t gpa2,
                          struct path *path, struct ept12_walk *walk)
{
    gpa_t table = eptp12 & EP4TA;

    for (unsigned level = follow_plain(gmem, rules, gpa2, path, &table);; level--) {
        uint64_t entry = read_entry(gmem, table + 8 * ept_index(gpa2, level), path);
        bool leaf = is_leaf(rules, entry, level);
        walk->level = level;
        walk->table = table;
        /* The rights that the tables above leave: ept02_fill_around() combines them with other entries of this table.
         * */
        walk->above = walk->permissions;
        walk->permissions &= entry;
        if (!(entry & rules->rights)) {
            walk->kind = EPT12_WALK_VIOLATION;
            return;
        }
        /* The usual leaf, by one compare: all permissions, write-back, no reserved bit. */
        if ((entry & rules->page_judged) == rules->page && level == 1)
            return;
        if (is_misconfigured(rules, entry, level, leaf)) {
            walk->kind = EPT12_WALK_MISCONFIG;
            return;
        }
        if (leaf)
            return;
        table = entry & EPT_ADDRESS;
    }
}

/* A store that the sub-page permissions let through needs all that ept12_is_sub_page() says, and no more: L1 may
 * have changed the entry since that was asked. */
static NOINLINE bool passes_by_sub_page(unsigned level, uint64_t permissions, uint64_t entry)
{
    return level == 1 && (permissions & EPT_R) && ((permissions & EPT_W) || (entry & EPT_SUB_PAGE));
}

/* One by one: a loop over all of it takes longer. follow() says the rest. */
static inline void begin(struct ept12_walk *walk, uint64_t rights)
{
    walk->kind = EPT12_WALK_OK;
    walk->permissions = rights;
    walk->memtype = 0;
    walk->ignore_pat = walk->sets_dirty = walk->dirty = false;
}

static inline void take_leaf(struct ept12_walk *walk, uint64_t entry, gpa_t gpa2)
{
    walk->gpa1 = ept_leaf_of(entry, gpa2, walk->level).hpa;
    walk->memtype = (unsigned)GET(entry, EPT_MEMTYPE);
    walk->ignore_pat = entry & EPT_IGNORE_PAT;
}

struct ept12_walk ept12_walk(const struct gmem *gmem, const struct ept12_rules *rules, uint64_t eptp12, gpa_t gpa2,
                             uint64_t access, bool log_full)
{
    struct ept12_walk walk;
    struct path path;
    bool flags = eptp12 & EPTP_AD;
    uint64_t entry;

    /* Beyond what four levels translate: a violation without permissions. */
    if (gpa2 >> GPA_BITS)
        return (struct ept12_walk){.kind = EPT12_WALK_VIOLATION, .level = TOP_LEVEL};
    begin(&walk, rules->rights);
    path.depth = 0;
    follow(gmem, rules, eptp12, gpa2, &path, &walk);
    entry = path.entry[path.depth - 1];
    walk.suppress_ve = entry & EPT_SUPPRESS_VE;
    /* Permissions are the AND along the path: one entry that forbids is enough. */
    if (walk.kind == EPT12_WALK_OK && (access & ~walk.permissions)) {
        if ((access & ~walk.permissions) == EPT_SUB_PAGE && passes_by_sub_page(walk.level, walk.permissions, entry))
            walk.permissions |= EPT_SUB_PAGE;
        else
            walk.kind = EPT12_WALK_VIOLATION;
    }
    if (walk.kind != EPT12_WALK_OK) {
        walk.entry = entry;
        return walk;
    }
    const uint64_t write = access & (EPT_W | EPT_SUB_PAGE);
    bool dirties = flags && write && !(entry & EPT_D);
    /* The log has no place: the access must not set a flag that it could not report. */
    if (flags && log_full && lacks_flags(&path, write)) {
        walk.kind = EPT12_WALK_LOG_FULL;
        return walk;
    }
    if (flags && !set_flags(gmem, &path, write)) {
        walk.kind = EPT12_WALK_RACED;
        return walk;
    }
    walk.sets_dirty = dirties;
    /* True if EPT02 may have W: not before EPT12's D flag is set. */
    walk.dirty = !flags || (entry & EPT_D) || write;
    take_leaf(&walk, entry, gpa2);
    return walk;
}

/* The memory type of both together: the less cached one, UC where they do not agree. An MTRR's UC (device memory) stays
 * UC even if L1 says otherwise: Nestor does not let L2 do through EPT12 what would upset the machine. */
static unsigned combine_memtypes(unsigned a, unsigned b)
{
    if (a == b || b == MEMTYPE_WB)
        return a;
    return a == MEMTYPE_WB ? b : MEMTYPE_UC;
}

/* Flags A and D are preset: the CPU then never writes to EPT02, and EPT12's own flags are set by the walk above. */
uint64_t ept12_leaf(const struct ept12_walk *walk, const struct ept_leaf *ept01)
{
    unsigned level = MIN(walk->level, ept01->level);
    uint64_t permissions = walk->permissions & ept01->permissions;

    /* Stores to sub-pages need no less of EPT01 than others. */
    permissions |= walk->permissions & (ept01->permissions & EPT_W) * SUB_PAGE_PER_W;
    /* D of EPT12 must be set by the first write: that one must exit. */
    if (!walk->dirty)
        permissions &= ~(EPT_W | EPT_SUB_PAGE);
    return (ept01->hpa & ~(ept_level_size(level) - 1)) | permissions | LEAF_FLAGS | (level > 1 ? EPT_LARGE : 0) |
           PUT(combine_memtypes(walk->memtype, ept01->memtype), EPT_MEMTYPE) | (walk->ignore_pat ? EPT_IGNORE_PAT : 0);
}
