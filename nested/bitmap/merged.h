/* One merged bitmap: the page that the CPU uses for L2 is the OR of L0's and L1's page, kept current by write tracing
 * (docs/FLOWS.md, flow 5; Linux kernel bug 53761, "nVMX: MSR bitmap merging"). MSR bitmaps and the two I/O bitmaps
 * alike. All processors share them. A merge is made by a processor that has claimed the merged bitmap, and the watcher
 * and the state are written by whichever processor stores to the page. nested/bitmap/ alone looks inside;
 * nested/bitmap/slot_bitmaps.h is what the rest of nested/ calls. An "entry" is always one into L2. */
#ifndef NESTED_BITMAP_MERGED_H
#define NESTED_BITMAP_MERGED_H

#include "kernel/base.h"
#include "mm/ept_watch.h"
#include "mm/gmem.h"
#include "nested/bitmap/merged_pays.h"

enum merged_kind { MERGED_MSR, MERGED_IO_A, MERGED_IO_B, MERGED_KINDS };

/* Worth of the merged page:
 *
 *            merge, watched              a store to L1's page, by anyone
 *   EMPTY ------------------> FRESH ---------------------------------> STALE
 *     |                        ^ ^                                       |
 *     | merge, not watched     | '------------ merge, watched -----------+
 *     v                        |                                         |
 *   UNTRACED ------------------'  <----------- merge, not watched -------'
 *
 * Only a FRESH one may be used as it is; all others are merged before the next entry. */
enum merged_state {
    MERGED_EMPTY,    /* never merged */
    MERGED_FRESH,    /* equal to L1's page OR L0's: the page is write-protected, or is no RAM and cannot change */
    MERGED_STALE,    /* L1's page was stored to since the merge, and is no longer protected */
    MERGED_UNTRACED, /* merged, but nothing tells of stores: each entry merges */
};

struct merged_cache;
struct merged_owner;

struct merged {
    /* Written by whichever processor stores to the page. Who merges arms the watcher; each entry reads the state. */
    struct watcher watcher; /* first: merged_stale() is given this */
    enum merged_state state;

    /* Constant while it is in a bucket of the cache. */
    struct merged_cache *cache;
    enum merged_kind kind;
    gpa_t page;        /* L1's */
    uint8_t *snapshot; /* L1's page as it was when last merged */
    uint8_t *result;   /* snapshot | L0's page: what the CPU reads */

    /* About the last merge. Written by the processor that claimed it: no other uses it then. */
    uint64_t l0_generation; /* of L0's page; 0: nothing is merged, or somebody has claimed it */
    const uint8_t *l0_page;
    struct merged_pays pays;
    bool by_word; /* who names it says when the page was stored to: it is not watched */

    /* Written by nested/bitmap/merged_cache alone, under its lock. */
    struct merged *next;        /* of those with the same hash, or of the unused ones */
    unsigned users;             /* slots that name it now; 0: idle, kept for when one names it again */
    struct merged_owner *owner; /* whose slots they are; MERGED_SHARED: several processors'. Idle: whose it was last */
    uint64_t last_used;         /* for the choice of the one to evict */
};
#define MERGED_SHARED NULL

/* L0's half of a merge. */
struct merged_policy {
    const uint8_t *page;
    uint64_t generation;
};

/* How a merge is made: merged_merge(), or one of nested/bitmap/merged_wrong.h. */
typedef void (*merged_merge_fn)(struct merged *m, struct merged_policy l0);

/* Makes `m` the merged bitmap of `page` (any 64-bit address that passed the checks of an entry), EMPTY. `snapshot`,
 * `result`: pages of its own. */
void merged_init(struct merged *m, struct merged_cache *cache, enum merged_kind kind, gpa_t page, uint8_t *snapshot,
                 uint8_t *result);
/* Before each entry: makes the merged page exact. Not claimed: nothing is read. Counts merges and merges saved.
 * `saved`: how many entries the caller made since it last merged `m`. True: it was merged. */
bool merged_refresh(struct merged *m, struct merged_policy l0, uint64_t saved);
/* Before an entry: whether L2 may run with a page of ones instead, and the merge of what is claimed wait for L2's first
 * access to an MSR (docs/adr/0014-a-merge-waits.md). */
bool merged_waits(struct merged *m);
/* L1's half, for a decision about an exit: the snapshot, exact while FRESH. The policy `allow` has none, and goes by
 * the page itself; NULL there: the page is no RAM and reads as ones. */
const uint8_t *merged_l1_page(const struct merged *m);
/* The snapshot; NULL with the policy `allow`. */
static inline const uint8_t *merged_copy(const struct merged *m)
{
    return merged_l1_page(m) == m->snapshot ? m->snapshot : NULL;
}
/* True if the invariant holds: snapshot == L1's page, result == snapshot | L0's page. */
bool merged_is_exact(const struct merged *m, const uint8_t *l0_page);

/* The steps of merged_refresh(), in their order. */
void merged_merge(struct merged *m, struct merged_policy l0);
void merged_protect(struct merged *m); /* FRESH, and a store from now on makes it STALE; else UNTRACED */
void merged_read(struct merged *m);
void merged_or(struct merged *m, struct merged_policy l0);

static inline enum merged_state merged_state(const struct merged *m)
{
    return __atomic_load_n(&m->state, __ATOMIC_ACQUIRE);
}
static inline void merged_set_state(struct merged *m, enum merged_state state)
{
    __atomic_store_n(&m->state, state, __ATOMIC_RELEASE);
}
/* True if nothing is to be done before an entry. The generation first: while it says that the page was merged, FRESH is
 * about that merge, or about a later one, and then there was a store after this look began. */
static inline bool merged_is_fresh(const struct merged *m, uint64_t generation)
{
    return __atomic_load_n(&m->l0_generation, __ATOMIC_ACQUIRE) == generation && merged_state(m) == MERGED_FRESH;
}
static inline bool merged_is_claimed(const struct merged *m)
{
    return m->l0_generation == 0;
}
/* Unless it is fresh, whoever looks at it from now on sees that it is not to be used as it is, until the caller has
 * merged it. No processor may run L2 on it (bitmaps are not changed under a processor in VMX non-root operation: SDM 3C
 * 25.11.4 "Software Access to Related Structures"), nor another claim it. */
static inline void merged_claim(struct merged *m, struct merged_policy l0)
{
    if (!merged_is_fresh(m, l0.generation))
        __atomic_store_n(&m->l0_generation, 0, __ATOMIC_RELEASE);
}
/* The access came for which merged_waits(): the next merges are done at once. */
static inline void merged_wanted(struct merged *m)
{
    merged_pays_wanted(&m->pays);
}

#endif
