/* Merged bitmaps: the page that the hardware uses for L2 is the OR of L0's and L1's page, kept current by write tracing
 * (DESIGN: "L1 writes its bitmap page"; Linux kernel bug 53761, "nVMX: MSR bitmap merging").
 * The same cache serves MSR bitmaps and the two I/O bitmaps. It belongs to one virtual processor; stale() is called by
 * whichever processor stores to the page.
 * nested/enter prepares, nested/reflect reads the snapshots. */
#ifndef NESTED_BITMAP_H
#define NESTED_BITMAP_H

#include "kernel/base.h"
#include "mm/ept_watch.h"
#include "mm/gmem.h"

#define MERGED_MAX 64

enum merged_kind { MERGED_MSR, MERGED_IO_A, MERGED_IO_B };
enum merged_state { MERGED_EMPTY, MERGED_STALE, MERGED_FRESH };

struct merged {
    struct watcher watcher; /* first: stale() is given this */
    enum merged_kind kind;
    gpa_t page; /* L1's */
    /* Written by the processor that stores to the page (FRESH -> STALE), read by the owner at entry. */
    enum merged_state state;
    bool traced; /* the state says truly whether somebody stored since the last merge */
    bool in_use;
    unsigned users;         /* vmcs12s that name it now; 0: idle, kept for when one names it again */
    const void *last_user;  /* the vmcs12 that named it last: an idle entry goes when that one goes */
    uint64_t last_used;     /* for the choice of the one to evict */
    uint64_t l0_generation; /* of the L0 page when it was merged */
    uint8_t *snapshot;      /* L1's page as it was when last merged */
    uint8_t *result;        /* snapshot | L0's page: what the hardware reads */
};

struct merged_cache {
    const struct gmem *gmem;
    struct ept_watch *watch;
    uint64_t clock; /* counts uses, for last_used */
    struct merged entry[MERGED_MAX];
};

/* L0's half of a merge. */
struct merged_policy {
    const uint8_t *page;
    uint64_t generation;
};

/* The entry for L1's page `page` (any 64-bit address that passed the entry checks), with one more user; the caller
 * gives it back. The idle entry that was used longest ago makes room. NULL when all are used or the page pool is empty. */
struct merged *merged_get(struct merged_cache *cache, enum merged_kind kind, gpa_t page);
/* `user` names it no longer. The entry stays, fresh as long as nobody stores to the page. */
void merged_put(struct merged_cache *cache, struct merged *m, const void *user);
/* `user` is gone: frees the idle entries that it used last, with their pages and watches. */
void merged_release_user(struct merged_cache *cache, const void *user);
/* Makes the entry FRESH: when it is not, protects L1's page first and reads it after. Counts merges and merges saved. */
void merged_refresh(struct merged_cache *cache, struct merged *m, struct merged_policy l0);
/* Whether nothing is to be done before an entry. */
static inline bool merged_is_fresh(const struct merged *m, uint64_t generation)
{
    return __atomic_load_n(&m->state, __ATOMIC_ACQUIRE) == MERGED_FRESH && m->l0_generation == generation;
}

#endif
