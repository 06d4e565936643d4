#include "nested/bitmap/merged.h"

#include "kernel/cmdline.h"
#include "kernel/layout.h"
#include "kernel/msr.h"
#include "kernel/panic.h"
#include "kernel/percpu.h"
#include "kernel/string.h"
#include "mm/page.h"
#include "vmx/msr_bitmap.h"

/* When tracing a page does not pay, and for how many entries it is then left: docs/adr/0010 has the costs. */
#define TRACE_PAYS_FROM 1 /* entries without a merge, between two merges */
#define STRIKES_MAX 4
#define REST_MIN 64
#define REST_MAX 4096
/* Merges before one is put off: of a new entry, and when L2 had accessed an MSR after all. docs/adr/0014 */
#define EAGER_FIRST 4
#define EAGER_AGAIN 64

static void merged_stale(struct watcher *watcher)
{
    struct merged *m = (struct merged *)watcher;
    __atomic_store_n(&m->state, MERGED_STALE, __ATOMIC_RELEASE);
    __atomic_add_fetch(&m->cache->changes, 1, __ATOMIC_RELEASE);
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
    if (options.bitmap_dump)
        merged_dump(m);
    ept_watch_remove(cache->watch, &m->watcher);
    page_free(m->snapshot);
    page_free(m->result);
    m->in_use = false;
    count(COUNT_BITMAP_FREED);
}

/* Whether the entry may make room, as far as the one chosen up to now may stay. */
static bool merged_is_older(const struct merged_cache *cache, const struct merged *m, const struct merged *oldest)
{
    return (!m->users || cache->evict) && (!oldest || m->last_used < oldest->last_used);
}

/* An entry without content: one never used, or the one that was used longest ago. */
static struct merged *merged_take(struct merged_cache *cache)
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
        if (merged_is_older(cache, m, oldest))
            oldest = m;
    }
    if (unused && (!cache->bound || used < cache->bound))
        return unused;
    if (oldest) {
        if (oldest->users)
            cache->evict(cache->context, oldest);
        merged_free(cache, oldest);
        count(COUNT_BITMAP_EVICTED);
    }
    return oldest;
}

static struct merged *merged_make(struct merged_cache *cache, enum merged_kind kind, gpa_t page)
{
    struct merged *m = merged_take(cache);
    if (!m)
        return NULL;
    *m = (struct merged){
        .watcher.stale = merged_stale,
        .cache = cache,
        .kind = kind,
        .page = page,
        .state = MERGED_EMPTY,
        .next_rest = REST_MIN,
        .eager = EAGER_FIRST,
    };
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
        merged_touch(cache, m);
    }
    return m;
}

void merged_touch(struct merged_cache *cache, struct merged *m)
{
    m->last_used = ++cache->clock;
}

void merged_put(struct merged_cache *cache, struct merged *m, const void *user)
{
    m->users--;
    m->last_user = user;
    merged_touch(cache, m);
}

void merged_release_user(struct merged_cache *cache, const void *user)
{
    for (unsigned i = 0; i < MERGED_MAX; i++) {
        struct merged *m = &cache->entry[i];
        if (m->in_use && !m->users && m->last_user == user)
            merged_free(cache, m);
    }
}

/* Whether to trace the page from this merge on. A page that L1 rewrites before nearly every entry costs a write fault
 * and a protection on top of each merge: after some such merges in a row it rests untraced, longer each time. */
static bool merged_trace_pays(struct merged *m)
{
    if (m->untraced) {
        m->strikes = STRIKES_MAX - 1; /* the next one ends the new attempt */
        return --m->untraced == 0;
    }
    if (m->state != MERGED_STALE || m->watcher.armed || m->keep_traced)
        return true;
    if (m->saved >= TRACE_PAYS_FROM) {
        m->strikes = 0;
        m->next_rest = REST_MIN;
        return true;
    }
    if (++m->strikes < STRIKES_MAX)
        return true;
    m->untraced = m->next_rest;
    m->next_rest = MIN(2 * m->next_rest, REST_MAX);
    count(COUNT_BITMAP_UNTRACED);
    return false;
}

/* Arms the trace, unless it is armed, cannot be, or does not pay. True when the page will tell of the next store. */
static bool merged_trace(struct merged_cache *cache, struct merged *m)
{
    if (options.bitmap == BITMAP_MERGE || !merged_trace_pays(m))
        return false;
    if (m->watcher.armed)
        return true;
    /* Before it is armed: a hit that comes at once must have the last word. */
    __atomic_store_n(&m->state, MERGED_FRESH, __ATOMIC_RELEASE);
    return ept_watch_add(cache->watch, m->page, &m->watcher) == 0;
}

