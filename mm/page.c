#include "mm/page.h"

#include "kernel/counters.h"
#include "kernel/panic.h"
#include "kernel/percpu.h"
#include "kernel/spinlock.h"
#include "kernel/string.h"

/* The filling of a free page: a pointer read from it is not canonical, a VMCS revision or a paging entry of it is
 * recognised at once. */
#define JUNK_BYTE 0xa5
#define JUNK_WORD 0xa5a5a5a5a5a5a5a5ull

enum page_state { PAGE_USED, PAGE_FREE };

/* Lies in the first bytes of each free page. */
struct free_page {
    struct free_page *next, *previous;
    uint64_t junk; /* still JUNK_WORD when the page is given out: nobody wrote to it meanwhile */
};

static struct {
    struct spinlock lock;
    struct free_page *head; /* the one given out next */
    uint8_t *state;         /* enum page_state of each page */
    uint8_t *base;          /* page 0 */
    uint64_t count, free;
} pool;

static uint64_t index_of(const void *page)
{
    return (uint64_t)((const uint8_t *)page - pool.base) / PAGE_SIZE;
}

static void *page_at(uint64_t index)
{
    return pool.base + index * PAGE_SIZE;
}

static void put_on_list(uint64_t index)
{
    struct free_page *page = page_at(index);

    memset(page, JUNK_BYTE, PAGE_SIZE);
    page->next = pool.head;
    page->previous = NULL;
    if (pool.head)
        pool.head->previous = page;
    pool.head = page;
    pool.state[index] = PAGE_FREE;
    pool.free++;
}

static void take_from_list(uint64_t index)
{
    struct free_page *page = page_at(index);

    ASSERT(page->junk == JUNK_WORD);
    if (page->next)
        page->next->previous = page->previous;
    if (page->previous)
        page->previous->next = page->next;
    else
        pool.head = page->next;
    pool.state[index] = PAGE_USED;
    pool.free--;
}

/* One state byte a page lies at the start of the memory itself. */
void page_init(void *start, void *end)
{
    uint64_t pages = (uint64_t)((uint8_t *)end - (uint8_t *)start) / PAGE_SIZE;
    uint64_t state_pages = ALIGN_UP(pages, PAGE_SIZE) / PAGE_SIZE;

    ASSERT(pages > state_pages);
    memset(&pool, 0, sizeof pool);
    spinlock_init(&pool.lock, LOCK_PAGES);
    pool.state = start;
    pool.base = (uint8_t *)start + state_pages * PAGE_SIZE;
    pool.count = pages - state_pages;
    /* From the top down, so that the lowest is given out first. */
    for (uint64_t i = pool.count; i-- > 0;)
        put_on_list(i);
    count_add(COUNT_PAGES_FREE, pool.free);
}

void *page_alloc(void)
{
    return page_alloc_run(1);
}

/* First of `count` adjoining free pages; pool.count when there are none. */
static uint64_t find_run(unsigned count)
{
    uint64_t length = 0;

    if (count == 1)
        return pool.head ? index_of(pool.head) : pool.count;
    for (uint64_t i = 0; i < pool.count; i++) {
        length = pool.state[i] == PAGE_FREE ? length + 1 : 0;
        if (length == count)
            return i + 1 - count;
    }
    return pool.count;
}

void *page_alloc_run(unsigned count)
{
    uint64_t first;

    ASSERT(count > 0);
    spinlock_lock(&pool.lock);
    first = find_run(count);
    for (unsigned i = 0; first < pool.count && i < count; i++)
        take_from_list(first + i);
    spinlock_unlock(&pool.lock);
    if (first == pool.count)
        return NULL;
    count_subtract(COUNT_PAGES_FREE, count);
    return memset(page_at(first), 0, count * PAGE_SIZE);
}

void page_free(void *page)
{
    uint64_t index = index_of(page);

    ASSERT((uint8_t *)page >= pool.base && index < pool.count);
    ASSERT(((uint64_t)((uint8_t *)page - pool.base) & PAGE_MASK) == 0);
    spinlock_lock(&pool.lock);
    ASSERT(pool.state[index] == PAGE_USED);
    put_on_list(index);
    spinlock_unlock(&pool.lock);
    count_add(COUNT_PAGES_FREE, 1);
}

uint64_t page_count_free(void)
{
    return pool.free;
}
