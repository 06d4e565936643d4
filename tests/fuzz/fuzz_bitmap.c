/* sources: nested/bitmap/merged.c nested/bitmap/merged_cache.c nested/bitmap/merged_pays.c
   nested/bitmap/merged_words.c vmx/msr_bitmap.c */
/* A cache of merged bitmaps of two processors: pointers come and go, L1 stores at any moment, L0's policy changes, L2
 * enters and accesses MSRs, and a page on which it runs is not written. Write tracing is a fake that any store may
 * meet, also between the protection of a page and its reading. */
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "kernel/cmdline.h"
#include "kernel/percpu.h"
#include "mm/page.h"
#include "nested/bitmap/merged_cache.h"
#include "nested/bitmap/merged_dump.h"

#define PAGES 5u
#define SLOTS 6u /* of each processor */
#define ROOM 8u
#define NO_RAM (PAGES * PAGE_SIZE) /* the page behind L1's */

struct options options;

static uint8_t memory[PAGES * PAGE_SIZE] __attribute__((aligned(8)));
static struct watcher *watchers;
static struct merged_cache cache;
static struct merged entries[ROOM];
static struct processor {
    struct merged_owner owner;
    struct merged *slot[SLOTS];
    struct merged *runs; /* L2 does, on this one; NULL: it does not */
    uint8_t seen[PAGE_SIZE];
} processor[2];
static uint8_t l0_page[PAGE_SIZE] __attribute__((aligned(8)));
static uint64_t generation;
static unsigned allocated;
/* Another processor stores just before the page is protected, and between protection and reading. */
static bool store_at_protection, store_at_read;

void *page_alloc(void)
{
    allocated++;
    return calloc(1, PAGE_SIZE);
}

void page_free(void *page)
{
    allocated--;
    free(page);
}

void merged_dump(const struct merged *m)
{
    (void)m;
}

static void store(gpa_t gpa, uint8_t value)
{
    for (struct watcher **link = &watchers; *link;) {
        struct watcher *w = *link;
        if (w->page != ALIGN_DOWN(gpa, PAGE_SIZE)) {
            link = &w->next;
            continue;
        }
        *link = w->next;
        w->armed = false;
        w->stale(w);
    }
    memory[gpa] = value;
}

int ept_watch_add(struct ept_watch *watch, gpa_t page, struct watcher *w)
{
    (void)watch;
    FUZZ_CHECK(!w->armed);
    if (page >= NO_RAM)
        return -1;
    if (store_at_protection)
        store(page + 78, (uint8_t)(memory[page + 78] + 1));
    store_at_protection = false;
    w->page = page;
    w->armed = true;
    w->next = watchers;
    watchers = w;
    return 0;
}

void ept_watch_remove(struct ept_watch *watch, struct watcher *w)
{
    (void)watch;
    for (struct watcher **link = &watchers; *link; link = &(*link)->next)
        if (*link == w) {
            *link = w->next;
            break;
        }
    w->armed = false;
}

bool gmem_search_ram(const struct gmem *gmem, gpa_t gpa)
{
    (void)gmem;
    return gpa < NO_RAM;
}

const void *gmem_page(const struct gmem *gmem, gpa_t gpa)
{
    return gmem_search_ram(gmem, gpa) ? memory + gpa : NULL;
}

bool gmem_read(const struct gmem *gmem, gpa_t gpa, void *buffer, uint64_t len)
{
    bool ram = gmem_search_ram(gmem, gpa);
    if (ram && store_at_read)
        store(gpa + 77, (uint8_t)(memory[gpa + 77] + 1));
    store_at_read = false;
    if (ram)
        memcpy(buffer, memory + gpa, len);
    else
        memset(buffer, 0xff, len);
    return ram;
}

/* No virtual processor is told: there is none. */
void straight_disturb(struct cpu *cpu)
{
    (void)cpu;
}

static void forget(void *context, struct merged *m)
{
    struct processor *p = context;
    for (unsigned i = 0; i < SLOTS; i++)
        if (p->slot[i] == m)
            p->slot[i] = NULL;
}

