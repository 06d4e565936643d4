/* Merged bitmaps: the page that the hardware uses for L2 is the OR of L0's and L1's page, kept current by write tracing
 * (DESIGN: "L1 writes its bitmap page"; Linux kernel bug 53761, "nVMX: MSR bitmap merging").
 * The same cache serves MSR bitmaps and the two I/O bitmaps. It belongs to one virtual processor; stale() is called by
 * whichever processor stores to the page.
 * nested/prepare prepares, nested/exit reads L1's half, nested/slot gives entries back. */
#ifndef NESTED_BITMAP_MERGED_H
#define NESTED_BITMAP_MERGED_H

#include "kernel/base.h"
#include "mm/ept_watch.h"
#include "mm/gmem.h"

#define MERGED_MAX 64

enum merged_kind { MERGED_MSR, MERGED_IO_A, MERGED_IO_B };
enum merged_state { MERGED_EMPTY, MERGED_STALE, MERGED_FRESH };

struct merged_cache;

struct merged {
    struct watcher watcher; /* first: stale() is given this */
    struct merged_cache *cache;
    enum merged_kind kind;
    gpa_t page; /* L1's */
    /* Written by the processor that stores to the page (FRESH -> STALE), read by the owner at entry. */
    enum merged_state state;
    bool traced; /* the state says truly whether somebody stored since the last merge */
    bool live;   /* there is no snapshot: decisions read L1's page as it is now */
    bool in_use;
    unsigned users;         /* vmcs12s that name it now; 0: idle, kept for when one names it again */
    const void *last_user;  /* the vmcs12 that named it last: an idle entry goes when that one goes */
    uint64_t last_used;     /* for the choice of the one to evict */
    uint64_t l0_generation; /* of the L0 page when it was merged */
    const uint8_t *l0_page; /* the one it was merged with */
    uint64_t saved;         /* entries since the last merge that needed none */
    uint8_t *snapshot;      /* L1's page as it was when last merged */
    uint8_t *result;        /* snapshot | L0's page: what the hardware reads */
    /* Whether tracing pays. */
    bool keep_traced;   /* L2 stores to it while it runs: only a trace shows that */
    unsigned strikes;   /* merges in a row for which tracing did not pay */
    unsigned untraced;  /* entries that are still to be merged without tracing */
    unsigned next_rest; /* how many those are the next time */
    unsigned eager;     /* merges until one is put off until L2 accesses an MSR */
};

#define MERGED_KINDS 3

/* Which words of a page of L0's are not 0: few, and a merge touches only those of them. */
struct merged_words {
    uint64_t generation; /* of the page; 0: none was looked at */
    unsigned count;
    uint16_t index[PAGE_SIZE / sizeof(uint64_t)];
};

struct merged_cache {
    const struct gmem *gmem;
    struct ept_watch *watch;
    const uint64_t *l0_generation; /* of L0's MSR policy; read without a lock */
    unsigned bound;                /* entries in use at most; 0: MERGED_MAX */
    uint64_t clock;                /* counts uses, for last_used */
    uint64_t changes; /* counts FRESH -> STALE of all entries, by any processor: while it stands all FRESH ones are */
    /* An entry that vmcs12s still name is about to go; they must forget it. NULL: such entries never go. */
    void (*evict)(void *context, struct merged *m);
    void *context;
    struct merged_words words[MERGED_KINDS];
    struct merged entry[MERGED_MAX];
};

/* L0's half of a merge. */
struct merged_policy {
    const uint8_t *page;
    uint64_t generation;
};

/* The entry for L1's page `page` (any 64-bit address that passed the entry checks), with one more user; the caller
 * gives it back. The entry that was used longest ago makes room. NULL when the page pool is empty (or no entry may go). */
struct merged *merged_get(struct merged_cache *cache, enum merged_kind kind, gpa_t page);
/* `user` names it no longer. The entry stays, fresh as long as nobody stores to the page. */
void merged_put(struct merged_cache *cache, struct merged *m, const void *user);
/* The entry is about to be used again: the one to evict is chosen by this order. */
void merged_touch(struct merged_cache *cache, struct merged *m);
/* `user` is gone: frees the idle entries that it used last, with their pages and watches. */
void merged_release_user(struct merged_cache *cache, const void *user);
/* Makes the entry FRESH: when it is not, protects L1's page first and reads it after. Counts merges and merges saved. */
void merged_refresh(struct merged_cache *cache, struct merged *m, struct merged_policy l0);
/* Before an entry: whether L2 may run with a page of ones instead, and the merge wait for its first access to an MSR.
 * After some merges each is put off until an access shows that it is wanted after all: merged_wanted(). */
bool merged_waits(struct merged *m, uint64_t generation);
void merged_wanted(struct merged *m);
/* L1's half for a decision about an exit: exact while FRESH. NULL: the page is no RAM and reads as ones. */
const uint8_t *merged_l1_page(const struct merged *m);
/* Whether the invariant holds: snapshot == L1's page, result == snapshot | L0's page. */
bool merged_is_exact(const struct merged_cache *cache, const struct merged *m, const uint8_t *l0_page);
/* Logs L0's and L1's half of an MSR bitmap, if it was merged; of all that are in use. For tools/bitmap-report. */
void merged_dump(const struct merged *m);
void merged_dump_all(const struct merged_cache *cache);
/* Whether nothing is to be done before an entry. */
static inline bool merged_is_fresh(const struct merged *m, uint64_t generation)
{
    return __atomic_load_n(&m->state, __ATOMIC_ACQUIRE) == MERGED_FRESH && m->l0_generation == generation;
}

#endif
