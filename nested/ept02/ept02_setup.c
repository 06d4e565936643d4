/* Making the EPT02s of a VM and of its processors. */
#include "kernel/panic.h"
#include "mm/page.h"
#include "nested/ept02/ept12_trace.h"

int ept12_shared_init(struct ept12_shared *shared, const struct gmem *gmem, struct ept *ept01, struct ept_watch *watch)
{
    uint64_t page_limit = memmap_ram_end(gmem->map) / PAGE_SIZE;
    uint64_t pages = ALIGN_UP(page_limit, PAGE_SIZE * 8) / (PAGE_SIZE * 8);
    uint64_t *writable = page_alloc_run((unsigned)MAX(pages, 1));

    if (!writable)
        return -1;
    *shared = (struct ept12_shared){.gmem = gmem, .ept01 = ept01, .writable = writable, .page_limit = page_limit};
    shared->writable_pages = MAX(pages, 1);
    spinlock_init(&shared->lock, LOCK_EPT12_LIST);
    watch->protect_ept02 = ept12_protect;
    watch->context = shared;
    return 0;
}

void ept12_shared_release(struct ept12_shared *shared, struct ept_watch *watch)
{
    ASSERT(!shared->list);
    watch->protect_ept02 = NULL;
    for (uint64_t i = 0; i < shared->writable_pages; i++)
        page_free((uint8_t *)shared->writable + i * PAGE_SIZE);
    shared->writable = NULL;
}

void ept12_free_reserve(struct ept12 *e)
{
    while (e->reserved > 0)
        page_free(e->reserve[--e->reserved]);
}

int ept12_init(struct ept12 *ept12, struct ept12_shared *shared, const struct vmx_caps *offered, unsigned page_limit)
{
    *ept12 = (struct ept12){.shared = shared, .rules = ept12_rules_from(offered), .pages_used = EPT12_RESERVE};
    ept12->page_limit = MAX(page_limit, EPT12_RESERVE);
    spinlock_init(&ept12->lock, LOCK_EPT12);
    for (; ept12->reserved < EPT12_RESERVE; ept12->reserved++) {
        ept12->reserve[ept12->reserved] = page_alloc();
        if (!ept12->reserve[ept12->reserved]) {
            ept12_free_reserve(ept12);
            return -1;
        }
    }
    if (shared->trace && ept12_trace_init(ept12)) {
        ept12_free_reserve(ept12);
        return -1;
    }
    spinlock_lock(&shared->lock);
    ept12->next = shared->list;
    shared->list = ept12;
    spinlock_unlock(&shared->lock);
    return 0;
}
