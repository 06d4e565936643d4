/* The heart of the project, in the order of its story:
 *   1. L0 has a bitmap of its own: vmx/msr_policy.def.
 *   2. L1 names one in vmcs12: nested/bitmap/slot_bitmaps.c finds or makes the merged bitmap.
 *   3. L0 write-protects L1's page through EPT: merged_protect().
 *   4. Then it reads the page, and ORs its own bits in: merged_read(), merged_or().
 *   5. L2 runs on the result: nested/bitmap/slot_bitmaps.c.
 *   6. A store to L1's page faults once, makes the merged bitmap stale and ends the protection: merged_stale().
 *   7. The next entry merges anew: merged_refresh(). What is freed when: nested/bitmap/merged_cache.c.
 * Why in this order: docs/CONCEPTS.md, section 5. */
#include "nested/bitmap/merged.h"

#include "kernel/cmdline.h"
#include "kernel/panic.h"
#include "kernel/percpu.h"
#include "kernel/string.h"
#include "nested/bitmap/merged_cache.h"
#include "vmx/straight.h"

/* Step 6. Runs on the processor that stores, under the watch's lock, before the store is done. The watch is gone
 * already, so further stores cost nothing. Each processor is told to look at its next entry, by the count that
 * slot_bitmaps_refresh() compares and the byte of the straight way (docs/FLOWS.md, flow 10). The state first: who sees
 * the new count sees STALE. */
static void merged_stale(struct watcher *watcher)
{
    struct merged *m = (struct merged *)watcher;
    merged_set_state(m, MERGED_STALE);
    __atomic_add_fetch(&m->cache->changes, 1, __ATOMIC_RELEASE);
    const struct vm *vm = m->cache->vm;
    for (unsigned i = 0; vm && i < vm->vcpus; i++)
        straight_disturb(vm->vcpu[i]->cpu);
}
_Static_assert(offsetof(struct merged, watcher) == 0, "merged_stale() converts the pointer");

void merged_init(struct merged *m, struct merged_cache *cache, enum merged_kind kind, gpa_t page, uint8_t *snapshot,
                 uint8_t *result)
{
    *m = (struct merged){
        .watcher.stale = merged_stale,
        .state = MERGED_EMPTY,
        .cache = cache,
        .kind = kind,
        .page = page,
        .snapshot = snapshot,
        .result = result,
        .pays = MERGED_PAYS_AT_FIRST,
    };
}

/* Arms the watch, if tracing pays. True if a store to the page will be told from now on. */
static bool watch(struct merged *m)
{
    /* STALE says that it was; UNTRACED, that nobody would know. */
    bool was_stored_to = merged_state(m) >= MERGED_STALE && !m->watcher.armed;
    if (options.bitmap == BITMAP_MERGE || m->by_word || !merged_pays_to_trace(&m->pays, was_stored_to))
        return false;
    if (m->watcher.armed) /* L0's page changed, not L1's */
        return true;
    /* FRESH before the watch is armed: a store that comes at once must have the last word, and says STALE. That nothing
     * is merged yet does no harm: this processor has claimed `m` (l0_generation is 0), so nobody takes it for fresh. */
    merged_set_state(m, MERGED_FRESH);
    return ept_watch_add(m->cache->watch, m->page, &m->watcher) == 0;
}

/* Step 3. On return no processor can store to the page unseen: ept_watch_add() took the permission from all tables, and
 * waited until all processors had forgotten it. A page that is no RAM cannot be watched, nor can it change: it stays
 * FRESH. */
void merged_protect(struct merged *m)
{
    if (!watch(m) && gmem_is_ram(m->cache->gmem, m->page))
        merged_set_state(m, MERGED_UNTRACED);
}

/* Step 4. A page that is not RAM reads as all-ones. */
void merged_read(struct merged *m)
{
    gmem_read(m->cache->gmem, m->page, m->snapshot, PAGE_SIZE);
}

/* result = snapshot | l0, as a copy and the few words of L0 that are not 0: a third of the time of 512 ORs. */
void merged_or(struct merged *m, struct merged_policy l0)
{
    const struct merged_words *words = merged_words_of(&m->owner->words[m->kind], l0.page, l0.generation);
    const uint64_t *page = (const uint64_t *)(const void *)l0.page;
    uint64_t *result = (uint64_t *)(void *)m->result;
    memcpy(m->result, m->snapshot, PAGE_SIZE);
    for (unsigned i = 0; i < words->count; i++)
        result[words->index[i]] |= page[words->index[i]];
}

/* Protect first, read after. A store between the two makes `m` STALE again, so that the next entry merges once more:
 * none is lost. Read first, and a store between the two would be in no merge, and nothing would tell of it. */
void merged_merge(struct merged *m, struct merged_policy l0)
{
    merged_protect(m);
    merged_read(m);
    merged_or(m, l0);
}

static void count_merge(const struct merged *m)
{
    if (m->kind != MERGED_MSR)
        return;
    count(COUNT_BITMAP_MERGES);
    trace(TRACE_MERGE, 0, m->page);
    if (m->cache->told)
        m->cache->told(m);
}

/* Step 7. Only what the caller has claimed is merged. Anything else was fresh when the caller looked (merged_claim());
 * a store since then is dealt with before the next entry. */
bool merged_refresh(struct merged *m, struct merged_policy l0, uint64_t saved)
{
    bool claimed = merged_is_claimed(m);
    if (claimed) {
        ASSERT(m->owner != MERGED_SHARED);
        m->pays.saved += saved;
        m->cache->merge(m, l0);
        m->pays.saved = 0;
        m->l0_page = l0.page;
        __atomic_store_n(&m->l0_generation, l0.generation, __ATOMIC_RELEASE); /* last: others may use it from here on */
        count_merge(m);
    } else if (m->kind == MERGED_MSR) {
        count(COUNT_BITMAP_MERGES_SAVED);
    }
    if (options.bitmap_check && merged_is_fresh(m, l0.generation))
        ASSERT(merged_is_exact(m, l0.page) || !merged_is_fresh(m, l0.generation));
    return claimed;
}

bool merged_waits(struct merged *m)
{
    return options.bitmap == BITMAP_TRACE && merged_is_claimed(m) && merged_pays_to_wait(&m->pays);
}

const uint8_t *merged_l1_page(const struct merged *m)
{
    bool is_live = options.bitmap == BITMAP_ALLOW && m->kind == MERGED_MSR;
    return is_live ? gmem_page(m->cache->gmem, m->page) : m->snapshot;
}

bool merged_is_exact(const struct merged *m, const uint8_t *l0_page)
{
    const uint8_t *l1_page = gmem_page(m->cache->gmem, m->page);
    for (unsigned i = 0; i < PAGE_SIZE; i++) {
        uint8_t l1 = l1_page ? l1_page[i] : 0xff;
        if (m->snapshot[i] != l1 || m->result[i] != (l1 | l0_page[i]))
            return false;
    }
    return true;
}
