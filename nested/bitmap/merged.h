/* One merged bitmap: the page that the CPU uses for L2 is the OR of L0's and L1's page, kept current by write tracing
 * (docs/FLOWS.md, flow 5; Linux kernel bug 53761, "nVMX: MSR bitmap merging"). MSR bitmaps and the two I/O bitmaps
 * alike. Owned by one virtual processor; only the watcher and the state are written by the processor that stores to the
 * page. nested/bitmap/ alone looks inside; nested/bitmap/slot_bitmaps.h is what the rest of nested/ calls. */
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

struct merged {
    /* Written by whichever processor stores to the page; the owner arms the one and reads the other at entry. */
    struct watcher watcher; /* first: merged_stale() is given this */
    enum merged_state state;

    /* Constant while the entry is in use. */
    struct merged_cache *cache;
    enum merged_kind kind;
    gpa_t page;        /* L1's */
    uint8_t *snapshot; /* L1's page as it was when last merged */
    uint8_t *result;   /* snapshot | L0's page: what the CPU reads */

    /* The owner's, about the last merge. */
    uint64_t l0_generation; /* of L0's page */
    const uint8_t *l0_page;
    struct merged_pays pays;

    /* Written by nested/bitmap/merged_cache alone. */
    bool in_use;
    unsigned users;        /* slots that name it now; 0: idle, kept for when one names it again */
    const void *last_user; /* the slot that named it last: an idle entry goes when that one goes */
    uint64_t last_used;    /* for the choice of the one to evict */
};

/* L0's half of a merge. */
struct merged_policy {
    const uint8_t *page;
    uint64_t generation;
};

/* How an entry is merged: merged_merge(), or one of nested/bitmap/merged_wrong.h. */
typedef void (*merged_merge_fn)(struct merged *m, struct merged_policy l0);

/* An entry for `page` (any 64-bit address that passed the entry checks), EMPTY. `snapshot`, `result`: pages of its
 * own. */
void merged_init(struct merged *m, struct merged_cache *cache, enum merged_kind kind, gpa_t page, uint8_t *snapshot,
                 uint8_t *result);
/* Before each entry: makes the merged page exact. FRESH and L0's page the same: nothing is read. Counts merges and
 * merges saved. */
void merged_refresh(struct merged *m, struct merged_policy l0);
/* Before an entry: whether L2 may run with a page of ones instead, and the merge wait for its first access to an MSR
 * (docs/adr/0014-a-merge-waits.md). merged_wanted(): that access came, so the next merges are done at once. */
bool merged_waits(struct merged *m, struct merged_policy l0);
void merged_wanted(struct merged *m);
/* L1's half, for a decision about an exit: exact while FRESH. NULL: the page is no RAM and reads as ones. */
const uint8_t *merged_l1_page(const struct merged *m);
/* The same if it is the copy that was merged; else NULL. */
const uint8_t *merged_copy(const struct merged *m);
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
/* True if nothing is to be done before an entry. */
static inline bool merged_is_fresh(const struct merged *m, uint64_t generation)
{
    return merged_state(m) == MERGED_FRESH && m->l0_generation == generation;
}

#endif
