/* Where merged pages are kept. An L1 with many L2s names many bitmaps, most of them the same from entry to entry, so
 * an entry outlives the vmcs12 that asked for it: it stays fresh, and watched, until its last user is cleared or
 * room is needed. The pages are two for each entry, a copy of L1's page as it was merged and the result that the CPU
 * reads; the copy is for decisions about exits, which must go by what the merge saw. */
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
}

/* One page may serve several slots, and be an I/O bitmap as well as an MSR bitmap: the kind is part of the key, as L0's
 * share differs. */
static struct merged *find(struct merged_cache *cache, enum merged_kind kind, gpa_t page)
{
    for (unsigned i = 0; i < MERGED_MAX; i++) {
        struct merged *m = &cache->entry[i];
        if (m->in_use && m->page == page && m->kind == kind)
            return m;
    }
    return NULL;
}

/* Ends the watch before the pages go: a store that comes later finds no watcher. */
static void merged_free(struct merged_cache *cache, struct merged *m)
{
    if (options.bitmap_dump)
        merged_dump(m);
    ept_watch_remove(cache->watch, &m->watcher);
    page_free(m->snapshot);
    page_free(m->result);
    m->in_use = false;
    count(COUNT_BITMAP_FREED);
}

/* True if the entry may make room, as far as the one chosen up to now may stay. */
static bool is_older(const struct merged_cache *cache, const struct merged *m, const struct merged *oldest)
{
    return (!m->users || cache->evict) && (!oldest || m->last_used < oldest->last_used);
}

/* An entry without content: one never used, or the one that was used longest ago. */
static struct merged *take(struct merged_cache *cache)
{
    struct merged *oldest = NULL, *unused = NULL;
    unsigned used = 0;
    for (unsigned i = 0; i < MERGED_MAX; i++) {
        struct merged *m = &cache->entry[i];
        if (!m->in_use) {
            unused = m;
            continue;
        }
        used++;
        if (is_older(cache, m, oldest))
            oldest = m;
    }
    if (unused && (!cache->bound || used < cache->bound))
        return unused;
    if (oldest) {
        /* Slots still name it: they forget it first, and find or make another at their next entry. */
        if (oldest->users)
            cache->evict(cache->context, oldest);
        merged_free(cache, oldest);
        count(COUNT_BITMAP_EVICTED);
    }
    return oldest;
}

/* A new entry with its two pages; NULL when neither the cache nor the pool has room, and then all accesses exit. */
static struct merged *make(struct merged_cache *cache, enum merged_kind kind, gpa_t page)
{
    struct merged *m = take(cache);
    if (!m)
        return NULL;
    uint8_t *snapshot = page_alloc(), *result = snapshot ? page_alloc() : NULL;
    if (result) {
        merged_init(m, cache, kind, page, snapshot, result);
        m->in_use = true;
        return m;
    }
    if (snapshot)
        page_free(snapshot);
    return NULL;
}

/* NULL is no failure of L1's entry: without a merged page all accesses exit, and each is decided in software. */
struct merged *merged_cache_get(struct merged_cache *cache, enum merged_kind kind, gpa_t page)
{
    struct merged *m = find(cache, kind, page);
    if (!m)
        m = make(cache, kind, page);
    if (m) {
        m->users++;
        merged_cache_touch(cache, m);
    }
    return m;
}

void merged_cache_touch(struct merged_cache *cache, struct merged *m)
{
    m->last_used = ++cache->clock;
}

void merged_cache_put(struct merged_cache *cache, struct merged *m, const void *user)
{
    m->users--;
    /* Nobody names it now, but its content stays until room is needed or its last user is cleared. */
    m->last_user = user;
    merged_cache_touch(cache, m);
}

/* VMCLEAR of the last vmcs12 that named a page: nobody is likely to name it again soon. */
void merged_cache_release_user(struct merged_cache *cache, const void *user)
{
    for (unsigned i = 0; i < MERGED_MAX; i++) {
        struct merged *m = &cache->entry[i];
        if (m->in_use && !m->users && m->last_user == user)
            merged_free(cache, m);
    }
}