static void check_exact(const struct merged *m)
{
    for (unsigned i = 0; i < PAGE_SIZE; i++) {
        uint8_t l1 = m->page < NO_RAM ? memory[m->page + i] : 0xff;
        FUZZ_CHECK(m->snapshot[i] == l1 && m->result[i] == (l1 | l0_page[i]));
    }
}

/* The bitmap of an L2 that enters, or accesses an MSR, now: ones, so that all exits, or exact (true). */
static bool use(struct merged *m, bool access)
{
    if (access)
        merged_wanted(m);
    if (merged_waits(m)) {
        FUZZ_CHECK(!access);
        return false;
    }
    (void)merged_refresh(m, (struct merged_policy){l0_page, generation}, 0);
    check_exact(m);
    FUZZ_CHECK(!merged_is_fresh(m, generation) || m->watcher.armed || m->page >= NO_RAM);
    return true;
}

static void check_fresh_ones(void)
{
    for (unsigned i = 0; i < ROOM; i++)
        if (entries[i].snapshot && merged_is_fresh(&entries[i], generation))
            check_exact(&entries[i]);
}

/* L2 leaves: nobody wrote to what it ran on. */
static void leave(struct processor *p)
{
    FUZZ_CHECK(!p->runs || !memcmp(p->seen, p->runs->result, PAGE_SIZE));
    p->runs = NULL;
}

static void drop(struct processor *p, struct merged **m)
{
    if (*m)
        merged_cache_put(&cache, *m, &p->owner, 0);
    *m = NULL;
}

/* nested/bitmap/slot_bitmaps.c:follow_pointer, and what comes of it. */
static void enter(struct processor *p, struct merged **m, bool access)
{
    enum merged_kind kind = (*m)->kind;
    gpa_t page = (*m)->page;
    if (!merged_cache_keep(&cache, *m, &p->owner)) {
        drop(p, m);
        *m = merged_cache_get(&cache, kind, page, &p->owner);
    }
    if (!*m || !use(*m, access))
        return;
    p->runs = *m;
    memcpy(p->seen, p->runs->result, PAGE_SIZE);
}

static void step(struct fuzz_input *in)
{
    uint8_t what = fuzz_take_8(in), where = fuzz_take_8(in);
    struct processor *p = &processor[what >> 4 & 1];
    struct merged **m = &p->slot[where % SLOTS];
    leave(p);
    switch (what % 8) {
    case 0:
        if (!*m)
            *m = merged_cache_get(&cache, where & 0x80 ? MERGED_IO_A : MERGED_MSR,
                                  where / SLOTS % (PAGES + 1) * PAGE_SIZE, &p->owner);
        break;
    case 1:
        drop(p, m);
        break;
    case 2:
        merged_cache_release(&cache, &p->owner);
        break;
    case 3:
        store((where | fuzz_take_8(in) << 8) % sizeof memory, fuzz_take_8(in));
        break;
    case 4:
        *(where & 1 ? &store_at_read : &store_at_protection) = true;
        break;
    case 5:
        l0_page[where * 16] ^= fuzz_take_8(in);
        generation++;
        break;
    default:
        if (*m)
            enter(p, m, what & 8);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct gmem gmem;
    struct fuzz_input in = {data, size};

    memset(memory, 0, sizeof memory);
    memset(l0_page, 0, sizeof l0_page);
    generation = 1;
    store_at_protection = store_at_read = false;
    memset(processor, 0, sizeof processor);
    memset(entries, 0, sizeof entries);
    cache = (struct merged_cache){.gmem = &gmem, .merge = merged_merge, .evict = forget};
    for (unsigned kind = 0; kind < MERGED_KINDS; kind++)
        cache.l0[kind] = (struct merged_l0){l0_page, &generation};
    processor[0].owner.context = &processor[0];
    processor[1].owner.context = &processor[1];
    merged_cache_add(&cache, entries, 1 + fuzz_take_8(&in) % ROOM);
    while (in.size) {
        step(&in);
        check_fresh_ones();
    }
    for (struct processor *p = processor; p < processor + 2; p++) {
        leave(p);
        for (unsigned i = 0; i < SLOTS; i++)
            drop(p, &p->slot[i]);
    }
    merged_cache_release(&cache, &processor[0].owner);
    merged_cache_release(&cache, &processor[1].owner);
    FUZZ_CHECK(!watchers && !allocated);
    return 0;
}
