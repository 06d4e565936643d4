#include "nested/bitmap/slot_bitmaps.h"

#include "kernel/cmdline.h"
#include "kernel/layout.h"
#include "kernel/percpu.h"
#include "vmx/vmcs.h"

static void name_no_longer(struct slot_bitmaps *s, struct merged_cache *cache, enum merged_kind kind)
{
    if (s->merged[kind])
        merged_cache_put(cache, s->merged[kind], s->owner, s->saved - s->saved_by[kind]);
    s->merged[kind] = NULL;
}

/* With the policies that are there to be measured, and compared, L1's word does not count. */
void slot_bitmaps_tell(struct slot_bitmaps *s, bool by_word, bool written)
{
    by_word &= options.bitmap == BITMAP_TRACE;
    if (by_word == s->by_word && !(by_word && written))
        return;
    s->by_word = by_word;
    s->written = true;
    s->seen = 0;
}

/* True if L1's word is that the page is as it was when it was merged, whatever has become of it: it may have been
 * stored to, or nobody watches it. L0's half must be the same still. */
static bool stands_by_word(const struct slot_bitmaps *s, const struct merged_cache *cache, const struct merged *m)
{
    return s->by_word && !s->written && m->kind == MERGED_MSR &&
           m->l0_generation == merged_cache_policy(cache, MERGED_MSR).generation;
}

/* Step 2: finds or makes the merged bitmap of the page that vmcs12 points to; another one if the one in use is stale
 * and other processors name it, too. True: vmcs02 must be told where the merged page is now. */
static bool follow_pointer(struct slot_bitmaps *s, struct merged_cache *cache, enum merged_kind kind, bool used,
                           gpa_t page)
{
    struct merged *m = s->merged[kind];
    if (m && used && m->page == page && (stands_by_word(s, cache, m) || merged_cache_keep(cache, m, s->owner)))
        return false;
    name_no_longer(s, cache, kind);
    if (used)
        s->merged[kind] = merged_cache_get(cache, kind, page, s->owner);
    s->saved_by[kind] = s->saved;
    return s->merged[kind] != m;
}

/* The MSR bitmap for vmcs02: the merged page, or one of ones, with which every access exits. */
static hpa_t msr_page(const struct slot_bitmaps *s, const struct merged_cache *cache)
{
    const struct merged *m = s->merged[MERGED_MSR];
    return va_to_hpa(m && s->hw == HW_MERGED ? m->result : cache->ones);
}

/* Step 5 while vmcs12 says the same. Without a merged page all exits. Current: vmcs02. */
static void set_hw(struct slot_bitmaps *s, const struct merged_cache *cache, enum hw_bitmaps hw, bool moved)
{
    if (hw == s->hw && !moved)
        return;
    s->hw = hw;
    vmcs_write(MSR_BITMAP, msr_page(s, cache));
}

/* With both levels' bitmaps the merged page; without L1's, L0's own; if every access exits, a page of ones. */
static hpa_t io_page(const struct slot_bitmaps *s, const struct merged_cache *cache, enum merged_kind kind,
                     enum io_mode io)
{
    if (io == IO_MERGED_BITMAPS)
        return va_to_hpa(s->merged[kind]->result);
    return va_to_hpa(io == IO_L0_BITMAPS ? cache->l0[kind].page : cache->ones);
}

/* The same for the two of I/O. Current: vmcs02. */
static void write_io(const struct slot_bitmaps *s, const struct merged_cache *cache, const struct vmcs12 *v)
{
    enum io_mode io = merge_io(v->PROC_CONTROLS, slot_bitmaps_has_io(s));
    vmcs_write(IO_BITMAP_A, io_page(s, cache, MERGED_IO_A, io));
    vmcs_write(IO_BITMAP_B, io_page(s, cache, MERGED_IO_B, io));
}

#ifdef CHECKED
bool slot_bitmaps_are_in(const struct slot_bitmaps *s, const struct merged_cache *cache)
{
    return !s->merged[MERGED_MSR] || vmcs_read(MSR_BITMAP) == msr_page(s, cache);
}
#endif

/* True when it is good until somebody stores, or until L1 says so. */
static bool refresh(struct slot_bitmaps *s, const struct merged_cache *cache, enum merged_kind kind)
{
    struct merged *m = s->merged[kind];
    bool by_word = kind == MERGED_MSR && s->by_word;
    if (!m)
        return true;
    if (merged_is_claimed(m))
        m->by_word = by_word;
    if (merged_refresh(m, merged_cache_policy(cache, kind), s->saved - s->saved_by[kind]))
        s->saved_by[kind] = s->saved + 1; /* this entry is none */
    return by_word || merged_state(m) == MERGED_FRESH;
}

