/* Where merged pages are kept. An L1 with many L2s names many bitmaps, most of them the same from entry to entry, so
 * a merged bitmap outlives the vmcs12 that asked for it: it stays fresh, and watched, until room is needed. Each has
 * two pages, a copy of L1's page as it was merged and the result that the CPU reads; the copy is for decisions about
 * exits, which must go by what the merge saw. */
#include "nested/bitmap/merged_cache.h"

#include "kernel/cmdline.h"
#include "kernel/percpu.h"
#include "mm/page.h"
#include "nested/bitmap/merged_dump.h"

void merged_cache_init(struct merged_cache *cache, const struct gmem *gmem, struct ept_watch *watch)
{
    cache->gmem = gmem;
    cache->watch = watch;
    cache->merge = merged_merge;
    spinlock_init(&cache->lock, LOCK_MERGED);
}

/* One that is not in a bucket has no pages, and no watch. */
static void link_unused(struct merged_cache *cache, struct merged *m)
{
    m->next = cache->unused;
    cache->unused = m;
}

/* Each processor brings some when it starts, so the cache grows with the machine; whose they were does not matter. */
void merged_cache_add(struct merged_cache *cache, struct merged *room, unsigned count)
{
    spinlock_lock(&cache->lock);
    for (unsigned i = count; i > 0; i--)
        link_unused(cache, &room[i - 1]);
    spinlock_unlock(&cache->lock);
}

static struct merged **bucket_of(struct merged_cache *cache, gpa_t page)
{
    return &cache->bucket[page / PAGE_SIZE % MERGED_BUCKETS];
}

/* True if a processor may go on with it. What nobody else names it may write, so that need not be fresh. */
static bool serves(const struct merged_cache *cache, const struct merged *m, const struct merged_owner *owner)
{
    return !m->users || m->owner == owner || merged_is_fresh(m, merged_cache_policy(cache, m->kind).generation);
}

/* One page may serve several slots, and be an I/O bitmap as well as an MSR bitmap: the kind is part of the key, as L0's
 * share differs. Of several the fresh one. `*other`: one that does not serve; NULL: none. */
static struct merged *find(struct merged_cache *cache, enum merged_kind kind, gpa_t page,
                           const struct merged_owner *owner, const struct merged **other)
{
    struct merged *found = NULL;
    uint64_t generation = merged_cache_policy(cache, kind).generation;
    for (struct merged *m = *bucket_of(cache, page); m; m = m->next) {
        if (m->page != page || m->kind != kind)
            continue;
        if (!serves(cache, m, owner))
            *other = m;
        else if (!found || merged_is_fresh(m, generation))
            found = m;
    }
    return found;
}

/* Ends the watch before the pages go: a store that comes later finds no watcher. */
static void merged_free(struct merged_cache *cache, struct merged **link)
{
    struct merged *m = *link;
    if (options.bitmap_dump)
        merged_dump(m);
    ept_watch_remove(cache->watch, &m->watcher);
    page_free(m->snapshot);
    page_free(m->result);
    m->snapshot = m->result = NULL;
    if (!m->users)
        m->owner->idle--;
    *link = m->next;
    link_unused(cache, m);
    count(COUNT_BITMAP_FREED);
}

/* True if `m` may make room rather than the oldest one up to now. One that slots of another processor
 * name may not: only that processor can make them forget it. */
static bool is_older(const struct merged_cache *cache, const struct merged *m, const struct merged *oldest,
                     const struct merged_owner *owner)
{
    bool may_go = !m->users || (cache->evict && m->owner == owner);
    return may_go && (!oldest || __atomic_load_n(&m->last_used, __ATOMIC_RELAXED) <
                                     __atomic_load_n(&oldest->last_used, __ATOMIC_RELAXED));
}

/* Makes one unused: the one that was used longest ago. */
static void evict(struct merged_cache *cache, const struct merged_owner *owner)
{
    struct merged **oldest = NULL;
    /* All of them are looked at: this happens only when more bitmaps are in use than there is room for, and an order by
     * use would have to be kept at each VMPTRLD instead. */
    for (unsigned i = 0; i < MERGED_BUCKETS; i++)
        for (struct merged **link = &cache->bucket[i]; *link; link = &(*link)->next)
            if (is_older(cache, *link, oldest ? *oldest : NULL, owner))
                oldest = link;
    if (!oldest)
        return;
    /* Slots still name it: they forget it first, and find or make another at their next entry. */
    if ((*oldest)->users)
        cache->evict(owner->context, *oldest);
    merged_free(cache, oldest);
    count(COUNT_BITMAP_EVICTED);
}

