/* The merged bitmaps of one virtual processor: found by the page and the role in which vmcs12s name it, made, kept
 * while idle, evicted, freed.
 * merged_cache_init() first. Used by the processor that owns it; `changes` is moved by any.
 * nested/bitmap/slot_bitmaps calls it. */
#ifndef NESTED_BITMAP_MERGED_CACHE_H
#define NESTED_BITMAP_MERGED_CACHE_H

#include "nested/bitmap/merged.h"
#include "nested/bitmap/merged_words.h"

#define MERGED_MAX 64

/* L0's page of a kind, and what moves after each change of it; read without a lock. */
struct merged_l0 {
    const uint8_t *page;
    const uint64_t *generation;
};

struct cpu;
struct merged_cache {
    /* Constant after merged_cache_init(). */
    const struct gmem *gmem;
    struct ept_watch *watch;
    struct merged_l0 l0[MERGED_KINDS];
    struct cpu *cpu;     /* whose cache it is: told when an entry becomes stale; NULL: nobody */
    const uint8_t *ones; /* a page with every bit set: everything exits */
    unsigned bound;      /* entries in use at most; 0: MERGED_MAX */
    merged_merge_fn merge;
    /* An entry that slots still name is about to go; they must forget it. NULL: such entries never go. */
    void (*evict)(void *context, struct merged *m);
    void (*told)(const struct merged *m); /* of each merge of an MSR bitmap; NULL: nobody */
    void *context;

    uint64_t changes; /* counts FRESH -> STALE of all entries, by any processor: while it stands all FRESH ones are */

    /* The owner's. */
    uint64_t clock; /* counts uses, for last_used */
    struct merged_words words[MERGED_KINDS];
    struct merged entry[MERGED_MAX];
};

/* Fills the constant part; `*cache` is all 0. */
void merged_cache_init(struct merged_cache *cache, const struct gmem *gmem, struct ept_watch *watch);
/* The entry for L1's page `page`, with one more user; the caller gives it back. The entry that was used longest ago
 * makes room. NULL when the page pool is empty (or no entry may go). */
struct merged *merged_cache_get(struct merged_cache *cache, enum merged_kind kind, gpa_t page);
/* `user` names it no longer. The entry stays, fresh as long as nobody stores to the page. */
void merged_cache_put(struct merged_cache *cache, struct merged *m, const void *user);
/* The entry is about to be used again: the one to evict is chosen by this order. */
void merged_cache_touch(struct merged_cache *cache, struct merged *m);
/* `user` is gone: frees the idle entries that it used last, with their pages and watches. */
void merged_cache_release_user(struct merged_cache *cache, const void *user);

static inline struct merged_policy merged_cache_policy(const struct merged_cache *cache, enum merged_kind kind)
{
    const struct merged_l0 *l0 = &cache->l0[kind];
    return (struct merged_policy){l0->page, __atomic_load_n(l0->generation, __ATOMIC_ACQUIRE)};
}
/* Moves when any merged page may have become stale, or L0's MSR policy another. Never 0. */
static inline uint64_t merged_cache_now(const struct merged_cache *cache)
{
    return __atomic_load_n(&cache->changes, __ATOMIC_ACQUIRE) +
           __atomic_load_n(cache->l0[MERGED_MSR].generation, __ATOMIC_ACQUIRE);
}

#endif
