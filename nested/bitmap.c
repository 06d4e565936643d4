#include "nested/bitmap.h"

#include "kernel/cmdline.h"
#include "kernel/layout.h"
#include "kernel/percpu.h"
#include "kernel/string.h"
#include "mm/page.h"
#include "vmx/msr_bitmap.h"

/* Index in the values of the options `bitmap` and `fault`. */
enum { POLICY_TRACE, POLICY_MERGE };
enum { FAULT_NONE_SET, FAULT_DROP_L0_BITS, FAULT_SKIP_REMERGE };

static void merged_stale(struct watcher *watcher)
{
    struct merged *m = (struct merged *)watcher;
    __atomic_store_n(&m->state, MERGED_STALE, __ATOMIC_RELEASE);
}
_Static_assert(offsetof(struct merged, watcher) == 0, "merged_stale() converts the pointer");

static struct merged *merged_find(struct merged_cache *cache, enum merged_kind kind, gpa_t page)
{
    for (unsigned i = 0; i < MERGED_MAX; i++) {
        struct merged *m = &cache->entry[i];
        if (m->in_use && m->page == page && m->kind == kind)
            return m;
    }
    return NULL;
}

static void merged_free(struct merged_cache *cache, struct merged *m)
{
    ept_watch_remove(cache->watch, &m->watcher);
    page_free(m->snapshot);
    page_free(m->result);
    m->in_use = false;
    count(COUNT_BITMAP_FREED);
}

/* An entry without content: one never used, or the idle one that was used longest ago. */
static struct merged *merged_take(struct merged_cache *cache)
{
    struct merged *oldest = NULL;
    for (unsigned i = 0; i < MERGED_MAX; i++) {
        struct merged *m = &cache->entry[i];
        if (!m->in_use)
            return m;
        if (!m->users && (!oldest || m->last_used < oldest->last_used))
            oldest = m;
    }
    if (oldest)
        merged_free(cache, oldest);
    return oldest;
}

static struct merged *merged_make(struct merged_cache *cache, enum merged_kind kind, gpa_t page)
{
    struct merged *m = merged_take(cache);
    if (!m)
        return NULL;
    *m = (struct merged){.watcher.stale = merged_stale, .kind = kind, .page = page, .state = MERGED_EMPTY};
    m->snapshot = page_alloc();
    m->result = page_alloc();
    m->in_use = m->snapshot && m->result;
    if (m->in_use)
        return m;
    if (m->snapshot)
        page_free(m->snapshot);
    return NULL;
}

struct merged *merged_get(struct merged_cache *cache, enum merged_kind kind, gpa_t page)
{
    struct merged *m = merged_find(cache, kind, page);
    if (!m)
        m = merged_make(cache, kind, page);
    if (m) {
        m->users++;
        m->last_used = ++cache->clock;
    }
    return m;
}

void merged_put(struct merged_cache *cache, struct merged *m, const void *user)
{
    m->users--;
    m->last_user = user;
    m->last_used = ++cache->clock;
}

void merged_release_user(struct merged_cache *cache, const void *user)
{
    for (unsigned i = 0; i < MERGED_MAX; i++) {
        struct merged *m = &cache->entry[i];
        if (m->in_use && !m->users && m->last_user == user)
            merged_free(cache, m);
    }
}

/* Arms the trace, unless it is armed, cannot be, or the policy is to merge at each entry. True when the page will tell
 * of the next store. */
static bool merged_trace(struct merged_cache *cache, struct merged *m)
{
    if (options.bitmap == POLICY_MERGE)
        return false;
    if (m->watcher.armed)
        return true;
    return ept_watch_add(cache->watch, m->page, &m->watcher) == 0;
}

void merged_refresh(struct merged_cache *cache, struct merged *m, struct merged_policy l0)
{
    if (merged_is_fresh(m, l0.generation)) {
        if (m->kind == MERGED_MSR)
            count(COUNT_BITMAP_MERGES_SAVED);
        return;
    }
    /* Protect first, read after: a store between the two makes the entry STALE again, and none is lost. A page that is
     * not RAM cannot change under us and reads as all-ones. */
    m->traced = merged_trace(cache, m) || !gmem_is_ram(cache->gmem, m->page);
    __atomic_store_n(&m->state, m->traced ? MERGED_FRESH : MERGED_STALE, __ATOMIC_RELEASE);
    if (options.fault != FAULT_SKIP_REMERGE || !m->l0_generation)
        gmem_read(cache->gmem, m->page, m->snapshot, PAGE_SIZE);
    m->l0_generation = l0.generation;
    if (options.fault == FAULT_DROP_L0_BITS)
        memcpy(m->result, m->snapshot, PAGE_SIZE);
    else
        msr_bitmap_merge(m->result, l0.page, m->snapshot);
    if (m->kind == MERGED_MSR)
        count(COUNT_BITMAP_MERGES);
}
