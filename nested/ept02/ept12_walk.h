/* The walk of EPT12, the tables that L1 made for its L2, as the processor would do it.
 * Reads L1's memory through gmem, each entry once; changes nothing but A/D flags, and these only if asked to.
 * nested/ept02/ept02 calls it; nested/ may use it to read L2's memory on behalf of L0. */
#ifndef NESTED_EPT02_EPT12_WALK_H
#define NESTED_EPT02_EPT12_WALK_H

#include "kernel/base.h"
#include "mm/ept.h"
#include "mm/gmem.h"
#include "vmx/caps.h"
#include "vmx/vmx_bits.h"

/* An EPTP of L1's with this bit, which no EPTP may have, is one under "mode-based execute control for EPT": the entries
 * mean other things, so another EPT02 goes with them. All `eptp12` of nested/ept02 may have it. */
#define EPTP12_MODE_BASED BIT(63)

/* The bits of an entry that allow something; one without any is not present. */
static inline uint64_t ept12_rights(uint64_t eptp12)
{
    return eptp12 & EPTP12_MODE_BASED ? EPT_RWX | EPT_XU : EPT_RWX;
}
/* The permissions of a walk as an exit qualification has them: bits 6:3. */
static inline uint64_t ept12_allowed(uint64_t permissions)
{
    return ((permissions | permissions / (EPT_XU / BIT(3))) & BITS(3, 0)) * EPT_QUAL_ALLOWED_READ;
}

/* The hardware's word on the access, L1's tables' on what they allow. SDM 3C table "Exit Qualification for EPT
 * Violations": bits 5:3 are the AND along the walk. With A/D flags on, a page walk of L2's counts as read and write;
 * not every CPU says both. */
static inline uint64_t ept12_qualification(uint64_t eptp12, uint64_t hardware, uint64_t access, uint64_t permissions,
                                           uint64_t page_rights)
{
    uint64_t kept =
        EPT_QUAL_GLA_VALID | EPT_QUAL_NOT_WALK | EPT_QUAL_NMI_UNBLOCKING | EPT_QUAL_SHADOW_STACK | page_rights;
    bool page_walk = (hardware & (EPT_QUAL_GLA_VALID | EPT_QUAL_NOT_WALK)) == EPT_QUAL_GLA_VALID;

    if ((eptp12 & EPTP_AD) && page_walk && (access & EPT_QUAL_WRITE))
        access |= EPT_QUAL_READ;
    return access | (hardware & kept) | ept12_allowed(permissions);
}

/* The choices that the SDM leaves to the processor, as L1's capability MSRs state them. */
struct ept12_rules {
    bool exec_only, pages_2m, pages_1g;
    unsigned address_bits; /* MAXPHYADDR of L1 */
    uint64_t page_rights;  /* bits 11:9 of the qualification of violations, if L1 has advanced information */
    uint64_t rights;       /* ept12_rights() */
    /* The look of an entry that restricts nothing and has no reserved bit, as most do. */
    uint64_t table_judged; /* what must be `rights` in one that leads to a table */
    uint64_t page_judged;  /* what must be `page` in one of a 4 KiB page, ... */
    uint64_t page;         /* ... which is write-back too */
};

enum ept12_walk_kind {
    EPT12_WALK_OK,
    EPT12_WALK_VIOLATION,
    EPT12_WALK_MISCONFIG,
    EPT12_WALK_LOG_FULL, /* the access would set an A or D flag, and the caller said that there is no room to log */
    EPT12_WALK_RACED,    /* L1 changed an entry whose A/D flag was about to be set: nothing is known, try again */
};

struct ept12_walk {
    union {
        gpa_t gpa1;     /* of the byte asked for, when OK */
        uint64_t entry; /* else the last entry read */
    };
    uint64_t permissions; /* what of ept12_rights() all entries on the path have; EPT_SUB_PAGE if it was used */
    gpa_t table;          /* of L1, where the last entry read lies */
    uint64_t above;       /* what the entries before that one allow together: of others in the same table, too */
    enum ept12_walk_kind kind;
    unsigned level; /* of the leaf, 1 to 3; on a violation or misconfiguration: of the entry at fault, 1 to 4 */
    unsigned memtype;
    bool ignore_pat;
    bool sets_dirty;  /* this access set the leaf's D flag */
    bool suppress_ve; /* bit 63 of the last entry read: a violation must not become a #VE */
    bool dirty;       /* the leaf's D flag is set, or the EPTP has A/D flags off: W needs no more watching */
};

/* `eptp12` says whether with mode-based execute control; so it must with each walk by these rules. */
struct ept12_rules ept12_rules_from(const struct vmx_caps *offered, uint64_t eptp12);
/* Translates gpa2 for `access` (EPT_R | EPT_W | EPT_X, the same bits as EPT_QUAL_READ, _WRITE, _FETCH; or EPT_XU; or,
 * in the place of EPT_W, EPT_SUB_PAGE, for a store that L1's sub-page permissions let through) under eptp12.
 * With A/D flags on (EPTP_AD), an access that is allowed sets A in each entry on the path and D in the leaf if it is
 * a write; `log_full`: then not, see EPT12_WALK_LOG_FULL. SDM 3C 29.3.3 "EPT-Induced VM Exits", 29.3.5 "Accessed and
 * Dirty Flags for EPT". */
struct ept12_walk ept12_walk(const struct gmem *gmem, const struct ept12_rules *rules, uint64_t eptp12, gpa_t gpa2,
                             uint64_t access, bool log_full);
/* True if only W is missing to a walk that ended in a violation, and the page has sub-page permissions.
 * SDM 3C 29.3.4.1 "Write Accesses That Are Eligible for Sub-Page Write Permissions" */
static inline bool ept12_is_sub_page(const struct ept12_walk *walk, uint64_t access)
{
    return walk->kind == EPT12_WALK_VIOLATION && walk->level == 1 && (walk->entry & EPT_SUB_PAGE) &&
           (walk->permissions & EPT_R) && (access & ~walk->permissions) == EPT_W;
}
/* EPT02's leaf for a walk that is OK, on EPT01's: the smaller of the two pages, what both allow. Pure. */
uint64_t ept12_leaf(const struct ept12_walk *walk, const struct ept_leaf *ept01);

#endif
