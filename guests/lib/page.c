#include "guests/lib/page.h"

#include "guests/lib/console.h"
#include "guests/lib/mem.h"
#include "guests/lib/multiboot.h"

#define JUNK 0xa5
#define STATUS_NO_MEMORY 3

extern uint8_t image_end[];

static uint64_t next;
static uint64_t end;

/* The part of a region above the image and above every module. */
static uint64_t usable_start(const struct region *region)
{
    const struct module *modules;
    unsigned n = multiboot_modules(&modules);
    uint64_t start = MAX(region->base, (uint64_t)image_end);

    for (unsigned i = 0; i < n; i++)
        if (modules[i].end <= region->base + region->size)
            start = MAX(start, modules[i].end);
    return ALIGN_UP(start, PAGE_SIZE);
}

void page_init(void)
{
    const struct region *regions;
    unsigned n = multiboot_regions(&regions);

    for (unsigned i = 0; i < n; i++) {
        uint64_t start = usable_start(&regions[i]);
        uint64_t stop = MIN(regions[i].base + regions[i].size, 4 * GIB);
        if (!regions[i].usable || stop <= start || stop - start <= end - next)
            continue;
        next = start;
        end = ALIGN_DOWN(stop, PAGE_SIZE);
    }
}

void *page_alloc_run(size_t pages, uint64_t alignment)
{
    uint64_t start = ALIGN_UP(next, alignment);

    if (start + pages * PAGE_SIZE > end) {
        print("Bail out! out of memory for %lu pages\n", pages);
        guest_exit(STATUS_NO_MEMORY);
    }
    next = start + pages * PAGE_SIZE;
    return memset((void *)start, 0, pages * PAGE_SIZE);
}

void *page_alloc(void)
{
    return page_alloc_run(1, PAGE_SIZE);
}

uint64_t page_mark(void)
{
    return next;
}

void page_release(uint64_t mark)
{
    memset((void *)mark, JUNK, next - mark);
    next = mark;
}

uint64_t page_region_end(void)
{
    return end;
}
