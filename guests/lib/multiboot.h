/* The block of the multiboot1 loader: memory map, command line, modules, screen.
 * multiboot_init() first, before any page is allocated: it copies everything out of the loader's memory. */
#ifndef GUESTS_LIB_MULTIBOOT_H
#define GUESTS_LIB_MULTIBOOT_H

#include "boot/bootinfo.h"

struct region {
    uint64_t base;
    uint64_t size;
    bool usable; /* RAM that the loader says is free to use */
};

struct module {
    uint64_t start, end;
    char args[80];
};

MUST_CHECK bool multiboot_init(uint32_t magic, uint32_t info);
unsigned multiboot_regions(const struct region **regions);
unsigned multiboot_modules(const struct module **modules);
const char *multiboot_args(void);
/* NULL: the loader named none. */
const struct boot_framebuffer *multiboot_screen(void);
/* The largest reserved region of at least 16 MiB with RAM below it or above it: where Nestor lives, or NULL. */
const struct region *multiboot_find_carveout(void);

#endif
