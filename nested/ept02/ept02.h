/* EPT02, the tables under which an L2 that has EPT runs: EPT12 (L1's, read through gmem) AND EPT01, filled on
 * violation. ept02_shared_init() once per VM, ept02_init() once per virtual processor. A struct ept02s is used by its
 * own processor only, except for ept02_protect(), which any processor may call. Nothing here executes INVEPT:
 * nested/prepare asks ept02_settle() before each entry.
 * nested/ calls it. */
#ifndef NESTED_EPT02_EPT02_H
#define NESTED_EPT02_EPT02_H

#include "kernel/base.h"
#include "kernel/spinlock.h"
#include "mm/ept.h"
#include "mm/ept_watch.h"
#include "mm/gmem.h"
#include "nested/ept02/ept12_walk.h"
#include "vmx/caps.h"

#define EPT02_ROOTS 16
#define EPT02_RESERVE 5 /* one root, its three tables and one more: enough to translate any one address */
#define EPT02_KEPT 32   /* free pages, the reserve among them, that wait for the next table */

struct cpu;

/* The part that the virtual processors of one VM share. */
struct ept02_shared {
    const struct gmem *gmem;
    struct ept *ept01;
    /* One bit per 4 KiB page of L1's RAM: set before an EPT02 leaf of 4 KiB with W may map it, cleared when the page is
     * protected. And one per 2 MiB, for larger leaves. They save the scan of all trees in the usual case. Touched with
     * atomics: nested/ept02/ept02_filter. */
    uint64_t *writable, *writable_large;
    uint64_t writable_pages; /* of the allocator, that hold both */
    uint64_t page_limit;     /* 4 KiB pages of L1 that `writable` covers */
    bool trace;              /* EPT12's tables are write-traced; set by the caller before ept02_init() */
    struct spinlock lock;    /* guards the list */
    struct ept02s *list;
};

/* Debts of a root, due before the next entry with it. */
#define EPT02_OWES_INVEPT 1u /* the CPU's: a mapping was taken away, or L1 executed INVEPT since the last entry */
#define EPT02_OWES_LOOK 2u   /* L1 did: what it has stored to EPT12 by the entry counts, before or after the INVEPT */

/* One EPT02: for one EP4TA, with or without A/D flags and mode-based execute control. */
struct ept02_root {
    uint64_t key;       /* eptp12 & (EP4TA | EPTP_AD | EPTP12_MODE_BASED); only valid if table */
    uint64_t *table;    /* PML4 table; NULL: unused */
    uint64_t last_used; /* for the choice of the one to evict */
    bool overflow;      /* it was made of tables that nobody knows */
    bool partly;        /* some of it was made of tables for which there was no tracker */
    uint8_t used;       /* a bit for each eighth of the table that may have entries; 0: it is empty */
    bool dirty;         /* atomic: a table that it was made of was stored to, or is not traced */
    uint8_t owes;       /* atomic: EPT02_OWES_ */
};

/* The EPT02s of one virtual processor. */
struct ept02s {
    struct ept02_shared *shared;
    struct cpu *cpu;             /* whose they are: told when another processor takes something away; NULL: nobody */
    struct ept12_rules rules[2]; /* without and with mode-based execute control: ept02_rules() */
    struct ept02s *next;
    struct spinlock lock; /* guards the trees against ept02_protect() of another processor */
    struct ept02_root root[EPT02_ROOTS];
    struct {
        uint64_t eptp12;
        gpa_t table, base;
        uint64_t size;         /* 0: none */
    } covered;                 /* the table and place for which is_covered() found a tracker last; until INVEPT */
    struct ept12_trace *trace; /* nested/ept02/ept12_trace; NULL: shared->trace is off */
    struct ept02_root *latest; /* asked for last */
    uint32_t settled;          /* a bit for each root with a table that owes no look */
    uint64_t looks;            /* entries at which L1 had executed INVEPT for the root since its last */
    uint64_t clock;            /* counts uses, for last_used */
    uint64_t roots_changed;    /* moves when a root comes or goes; never 0 once there is one */
    unsigned pages_used;       /* pages in the trees and kept */
    unsigned page_limit;
    void *kept[EPT02_KEPT]; /* free, and filled with 0 */
    unsigned clean;         /* how many are kept */
};

static inline const struct ept12_rules *ept02_rules(const struct ept02s *ept02s, uint64_t eptp12)
{
    return &ept02s->rules[eptp12 / EPTP12_MODE_BASED];
}

enum ept02_result {
    EPT02_FILLED,    /* the access is allowed now, or L1 changed EPT12 during the walk: resume L2 */
    EPT02_VIOLATION, /* L1's: EXIT_EPT_VIOLATION with out->qualification */
    EPT02_MISCONFIG, /* L1's: EXIT_EPT_MISCONFIGURATION, qualification 0 */
    EPT02_WATCH,     /* a store to the traced page of out->gpa1: ept_watch_hit(), then ept02_fill() again */
    EPT02_LOG_FULL,  /* L1's: EXIT_PML_FULL, when `log_full` was said and the access would set an A or D flag */
    EPT02_CARVEOUT,  /* a store to Nestor's own memory at out->gpa1, which L1 let L2 make; see out->entry */
};