static const struct merged_words *merged_words(struct merged_cache *cache, enum merged_kind kind,
                                               struct merged_policy l0)
{
    struct merged_words *words = &cache->words[kind];
    const uint64_t *page = (const uint64_t *)(const void *)l0.page;
    if (words->generation == l0.generation)
        return words;
    words->generation = l0.generation;
    words->count = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(words->index); i++)
        if (page[i])
            words->index[words->count++] = (uint16_t)i;
    return words;
}

/* result = snapshot | l0, as copy and a few words: what vmx/msr_bitmap.c:msr_bitmap_merge does, in a third of the time. */
static void merged_or(struct merged_cache *cache, struct merged *m, struct merged_policy l0)
{
    const struct merged_words *words = merged_words(cache, m->kind, l0);
    const uint64_t *page = (const uint64_t *)(const void *)l0.page;
    uint64_t *result = (uint64_t *)(void *)m->result;
    memcpy(m->result, m->snapshot, PAGE_SIZE);
    if (options.fault == FAULT_DROP_L0_BITS)
        return;
    for (unsigned i = 0; i < words->count; i++)
        result[words->index[i]] |= page[words->index[i]];
}

/* The policy `allow`: everything exits but the few MSRs that KVM looks at. */
static void merged_allow(struct merged *m, const uint8_t *l0_page)
{
    static const uint32_t allowed[] = {IA32_FS_BASE,   IA32_GS_BASE,  IA32_KERNEL_GS_BASE,
                                       IA32_SPEC_CTRL, IA32_PRED_CMD, IA32_FLUSH_CMD};
    const uint8_t *l1_page = gmem_page(m->cache->gmem, m->page);
    if (m->state == MERGED_EMPTY)
        memset(m->result, 0xff, PAGE_SIZE);
    m->state = MERGED_STALE;
    m->live = true;
    for (unsigned i = 0; l1_page && i < ARRAY_SIZE(allowed); i++)
        for (enum msr_access access = MSR_READ; access <= MSR_WRITE; access++) {
            if (msr_bitmap_test(l0_page, allowed[i], access) || msr_bitmap_test(l1_page, allowed[i], access))
                msr_bitmap_set(m->result, allowed[i], access);
            else
                msr_bitmap_clear(m->result, allowed[i], access);
        }
}

static void merged_merge(struct merged_cache *cache, struct merged *m, struct merged_policy l0)
{
    /* Protect first, read after: a store between the two makes the entry STALE again, and none is lost. A page that is
     * not RAM cannot change under us and reads as all-ones. */
    bool reads = options.fault != FAULT_SKIP_REMERGE || !m->l0_generation;
    if (options.fault == FAULT_READ_FIRST)
        gmem_read(cache->gmem, m->page, m->snapshot, PAGE_SIZE);
    m->traced = merged_trace(cache, m) || !gmem_is_ram(cache->gmem, m->page);
    if (!m->traced)
        __atomic_store_n(&m->state, MERGED_STALE, __ATOMIC_RELEASE);
    if (reads && options.fault != FAULT_READ_FIRST)
        gmem_read(cache->gmem, m->page, m->snapshot, PAGE_SIZE);
    merged_or(cache, m, l0);
}

void merged_refresh(struct merged_cache *cache, struct merged *m, struct merged_policy l0)
{
    if (merged_is_fresh(m, l0.generation)) {
        m->saved++;
        if (m->kind == MERGED_MSR)
            count(COUNT_BITMAP_MERGES_SAVED);
    } else {
        if (options.bitmap == BITMAP_ALLOW && m->kind == MERGED_MSR)
            merged_allow(m, l0.page);
        else
            merged_merge(cache, m, l0);
        m->l0_generation = l0.generation;
        m->l0_page = l0.page;
        m->saved = 0;
        if (m->kind == MERGED_MSR)
            count(COUNT_BITMAP_MERGES);
    }
    if (options.bitmap_check && merged_is_fresh(m, l0.generation))
        ASSERT(merged_is_exact(cache, m, l0.page) || !merged_is_fresh(m, l0.generation));
}

bool merged_waits(struct merged *m, uint64_t generation)
{
    if (options.bitmap != BITMAP_TRACE || m->keep_traced || merged_is_fresh(m, generation))
        return false;
    if (m->eager == 0)
        return true;
    m->eager--;
    return false;
}

void merged_wanted(struct merged *m)
{
    m->eager = EAGER_AGAIN;
}

const uint8_t *merged_l1_page(const struct merged *m)
{
    return m->live ? gmem_page(m->cache->gmem, m->page) : m->snapshot;
}

bool merged_is_exact(const struct merged_cache *cache, const struct merged *m, const uint8_t *l0_page)
{
    const uint8_t *l1_page = gmem_page(cache->gmem, m->page);
    for (unsigned i = 0; i < PAGE_SIZE; i++) {
        uint8_t l1 = l1_page ? l1_page[i] : 0xff;
        if (m->snapshot[i] != l1 || m->result[i] != (l1 | l0_page[i]))
            return false;
    }
    return true;
}
