/* Each of these is a mistake that a hypervisor could make, or has made, and that a test must find: L0's bits
 * forgotten, the page merged once and never again, the page read before it is protected. A test that passes with one
 * of them proves nothing, which is why they are in the image and chosen by an option. */
#include "nested/bitmap/merged_wrong.h"

#include "kernel/cmdline.h"
#include "kernel/msr.h"
#include "kernel/string.h"
#include "nested/bitmap/merged_cache.h"
#include "vmx/msr_bitmap.h"

/* `bitmap=allow`: everything exits except accesses of the few MSRs that KVM looks at. Nothing is traced. */
static void merge_allow(struct merged *m, struct merged_policy l0)
{
    static const uint32_t allowed[] = {IA32_FS_BASE,   IA32_GS_BASE,  IA32_KERNEL_GS_BASE,
                                       IA32_SPEC_CTRL, IA32_PRED_CMD, IA32_FLUSH_CMD};
    /* L1's page as it is at this entry: this policy keeps no snapshot, and so needs no watch. */
    const uint8_t *l1_page = gmem_page(m->cache->gmem, m->page);
    if (m->kind != MERGED_MSR) {
        merged_merge(m, l0);
        return;
    }
    if (merged_state(m) == MERGED_EMPTY)
        memset(m->result, 0xff, PAGE_SIZE);
    merged_set_state(m, MERGED_UNTRACED);
    for (unsigned i = 0; l1_page && i < ARRAY_SIZE(allowed); i++)
        for (enum msr_access access = MSR_READ; access <= MSR_WRITE; access++) {
            if (msr_bitmap_test(l0.page, allowed[i], access) || msr_bitmap_test(l1_page, allowed[i], access))
                msr_bitmap_set(m->result, allowed[i], access);
            else
                msr_bitmap_clear(m->result, allowed[i], access);
        }
}

/* `fault=drop-l0-bits` */
static void merge_without_l0(struct merged *m, struct merged_policy l0)
{
    merged_merge(m, l0);
    memcpy(m->result, m->snapshot, PAGE_SIZE);
}

/* `fault=skip-remerge`: the first merge alone reads the page. */
static void merge_once(struct merged *m, struct merged_policy l0)
{
    bool first = merged_state(m) == MERGED_EMPTY;
    merged_protect(m);
    if (first)
        merged_read(m);
    merged_or(m, l0);
}

/* `fault=read-first` */
static void merge_read_first(struct merged *m, struct merged_policy l0)
{
    merged_read(m);
    merged_protect(m);
    merged_or(m, l0);
}

/* Asked once, at the start: the right way pays nothing for the wrong ones. */
merged_merge_fn merged_wrong_choose(void)
{
    if (options.bitmap == BITMAP_ALLOW)
        return merge_allow;
    switch (options.fault) {
    case FAULT_DROP_L0_BITS:
        return merge_without_l0;
    case FAULT_SKIP_REMERGE:
        return merge_once;
    case FAULT_READ_FIRST:
        return merge_read_first;
    default:
        return merged_merge;
    }
}
