/* The merged bitmaps of all processors: found by the page and the role in which vmcs12s name it, made, kept while idle,
 * evicted, freed.
 *
 * A merged bitmap outlives the vmcs12 that named it, and is found by whatever processor names its page next: L1 may
 * execute VMCLEAR at each switch of a virtual processor, or move it, and nothing is merged or protected anew. It goes
 * when room is needed, or by VMXOFF. What several processors name is never written: whoever needs it merged anew takes
 * another one, which the others find in their turn (docs/adr/0018-merged-bitmaps-are-shared.md).
 *
 * merged_cache_init() once, merged_cache_add() for each processor. Any state; the lock is taken inside.
 * nested/bitmap/slot_bitmaps calls it. */
#ifndef NESTED_BITMAP_MERGED_CACHE_H
#define NESTED_BITMAP_MERGED_CACHE_H

#include "kernel/spinlock.h"
#include "nested/bitmap/merged.h"
#include "nested/bitmap/merged_words.h"

#define MERGED_BUCKETS 64

/* L0's page of a kind, and what moves after each change of it; read without a lock. */
struct merged_l0 {
    const uint8_t *page;
    const uint64_t *generation;
};

/* Each processor's own part beside the cache. */
struct merged_owner {
    void *context;                           /* for merged_cache.evict */
    struct merged_words words[MERGED_KINDS]; /* of L0's pages */
    unsigned idle;                           /* merged bitmaps that it named last; under the cache's lock */
};

struct vm;
struct merged_cache {
    /* Constant after merged_cache_init(). */
    const struct gmem *gmem;
    struct ept_watch *watch;
    struct merged_l0 l0[MERGED_KINDS];
    const struct vm *vm; /* whose processors are told when one becomes stale; NULL: none */
    const uint8_t *ones; /* a page with every bit set: everything exits */
    merged_merge_fn merge;
    /* One that slots of its owner still name is about to go; they must forget it. NULL: such ones stay. */
    void (*evict)(void *context, struct merged *m);
    void (*told)(const struct merged *m); /* of each merge of an MSR bitmap; NULL: nobody */

    uint64_t changes; /* counts FRESH -> STALE of them all, by any processor: while it stands all FRESH ones are */

    uint64_t clock; /* counts uses, for last_used */

    struct spinlock lock; /* LOCK_MERGED: what follows, and what merged.h says */
    struct merged *bucket[MERGED_BUCKETS];
    struct merged *unused;
};

/* Fills the constant part; `*cache` is all 0. */
void merged_cache_init(struct merged_cache *cache, const struct gmem *gmem, struct ept_watch *watch);
/* Room for `count` more; `room` is all 0. */
void merged_cache_add(struct merged_cache *cache, struct merged *room, unsigned count);
/* The merged bitmap of L1's page `page`, with one more user, a slot of `owner`: fresh, or claimed for the caller. The
 * one that was used longest ago makes room. NULL when the page pool is empty (or none may go). */
struct merged *merged_cache_get(struct merged_cache *cache, enum merged_kind kind, gpa_t page,
                                struct merged_owner *owner);
/* Before an entry that goes on with `m`, which a slot of `owner` names: true if it is fresh, or claimed for the
 * caller now. False: other processors may run on it, and the caller must get another. */
MUST_CHECK bool merged_cache_keep(struct merged_cache *cache, struct merged *m, const struct merged_owner *owner);
/* A slot of `owner` names it no longer; `saved` as merged_refresh() has it. It stays, fresh as long as nobody stores to
 * the page. */
void merged_cache_put(struct merged_cache *cache, struct merged *m, struct merged_owner *owner, uint64_t saved);
/* It is about to be used again: the one to evict is chosen by this order. */
void merged_cache_touch(struct merged_cache *cache, struct merged *m);
/* True if another page would make one go: the order of use matters only then. A hint, without the lock. */
static inline bool merged_cache_is_full(const struct merged_cache *cache)
{
    return !__atomic_load_n(&cache->unused, __ATOMIC_RELAXED);
}
/* `owner` has no slots any more: frees the idle ones that it named last, with their pages and watches. */
void merged_cache_release(struct merged_cache *cache, const struct merged_owner *owner);
/* Calls look(m) for each. The other processors are stopped, and may hold the lock: it is not taken. */
void merged_cache_each(const struct merged_cache *cache, void (*look)(const struct merged *m));

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
