/* Write tracing of L1's pages: who watches a page learns of the first store to it, by whomever.
 * A watched page has no W in EPT01 and in no EPT02 leaf. The first store drops the watch: every watcher's stale()
 * runs, W comes back in EPT01, and the store repeats itself. Nothing is emulated.
 * Callers: nested/ caches (add, remove), vmx/ EPT-violation handler and mm/gmem (hit). */
#ifndef MM_EPT_WATCH_H
#define MM_EPT_WATCH_H

#include "kernel/base.h"
#include "kernel/spinlock.h"
#include "mm/ept.h"

struct watcher {
    gpa_t page; /* set by ept_watch_add */
    bool armed; /* true between ept_watch_add and the hit or ept_watch_remove; another processor may hit at any time */
    /* The page was, or is about to be, stored to. Runs under the watch lock, w is disarmed already: no call of this
     * module and no gmem_write in it. */
    void (*stale)(struct watcher *w);
    bool flags_are_nothing; /* A and D flags that Nestor sets in the page, as a page walker, are no stores to it */
    struct watcher *next;   /* the list of one bucket */
};

/* A page that the CPU writes by its physical address, past all EPT, while a VMCS names it: nobody can watch it. */
struct ept_bypass {
    gpa_t page;
    bool listed;
    struct ept_bypass *next;
};

#define WATCH_BUCKETS 256

struct ept_watch {
    struct ept *ept01;
    struct spinlock lock; /* LOCK_WATCH */
    struct watcher *bucket[WATCH_BUCKETS];
    uint64_t pages;                    /* watched pages now ... */
    uint32_t in_bucket[WATCH_BUCKETS]; /* ... by bucket; read without the lock */
    struct ept_bypass *bypasses;       /* a page may be in it several times */
    /* Takes W from every EPT02 leaf that maps the page; nested/ept02/ept02 fills the slot at start. */
    void (*protect_ept02)(void *context, gpa_t page);
    void *context;
    /* Makes the other processors pass an INVEPT; vmx/kick fills the slot when there are several. No lock is held. */
    void (*synchronize)(struct ept *ept01);
};

/* The one way to take a right away that processors may have cached. take(context, what) takes it from the tables, from
 * EPT01 first and from all EPT02s then; it runs under the watch lock and says 1 when something went, 0 when there was
 * nothing, -1 on an error. Then, and not before, the generation moves, and the other processors pass an INVEPT. On
 * return none of them can use the right; the caller's own INVEPT comes before its next entry. What take() said. No lock
 * is held by the caller. */
int ept_revoke(struct ept_watch *watch, int (*take)(struct ept_watch *watch, void *what), void *what);
/* Arms `w` for the page at `page` (aligned RAM of L1). On return no processor can store to the page without a hit, as
 * ept_revoke() says. 0, or -1 when it cannot be traced. */
MUST_CHECK int ept_watch_add(struct ept_watch *watch, gpa_t page, struct watcher *w);
/* Disarms; the last watcher of a page gives W back and the large page is joined. Nothing if not armed. */
void ept_watch_remove(struct ept_watch *watch, struct watcher *w);
/* False: nobody watches the page. Behind a fence: who watches it from then on sees what was stored before. */
static inline bool ept_watch_may_hit(const struct ept_watch *watch, gpa_t gpa)
{
    return __atomic_load_n(&watch->in_bucket[gpa / PAGE_SIZE % WATCH_BUCKETS], __ATOMIC_SEQ_CST) != 0;
}
/* A store to gpa1 is about to be repeated, or happened (gmem): drops all watches of that page. True when the page was
 * watched. False also when another processor's hit came first: the store can be repeated then, too. */
bool ept_watch_hit(struct ept_watch *watch, gpa_t gpa);
/* The same after flags A and D of an EPT12 entry were set there: nothing, if that is nothing to all who watch the
 * page. */
void ept_watch_flags_set(struct ept_watch *watch, gpa_t gpa);
/* The CPU will write the page past EPT: whoever watches it is told of a store, and nobody can until the removal. */
void ept_watch_bypass_add(struct ept_watch *watch, gpa_t page, struct ept_bypass *b);
/* Nothing if not listed. */
void ept_watch_bypass_remove(struct ept_watch *watch, struct ept_bypass *b);
/* True if the page is watched now (cheap; for EPT02 fills). */
bool ept_watch_is_watched(struct ept_watch *watch, gpa_t gpa);

#endif
