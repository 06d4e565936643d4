/* The merged bitmaps of one vmcs12, and what vmcs02 has of them: the outside of nested/bitmap/.
 * All 0 at first except the owner. Belongs to the processor whose slot it is in.
 * nested/ calls it; which VMCS must be current is said at each. */
#ifndef NESTED_BITMAP_SLOT_BITMAPS_H
#define NESTED_BITMAP_SLOT_BITMAPS_H

#include "kernel/percpu.h"
#include "nested/bitmap/merged_cache.h"
#include "nested/rules/merge.h"
#include "nested/rules/vmcs12.h"

/* Which pages the CPU has for L2:
 *
 *               a merge is put off                          L2 stored to a bitmap of its own
 *    MERGED ------------------------> WAITS        any --------------------------------------> SUSPENDED
 *       ^                               |                                                          |
 *       '--- L2 accessed an MSR, or ----'              next entry, or an exit that the ones caused |
 *       '--- the next entry merges                                                                 |
 *       '------------------------------------------------------------------------------------------' */
enum hw_bitmaps {
    HW_MERGED,    /* the merged ones, or L0's where L1 has none */
    HW_WAITS,     /* a page of ones for MSRs: their merge waits for L2's first access to one */
    HW_SUSPENDED, /* a page of ones for all three: the processor would obey L2's store to its own bitmap at once */
};

struct slot_bitmaps {
    struct merged_owner *owner;          /* constant: that processor's */
    struct merged *merged[MERGED_KINDS]; /* NULL: not in use */
    uint64_t saved;                      /* entries that needed no merge, ever */
    uint64_t saved_by[MERGED_KINDS];     /* that number when the page was last named or merged */
    uint64_t seen;       /* slot_bitmaps_refresh() has nothing to do while merged_cache_now() is this; 0: never */
    const uint8_t *copy; /* L1's MSR bitmap as it was merged then; NULL: L2 does not run on the merged one */
    enum hw_bitmaps hw;
    bool by_word; /* L1 says when it has written to its MSR bitmap, and nobody else is to look */
    bool written; /* so it has said, since the page was merged last */
};

/* Before that, of an enlightened VMCS: whether L1 says when it writes to its MSR bitmap, and whether it says so now. */
void slot_bitmaps_tell(struct slot_bitmaps *s, bool by_word, bool written);
/* Before an entry: finds or makes the merged pages that `v` names, fresh; one compare when nothing changed. Current:
 * the slot's vmcs02. */
void slot_bitmaps_refresh(struct slot_bitmaps *s, struct merged_cache *cache, const struct vmcs12 *v);
/* True if that would find nothing to do; and its count of merges saved, for so many entries that were not seen. */
static inline bool slot_bitmaps_are_fresh(const struct slot_bitmaps *s, const struct merged_cache *cache)
{
    return s->seen == merged_cache_now(cache) && s->hw != HW_SUSPENDED;
}
static inline void slot_bitmaps_count_saved(struct slot_bitmaps *s, uint64_t entries)
{
    s->saved += entries;
    if (s->merged[MERGED_MSR])
        count_add(COUNT_BITMAP_MERGES_SAVED, entries);
}
/* L1's MSR bitmap as it was merged, by which exits are decided while all are fresh; NULL: they are not. */
static inline const uint8_t *slot_bitmaps_merged_copy(const struct slot_bitmaps *s)
{
    return s->copy;
}
/* A row of vmcs12 changed on which they depend: the next refresh looks at them all. */
static inline void slot_bitmaps_look_again(struct slot_bitmaps *s)
{
    s->seen = 0;
}
/* The addresses go to vmcs02: as `v` has the controls, by merge_io(). Current: the slot's vmcs02. */
void slot_bitmaps_write(const struct slot_bitmaps *s, const struct merged_cache *cache, const struct vmcs12 *v);
/* Before L2 goes on: if it stored to a bitmap page of its own, everything that bitmaps govern exits until the page is
 * merged again, as the processor reads bitmaps at each use. True: vmcs02 has pages of ones now, and the next entry must
 * write it. Current: the slot's vmcs02. */
MUST_CHECK bool slot_bitmaps_suspend(struct slot_bitmaps *s, const struct merged_cache *cache);
/* Ends that, and brings all up to date. `msr`: L2 accesses an MSR, so that also a merge that waited is due. Current:
 * the slot's vmcs02. */
void slot_bitmaps_restore(struct slot_bitmaps *s, struct merged_cache *cache, const struct vmcs12 *v, bool msr);
/* L1's page of the kind as a decision about an exit must see it; `page` is vmcs12's. NULL: no RAM, which reads as
 * ones. */
const uint8_t *slot_bitmaps_l1_page(const struct slot_bitmaps *s, const struct merged_cache *cache,
                                    enum merged_kind kind, gpa_t page);
/* True if vmcs12's bitmaps of the kind are used as merged pages: false when the control is off or memory ran out. */
static inline bool slot_bitmaps_has_msr(const struct slot_bitmaps *s)
{
    return s->merged[MERGED_MSR] != NULL;
}
static inline bool slot_bitmaps_has_io(const struct slot_bitmaps *s)
{
    return s->merged[MERGED_IO_A] && s->merged[MERGED_IO_B];
}
static inline enum hw_bitmaps slot_bitmaps_hw(const struct slot_bitmaps *s)
{
    return s->hw;
}

#ifdef CHECKED
/* True if vmcs02, which is current, has the MSR bitmap that it should have. */
bool slot_bitmaps_are_in(const struct slot_bitmaps *s, const struct merged_cache *cache);
#endif

/* The slot is freed. The merged pages stay in the cache. */
void slot_bitmaps_put(struct slot_bitmaps *s, struct merged_cache *cache);
/* L1 turned to this vmcs12: its bitmaps are the last to be evicted. */
void slot_bitmaps_touch(const struct slot_bitmaps *s, struct merged_cache *cache);
/* `m` is about to go. True when it was named here: the next entry finds another and must write vmcs02. */
MUST_CHECK bool slot_bitmaps_forget(struct slot_bitmaps *s, const struct merged *m);

#endif
