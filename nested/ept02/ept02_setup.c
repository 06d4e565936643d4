/* Making the EPT02s of a VM and of its processors. */
#include "kernel/panic.h"
#include "mm/page.h"
#include "nested/ept02/ept02_tree.h"
#include "nested/ept02/ept12_trace.h"

static uint64_t pages_of_bits(uint64_t bits)
{
    return ALIGN_UP(MAX(bits, 1), PAGE_SIZE * 8) / (PAGE_SIZE * 8);
}

int ept02_shared_init(struct ept02_shared *shared, const struct gmem *gmem, struct ept *ept01, struct ept_watch *watch)
{
    /* ept02_protect() looks at nothing else for the pages that no EPT02 maps writable. */
    uint64_t page_limit = memmap_ram_end(gmem->map) / PAGE_SIZE;
    uint64_t pages = pages_of_bits(page_limit), large = pages_of_bits(page_limit / (LARGE_2M / PAGE_SIZE) + 1);
    uint64_t *writable = page_alloc_run((unsigned)(pages + large));

    if (!writable)
        return -1;
    *shared = (struct ept02_shared){.gmem = gmem,
                                    .ept01 = ept01,
                                    .writable = writable,
                                    .writable_large = writable + pages * (PAGE_SIZE / sizeof(*writable)),
                                    .writable_pages = pages + large,
                                    .page_limit = page_limit};
    spinlock_init(&shared->lock, LOCK_EPT12_LIST);
    watch->protect_ept02 = ept02_protect;
    watch->context = shared;
    return 0;
}

/* All processors have left: nobody can be protecting a page meanwhile. */
void ept02_shared_release(struct ept02_shared *shared, struct ept_watch *watch)
{
    ASSERT(!shared->list);
    watch->protect_ept02 = NULL;
    for (uint64_t i = 0; i < shared->writable_pages; i++)
        page_free((uint8_t *)shared->writable + i * PAGE_SIZE);
    shared->writable = NULL;
}

void ept02_free_kept(struct ept02s *e)
{
    e->pages_used -= e->clean;
    while (e->clean > 0)
        page_free(e->kept[--e->clean]);
}

/* The reserve is allocated and the list joined last, so that a failure leaves nothing that another processor could
 * find. */
int ept02_init(struct ept02s *ept02s, struct ept02_shared *shared, const struct vmx_caps *offered, unsigned page_limit)
{
    *ept02s = (struct ept02s){.shared = shared,
                              .rules = {ept12_rules_from(offered, 0), ept12_rules_from(offered, EPTP12_MODE_BASED)},
                              .pages_used = EPT02_RESERVE};
    ept02s->page_limit = MAX(page_limit, EPT02_RESERVE);
    spinlock_init(&ept02s->lock, LOCK_EPT12);
    /* The reserve is one path of tables: with it at least one page can always be mapped, however many pages others
     * took. */
    for (; ept02s->clean < EPT02_RESERVE; ept02s->clean++) {
        ept02s->kept[ept02s->clean] = page_alloc();
        if (!ept02s->kept[ept02s->clean]) {
            ept02_free_kept(ept02s);
            return -1;
        }
    }
    if (shared->trace && ept12_trace_init(ept02s)) {
        ept02_free_kept(ept02s);
        return -1;
    }
    spinlock_lock(&shared->lock);
    ept02s->next = shared->list;
    shared->list = ept02s;
    spinlock_unlock(&shared->lock);
    return 0;
}

void ept02_release(struct ept02s *ept02s)
{
    struct ept02s **link = &ept02s->shared->list;

    spinlock_lock(&ept02s->shared->lock);
    /* Out of the list first: from then on no other processor protects pages in it. */
    while (*link && *link != ept02s)
        link = &(*link)->next;
    ASSERT(*link);
    *link = ept02s->next;
    spinlock_unlock(&ept02s->shared->lock);
    for (unsigned i = 0; i < EPT02_ROOTS; i++)
        if (ept02s->root[i].table)
            ept02_free(ept02s, &ept02s->root[i]);
    ept12_trace_release(ept02s);
    ept02_free_kept(ept02s);
    /* Every page that was taken has come back. */
    ASSERT(ept02s->pages_used == 0);
}