struct ept02_exit {
    uint64_t qualification; /* for L1, when EPT02_VIOLATION */
    bool suppress_ve;       /* when EPT02_VIOLATION: L1's entry says that it must not become a #VE */
    bool sub_page;          /* when EPT02_VIOLATION: it is one only if L1's sub-page permissions say so, too */
    bool dirtied;           /* the access set a D flag of EPT12: L1's page-modification log wants it */
    gpa_t gpa1;             /* when EPT02_WATCH or EPT02_CARVEOUT; EPT02_MISCONFIG: of the table of EPT12, ... */
    unsigned level;         /* ... its level, */
    uint64_t entry12;       /* and the entry that is wrong */
    /* When EPT02_CARVEOUT: the EPT02 leaf (4 KiB, R and X as EPT12 allows, to the page of ones). vmx/ may set EPT_W in
     * it for one instruction: then ept02_close(). It stands until the next fill. */
    uint64_t *entry;
};

/* Allocates the filter and fills ept01's watch hook (`watch`). 0, or -1 when pages run out. */
MUST_CHECK int ept02_shared_init(struct ept02_shared *shared, const struct gmem *gmem, struct ept *ept01,
                                 struct ept_watch *watch);
void ept02_shared_release(struct ept02_shared *shared, struct ept_watch *watch);

/* `offered`: what L1's capability MSRs say, by which EPT12 is judged. `page_limit`: most pages of the allocator for
 * this processor's trees, at least EPT02_RESERVE. 0, or -1 when pages run out. */
MUST_CHECK int ept02_init(struct ept02s *ept02s, struct ept02_shared *shared, const struct vmx_caps *offered,
                          unsigned page_limit);
/* Frees all trees and what is kept; ept02_init() may follow. */
void ept02_release(struct ept02s *ept02s);
/* The last step of ept02_release(), and of ept02_init() when it fails. */
void ept02_free_kept(struct ept02s *ept02s);

/* The EPT02 of L1's eptp12 (a valid one: the entry checks come first), found by its EP4TA and A/D flag or made empty,
 * evicting the least recently used. It stands as long as ept02s->roots_changed does. */
struct ept02_root *ept02_root(struct ept02s *ept02s, uint64_t eptp12);
/* The EPTP for vmcs02. */
uint64_t ept02_eptp(const struct ept02_root *root);
/* It is used again: at each nested entry. */
static inline void ept02_touch(struct ept02s *ept02s, struct ept02_root *root)
{
    root->last_used = ++ept02s->clock;
}
/* L1 executed INVEPT for the root since its last entry: what it has stored to EPT12 by now goes from EPT02. For an
 * entry that fills EPT02 before ept02_settle(). */
void ept02_look(struct ept02s *ept02s, struct ept02_root *root);
/* Pays the root's debts except for the CPU's INVEPT. */
void ept02_settle_debt(struct ept02s *ept02s, struct ept02_root *root);
/* True if it owes one, or a look at what L1 has stored. */
static inline bool ept02_owes(const struct ept02_root *root)
{
    return __atomic_load_n(&root->owes, __ATOMIC_ACQUIRE);
}
/* Before each entry with the root: whether an INVEPT (single-context, its EPTP) must be executed. Between the question
 * and the entry L1 runs no more. */
static inline bool ept02_settle(struct ept02s *ept02s, struct ept02_root *root)
{
    if (!__atomic_load_n(&root->owes, __ATOMIC_ACQUIRE))
        return false;
    ept02_settle_debt(ept02s, root);
    return true;
}

/* An EPT violation or misconfiguration of L2 at gpa2. `access`: EPT_QUAL_READ, _WRITE, _FETCH that were asked for, or
 * EPT_SUB_PAGE in the place of _WRITE for a store that L1's sub-page permissions let through (SPPT02 must know it);
 * `qualification`: the hardware's, 0 when there is none. `log_full`: L1 logs page modifications and has no room. */
enum ept02_result ept02_fill(struct ept02s *ept02s, uint64_t eptp12, gpa_t gpa2, uint64_t access,
                             uint64_t qualification, bool log_full, struct ept02_exit *out);

/* True if INVEPT knows the table of EPT12 at `level` in which a walk of gpa2 ended, or drops all. It is remembered, for
 * all addresses below that table: `covered`. */
bool ept02_find_cover(struct ept02s *ept02s, uint64_t eptp12, gpa_t gpa2, gpa_t table12, unsigned level);

/* Drops the mapping of gpa2 from EPT02, as an EPT violation invalidates what the processor has cached for the address
 * that caused it. SDM 3C 29.4.3.1 "Operations that Invalidate Cached Mappings" */
void ept02_forget(struct ept02s *ept02s, uint64_t eptp12, gpa_t gpa2);
/* The page of Nestor's memory that was open for a store at gpa2 loses W again, if EPT02 has it still; asks for an
 * INVEPT. */
void ept02_close(struct ept02s *ept02s, uint64_t eptp12, gpa_t gpa2);
/* INVEPT as executed by L1: the next entry with each EPT02 that it names looks and executes one. Single context: all
 * EPT02s with the EP4TA of eptp12, whatever its other bits. */
void ept02_invept_single(struct ept02s *ept02s, uint64_t eptp12);
void ept02_invept_all(struct ept02s *ept02s);
/* L1 left VMX operation: all goes, watches too. */
void ept02_forget_all(struct ept02s *ept02s);

/* Hook of mm/ept_watch; context is the struct ept02_shared. EPT01 has taken W from the page already. On return no EPT02
 * leaf that maps it has W; roots that lost a permission ask for INVEPT, and the caller kicks other processors. */
void ept02_protect(void *context, gpa_t page);

/* The mapping of gpa2 in EPT02 as it is now; level 0: none. For tests, ASSERTs and dumps. */
struct ept_leaf ept02_translate(struct ept02s *ept02s, uint64_t eptp12, gpa_t gpa2);

#endif