/* `now` was read before: a store meanwhile makes the next entry look again. `wanted`: L2 accesses an MSR now. */
static NOINLINE void slot_bitmaps_refresh_anew(struct slot_bitmaps *s, struct merged_cache *cache,
                                               const struct vmcs12 *v, uint64_t now, bool wanted)
{
    bool use_msr = (v->PROC_CONTROLS & PROC_USE_MSR_BITMAPS) && options.bitmap != BITMAP_EXIT;
    bool use_io = (v->PROC_CONTROLS & PROC_USE_IO_BITMAPS) != 0;
    bool moved = follow_pointer(s, cache, MERGED_MSR, use_msr, v->MSR_BITMAP);
    bool io_moved = follow_pointer(s, cache, MERGED_IO_A, use_io, v->IO_BITMAP_A);
    io_moved |= follow_pointer(s, cache, MERGED_IO_B, use_io, v->IO_BITMAP_B);
    struct merged *msr = s->merged[MERGED_MSR];
    if (wanted && msr && merged_is_claimed(msr)) /* it may be another than before */
        merged_wanted(msr);
    /* A merge may wait: until L2 accesses an MSR the page of ones serves as well. I/O bitmaps are rare and are merged
     * at once. */
    bool waits = msr && merged_waits(msr);
    bool settled = use_msr ? msr && (waits || refresh(s, cache, MERGED_MSR)) : true;
    set_hw(s, cache, waits ? HW_WAITS : HW_MERGED, moved);
    settled &= refresh(s, cache, MERGED_IO_A);
    settled &= refresh(s, cache, MERGED_IO_B);
    if (io_moved)
        write_io(s, cache, v);
    s->written = false;
    s->saved++;
    s->saved_by[MERGED_MSR] += waits;
    /* The next entry does all this again only if something has changed in the cache since `now`. */
    s->seen = settled && !options.bitmap_check ? now : 0;
    s->copy = msr && !waits ? merged_copy(msr) : NULL;
}

void slot_bitmaps_refresh(struct slot_bitmaps *s, struct merged_cache *cache, const struct vmcs12 *v)
{
    uint64_t now = merged_cache_now(cache);
    if (__builtin_expect(s->seen != now, 0)) {
        slot_bitmaps_refresh_anew(s, cache, v, now, false);
        return;
    }
    slot_bitmaps_count_saved(s, 1);
}

void slot_bitmaps_write(const struct slot_bitmaps *s, const struct merged_cache *cache, const struct vmcs12 *v)
{
    write_io(s, cache, v);
    if (s->merged[MERGED_MSR])
        vmcs_write(MSR_BITMAP, msr_page(s, cache));
}

/* True if somebody stored to a page that the CPU uses merged; the page is traced from now on, whatever it costs. */
static bool is_stale_in_use(const struct slot_bitmaps *s, enum merged_kind kind)
{
    struct merged *m = s->merged[kind];
    if (!m || merged_state(m) != MERGED_STALE || (kind == MERGED_MSR && s->hw == HW_WAITS))
        return false;
    __atomic_store_n(&m->pays.keep_traced, true, __ATOMIC_RELAXED); /* others may name it, and say the same */
    return true;
}

bool slot_bitmaps_suspend(struct slot_bitmaps *s, const struct merged_cache *cache)
{
    bool stale = false;
    if (s->seen == merged_cache_now(cache) || s->hw == HW_SUSPENDED)
        return false; /* all are fresh, or exit already */
    for (enum merged_kind kind = MERGED_MSR; kind < MERGED_KINDS; kind++)
        stale |= is_stale_in_use(s, kind);
    if (!stale)
        return false;
    /* One change of a pointer instead of a merge: whether L2 accesses any MSR or port before its next entry is not
     * known yet. */
    hpa_t ones = va_to_hpa(cache->ones);
    if (s->merged[MERGED_MSR])
        vmcs_write(MSR_BITMAP, ones);
    vmcs_write(IO_BITMAP_A, ones);
    vmcs_write(IO_BITMAP_B, ones);
    s->hw = HW_SUSPENDED;
    s->seen = 0;
    s->copy = NULL;
    return true;
}

void slot_bitmaps_restore(struct slot_bitmaps *s, struct merged_cache *cache, const struct vmcs12 *v, bool msr)
{
    /* L2 does access MSRs: for some entries to come the merge is not put off. */
    if (msr && s->merged[MERGED_MSR])
        slot_bitmaps_refresh_anew(s, cache, v, merged_cache_now(cache), true);
    else
        slot_bitmaps_refresh(s, cache, v);
    slot_bitmaps_write(s, cache, v);
}

const uint8_t *slot_bitmaps_l1_page(const struct slot_bitmaps *s, const struct merged_cache *cache,
                                    enum merged_kind kind, gpa_t page)
{
    return s->merged[kind] ? merged_l1_page(s->merged[kind]) : gmem_page(cache->gmem, page);
}

void slot_bitmaps_put(struct slot_bitmaps *s, struct merged_cache *cache)
{
    for (enum merged_kind kind = MERGED_MSR; kind < MERGED_KINDS; kind++)
        name_no_longer(s, cache, kind);
}

void slot_bitmaps_touch(const struct slot_bitmaps *s, struct merged_cache *cache)
{
    for (enum merged_kind kind = MERGED_MSR; kind < MERGED_KINDS; kind++)
        if (s->merged[kind])
            merged_cache_touch(cache, s->merged[kind]);
}

bool slot_bitmaps_forget(struct slot_bitmaps *s, const struct merged *m)
{
    if (s->merged[m->kind] != m)
        return false;
    s->merged[m->kind] = NULL;
    s->seen = 0;
    s->copy = NULL;
    return true;
}