/* A new one with its two pages; NULL when neither the cache nor the pool has room, and then all accesses exit. */
static struct merged *make(struct merged_cache *cache, enum merged_kind kind, gpa_t page,
                           const struct merged_owner *owner)
{
    if (!cache->unused)
        evict(cache, owner);
    struct merged *m = cache->unused;
    if (!m)
        return NULL;
    uint8_t *snapshot = page_alloc(), *result = snapshot ? page_alloc() : NULL;
    if (result) {
        cache->unused = m->next;
        merged_init(m, cache, kind, page, snapshot, result);
        m->next = *bucket_of(cache, page);
        *bucket_of(cache, page) = m;
        return m;
    }
    if (snapshot)
        page_free(snapshot);
    return NULL;
}

/* One more user. What another processor names as well was fresh when it was looked at; should that have ended since,
 * the next entry finds out. */
static void name(struct merged_cache *cache, struct merged *m, struct merged_owner *owner)
{
    if (m->users && m->owner != owner) {
        m->owner = MERGED_SHARED;
    } else {
        if (!m->users && m->owner)
            m->owner->idle--;
        m->owner = owner;
        merged_claim(m, merged_cache_policy(cache, m->kind));
    }
    m->users++;
    merged_cache_touch(cache, m);
}

/* NULL is no failure of L1's entry: without a merged page all accesses exit, and each is decided in software. */
struct merged *merged_cache_get(struct merged_cache *cache, enum merged_kind kind, gpa_t page,
                                struct merged_owner *owner)
{
    const struct merged *other = NULL;
    spinlock_lock(&cache->lock);
    struct merged *m = find(cache, kind, page, owner, &other);
    if (!m) {
        m = make(cache, kind, page, owner);
        if (m && other)
            m->pays = other->pays; /* how its last merges went */
    }
    if (m)
        name(cache, m, owner);
    spinlock_unlock(&cache->lock);
    return m;
}

bool merged_cache_keep(struct merged_cache *cache, struct merged *m, const struct merged_owner *owner)
{
    struct merged_policy l0 = merged_cache_policy(cache, m->kind);
    if (merged_is_fresh(m, l0.generation))
        return true;
    spinlock_lock(&cache->lock);
    bool kept = m->owner == owner || merged_is_fresh(m, l0.generation);
    if (m->owner == owner)
        merged_claim(m, l0);
    spinlock_unlock(&cache->lock);
    return kept;
}

/* Without the lock, as each VMPTRLD of L1 does it. */
void merged_cache_touch(struct merged_cache *cache, struct merged *m)
{
    uint64_t now = __atomic_add_fetch(&cache->clock, 1, __ATOMIC_RELAXED);
    __atomic_store_n(&m->last_used, now, __ATOMIC_RELAXED);
}

/* It stays where it is, watched, with no user: whoever names the page next, on any processor, finds it fresh if
 * nobody stored meanwhile. That is why VMCLEAR of a vmcs12 costs no merge later
 * (docs/adr/0018-merged-bitmaps-are-shared.md). `saved`: the entries without a merge since it was named, by which
 * merged_pays judges whether tracing pays. */
void merged_cache_put(struct merged_cache *cache, struct merged *m, struct merged_owner *owner, uint64_t saved)
{
    spinlock_lock(&cache->lock);
    if (--m->users == 0) {
        m->owner = owner;
        owner->idle++;
    }
    m->pays.saved += saved;
    merged_cache_touch(cache, m);
    spinlock_unlock(&cache->lock);
}

/* L1 has left VMX operation on the owner's processor: frees what it named last, and nobody names now. */
void merged_cache_release(struct merged_cache *cache, const struct merged_owner *owner)
{
    spinlock_lock(&cache->lock);
    for (unsigned i = 0; owner->idle && i < MERGED_BUCKETS; i++)
        for (struct merged **link = &cache->bucket[i]; *link;)
            if (!(*link)->users && (*link)->owner == owner)
                merged_free(cache, link);
            else
                link = &(*link)->next;
    spinlock_unlock(&cache->lock);
}

void merged_cache_each(const struct merged_cache *cache, void (*look)(const struct merged *m))
{
    for (unsigned i = 0; i < MERGED_BUCKETS; i++)
        for (const struct merged *m = cache->bucket[i]; m; m = m->next)
            look(m);
}
