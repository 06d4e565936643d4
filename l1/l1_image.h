/* L1's image: what kind it is, where it and its modules go, and what its first instruction finds.
 * Pure: images are bytes of unknown origin, every offset in them is checked; nothing is written but the plan.
 * start/ calls l1_stash_plan() on the loader's modules, moves them, then l1_plan(), then l1_load().
 *
 * Order: the modules are stashed before anything else is put into the carve-out or into low memory. Afterwards
 * `start` of each module is where it lies at the top of RAM, and the plan puts nothing on top of it. */
#ifndef L1_L1_IMAGE_H
#define L1_L1_IMAGE_H

#include "boot/bootinfo.h"
#include "boot/in_place.h"
#include "kernel/base.h"
#include "mm/memmap.h"

enum l1_kind { L1_UNKNOWN, L1_LINUX, L1_MULTIBOOT1, L1_MULTIBOOT2, L1_DISK };

struct l1_input {
    const struct memmap *map;  /* L1's view: the carve-out is reserved in it */
    const struct memmap *free; /* the same, but RAM in which the firmware left tables for L1 is reserved, too */
    /* [0] is L1's kernel, its string the command line; the others are L1's own modules. All stashed. */
    const struct boot_module *module;
    unsigned modules;
    const uint8_t *image; /* the bytes of module[0] */
    const uint8_t *rsdp;  /* the loader's copy of the ACPI root pointer; rsdp_size 0 when it gave none */
    uint32_t rsdp_size;
    hpa_t rsdp_place; /* where the firmware itself has it, if that is known; else 0 */
    const struct boot_framebuffer *screen;
    hpa_t efi_system_table; /* 0: no UEFI */
    const struct efi_map *efi_map;
    bool has_bios;      /* the next two are for an L1 without a module */
    unsigned boot_disk; /* enum boot_option */
    uint32_t end_port;  /* by which L1 ends the run; 0: none */
};

#define L1_COPIES_MAX 64
#define L1_BLOB_SIZE (256 * KIB)

struct l1_copy {
    hpa_t to;
    const void *from;
    uint64_t length;
    uint64_t zeros; /* bytes to clear behind them */
};

/* The processor state of L1's first instruction: 32-bit protected mode, flat segments of 4 GiB, no paging, IF clear,
 * A20 open; registers that are not named here are 0. With real_page, an address below 1 MiB: as after a start-up IPI
 * that names that page, except for the registers. */
struct l1_start {
    const struct in_place_state *present; /* not NULL: what the processor was doing is what L1 goes on with */
    hpa_t real_page;
    uint32_t rip, eax, ebx, ecx, esi;
    uint16_t cs, ds; /* ds: also ES, SS, FS, GS */
    hpa_t gdt;
    uint16_t gdt_limit;
};

struct l1_plan {
    enum l1_kind kind;
    unsigned copies;
    struct l1_copy copy[L1_COPIES_MAX]; /* none overlaps another one's source or destination */
    struct l1_start start;
    /* L1's memory map, where it differs from the input's. */
    struct memmap map;
    /* Memory that must not be used for other things: sources and destinations so far. */
    unsigned busy_count;
    struct memmap_region busy[L1_COPIES_MAX + BOOTINFO_MAX_MODULES + 2];
    unsigned blob_used;
    uint8_t blob[L1_BLOB_SIZE]; /* bytes made by the planner, sources of some copies */
};

/* For the planners of each kind (l1_linux, l1_multiboot). */

/* Copies `size` bytes at `offset` of the image to `to`; false when the image is shorter. */
MUST_CHECK bool l1_take(const struct l1_input *in, uint64_t offset, void *to, uint64_t size);
/* True if [base, base+size) is RAM of `map` that nothing else uses, below 4 GiB and not the first page. */
bool l1_is_usable(const struct memmap *map, const struct l1_plan *plan, hpa_t base, uint64_t size);
/* Keeps later plans off [base, base+size). */
void l1_reserve(struct l1_plan *plan, hpa_t base, uint64_t size);
/* Adds a copy; its destination is busy from now on. NULL, or the error. */
MUST_CHECK const char *l1_add_copy(const struct l1_input *in, struct l1_plan *plan, struct l1_copy copy);
/* `size` zeroed bytes in plan->blob, 8-aligned; NULL when it is full. */
void *l1_blob(struct l1_plan *plan, uint64_t size);
/* Plans a blob into low memory, where every kernel expects what its loader tells it, or, where the firmware uses that,
 * to the top of what a 32-bit entry reaches: page-aligned. */
MUST_CHECK const char *l1_place_low(const struct l1_input *in, struct l1_plan *plan, const void *blob, uint64_t size,
                                    hpa_t *where);
/* The flat GDT of the start state. */
MUST_CHECK const char *l1_place_gdt(const struct l1_input *in, struct l1_plan *plan);

#endif
