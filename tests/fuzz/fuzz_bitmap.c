/* sources: nested/bitmap/merged.c nested/bitmap/merged_cache.c nested/bitmap/merged_pays.c
   nested/bitmap/merged_words.c vmx/msr_bitmap.c */
/* A cache of merged bitmaps: pointers come and go, L1 stores at any moment, L0's policy changes, L2 enters and accesses
 * MSRs. Write tracing is a fake that any store may meet, also between the protection of a page and its reading. */
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "kernel/cmdline.h"
#include "kernel/percpu.h"
#include "mm/page.h"
#include "nested/bitmap/merged_cache.h"
#include "nested/bitmap/merged_dump.h"

#define PAGES 5u
#define SLOTS 6u
#define NO_RAM (PAGES * PAGE_SIZE) /* the page behind L1's */

struct options options;

static uint8_t memory[PAGES * PAGE_SIZE] __attribute__((aligned(8)));
static struct watcher *watchers;
static struct merged_cache cache;
static struct merged *slot[SLOTS];
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

static void forget(void *context, struct merged *m)
{
    (void)context;
    for (unsigned i = 0; i < SLOTS; i++)
        if (slot[i] == m)
            slot[i] = NULL;
}

static void check_exact(const struct merged *m)
{
    for (unsigned i = 0; i < PAGE_SIZE; i++) {
        uint8_t l1 = m->page < NO_RAM ? memory[m->page + i] : 0xff;
        FUZZ_CHECK(m->snapshot[i] == l1 && m->result[i] == (l1 | l0_page[i]));
    }
}

/* What an L2 runs on that enters, or accesses an MSR, now: nothing, so that all exits, or what is exact. */
static void use(struct merged *m, bool access)
{
    if (access)
        merged_wanted(m);
    if (merged_waits(m, (struct merged_policy){l0_page, generation})) {
        FUZZ_CHECK(!access);
        return;
    }
    merged_refresh(m, (struct merged_policy){l0_page, generation});
    check_exact(m);
    FUZZ_CHECK(!merged_is_fresh(m, generation) || m->watcher.armed || m->page >= NO_RAM);
}

static void check_fresh_ones(void)
{
    for (unsigned i = 0; i < MERGED_MAX; i++)
        if (cache.entry[i].in_use && merged_is_fresh(&cache.entry[i], generation))
            check_exact(&cache.entry[i]);
}

static void step(struct fuzz_input *in)
{
    uint8_t what = fuzz_take_8(in), where = fuzz_take_8(in);
    struct merged **m = &slot[where % SLOTS];
    switch (what % 8) {
    case 0:
        if (!*m)
            *m = merged_cache_get(&cache, where & 0x80 ? MERGED_IO_A : MERGED_MSR,
                                  where / SLOTS % (PAGES + 1) * PAGE_SIZE);
        break;
    case 1:
        if (*m)
            merged_cache_put(&cache, *m, m);
        *m = NULL;
        break;
    case 2:
        merged_cache_release_user(&cache, m);
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
            use(*m, what & 8);
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
    cache =
        (struct merged_cache){.gmem = &gmem, .merge = merged_merge, .evict = forget, .bound = 1 + fuzz_take_8(&in) % 8};
    while (in.size) {
        step(&in);
        check_fresh_ones();
    }
    for (unsigned i = 0; i < SLOTS; i++) {
        if (slot[i])
            merged_cache_put(&cache, slot[i], &slot[i]);
        slot[i] = NULL;
        merged_cache_release_user(&cache, &slot[i]);
    }
    FUZZ_CHECK(!watchers && !allocated);
    return 0;
}
