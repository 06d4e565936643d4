#include "mm/ept_watch.h"

#include "kernel/cmdline.h"
#include "kernel/panic.h"
#include "kernel/percpu.h"

static struct watcher **bucket_of(struct ept_watch *watch, gpa_t page)
{
    return &watch->bucket[page / PAGE_SIZE % WATCH_BUCKETS];
}

/* The link that leads to the next watcher of `page` from `link` on; it holds NULL when there is none. */
static struct watcher **find_link(struct watcher **link, gpa_t page)
{
    while (*link && (*link)->page != page)
        link = &(*link)->next;
    return link;
}

static bool has_watcher(struct ept_watch *watch, gpa_t page)
{
    return *find_link(bucket_of(watch, page), page) != NULL;
}

static bool is_bypassed(const struct ept_watch *watch, gpa_t page)
{
    for (const struct ept_bypass *b = watch->bypasses; b; b = b->next)
        if (b->page == page)
            return true;
    return false;
}

static void count_page(struct ept_watch *watch, gpa_t page, bool watched)
{
    uint32_t *count = &watch->in_bucket[page / PAGE_SIZE % WATCH_BUCKETS];

    watch->pages = watched ? watch->pages + 1 : watch->pages - 1;
    __atomic_store_n(count, watched ? *count + 1 : *count - 1, __ATOMIC_SEQ_CST);
}

static void unlink_watcher(struct watcher **link)
{
    struct watcher *w = *link;

    *link = w->next;
    w->next = NULL;
    w->armed = false;
}

static void link_watcher(struct ept_watch *watch, struct watcher *w)
{
    struct watcher **bucket = bucket_of(watch, w->page);

    w->armed = true;
    w->next = *bucket;
    *bucket = w;
}

/* A processor that passes its INVEPT too early may cache again what a table still allows, and would count as one that
 * has forgotten it: the generation moves after the last table. */
int ept_revoke(struct ept_watch *watch, int (*take)(struct ept_watch *watch, void *what), void *what)
{
    bool too_early = options.fault == FAULT_EARLY_GENERATION;
    int taken;

    spinlock_lock(&watch->lock);
    if (too_early)
        (void)ept_next_generation(watch->ept01);
    taken = take(watch, what);
    if (taken > 0 && !too_early)
        (void)ept_next_generation(watch->ept01);
    spinlock_unlock(&watch->lock);
    /* Also when another processor had taken it: its kick may be under way. */
    if (taken >= 0 && watch->synchronize)
        watch->synchronize(watch->ept01);
    return taken;
}

/* The lock is held throughout: a store of another processor that faults meanwhile waits for it in ept_watch_hit and
 * then finds the watcher. */
static int protect_and_link(struct ept_watch *watch, void *what)
{
    struct watcher *w = what;
    int taken = 0;

    if (!has_watcher(watch, w->page)) {
        if (is_bypassed(watch, w->page) || ept_write_protect(watch->ept01, w->page))
            return -1;
        /* After EPT01: an EPT02 fill looks there, so none can bring W back behind the hook's back. */
        if (watch->protect_ept02)
            watch->protect_ept02(watch->context, w->page);
        count_page(watch, w->page, true);
        count(COUNT_PAGES_TRACED);
        taken = 1;
    }
    link_watcher(watch, w);
    return taken;
}

int ept_watch_add(struct ept_watch *watch, gpa_t page, struct watcher *w)
{
    ASSERT(IS_ALIGNED(page, PAGE_SIZE) && !w->armed);
    w->page = page;
    if (ept_revoke(watch, protect_and_link, w) < 0)
        return -1;
    count(COUNT_WATCH_ARMED);
    return 0;
}

static void allow_page(struct ept_watch *watch, gpa_t page)
{
    count_page(watch, page, false);
    count_subtract(COUNT_PAGES_TRACED, 1);
    ept_write_allow(watch->ept01, page);
}

void ept_watch_remove(struct ept_watch *watch, struct watcher *w)
{
    struct watcher **link;

    spinlock_lock(&watch->lock);
    /* Looked at under the lock: a hit on another processor may disarm it. */
    if (w->armed) {
        link = bucket_of(watch, w->page);
        while (*link && *link != w)
            link = &(*link)->next;
        ASSERT(*link);
        unlink_watcher(link);
        if (!has_watcher(watch, w->page))
            allow_page(watch, w->page);
    }
    spinlock_unlock(&watch->lock);
}

bool ept_watch_hit(struct ept_watch *watch, gpa_t gpa)
{
    gpa_t page = ALIGN_DOWN(gpa, PAGE_SIZE);
    struct watcher **link, *w;
    bool watched = false;

    /* Most stores of L0 to L1's memory end here. */
    if (!ept_watch_may_hit(watch, gpa))
        return false;
    spinlock_lock(&watch->lock);
    link = bucket_of(watch, page);
    while ((w = *(link = find_link(link, page))) != NULL) {
        unlink_watcher(link);
        w->stale(w);
        watched = true;
    }
    if (watched)
        allow_page(watch, page);
    spinlock_unlock(&watch->lock);
    return watched;
}

void ept_watch_flags_set(struct ept_watch *watch, gpa_t gpa)
{
    gpa_t page = ALIGN_DOWN(gpa, PAGE_SIZE);
    bool nothing = true;

    if (!ept_watch_may_hit(watch, gpa))
        return;
    spinlock_lock(&watch->lock);
    for (const struct watcher *w = *bucket_of(watch, page); w; w = w->next)
        nothing &= w->page != page || w->flags_are_nothing;
    spinlock_unlock(&watch->lock);
    if (!nothing)
        (void)ept_watch_hit(watch, gpa);
}

/* Listed before the hit: a watcher that comes between is dropped by it, and none comes after. */
void ept_watch_bypass_add(struct ept_watch *watch, gpa_t page, struct ept_bypass *b)
{
    ASSERT(IS_ALIGNED(page, PAGE_SIZE) && !b->listed);
    spinlock_lock(&watch->lock);
    *b = (struct ept_bypass){.page = page, .listed = true, .next = watch->bypasses};
    watch->bypasses = b;
    spinlock_unlock(&watch->lock);
    (void)ept_watch_hit(watch, page);
}

void ept_watch_bypass_remove(struct ept_watch *watch, struct ept_bypass *b)
{
    struct ept_bypass **link = &watch->bypasses;

    if (!b->listed)
        return;
    spinlock_lock(&watch->lock);
    while (*link && *link != b)
        link = &(*link)->next;
    ASSERT(*link);
    *link = b->next;
    b->listed = false;
    spinlock_unlock(&watch->lock);
}

bool ept_watch_is_watched(struct ept_watch *watch, gpa_t gpa)
{
    bool watched;

    spinlock_lock(&watch->lock);
    watched = has_watcher(watch, ALIGN_DOWN(gpa, PAGE_SIZE));
    spinlock_unlock(&watch->lock);
    return watched;
}
