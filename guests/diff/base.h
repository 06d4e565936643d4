/* Valid guests to start from, one per mode, and the host state and controls that go with them.
 * After image_init() and arena_init(). Mutations start from what base_build() gives. */
#ifndef GUESTS_DIFF_BASE_H
#define GUESTS_DIFF_BASE_H

#include "guests/diff/image.h"

enum mode {
    MODE_64,
    MODE_64_USER,
    MODE_COMPATIBILITY,
    MODE_COMPATIBILITY_USER,
    MODE_PAE,
    MODE_32,
    MODE_32_USER,
    MODE_16,
    MODE_V86,
    MODE_PROTECTED, /* no paging: unrestricted guest */
    MODE_REAL,      /* unrestricted guest */
    MODE_COUNT
};

struct l2_config {
    enum mode mode;
    bool ept;
    bool vpid;
    bool unrestricted;
};

/* L1's pages that controls point to. */
struct l1_pages {
    uint8_t *msr_bitmap, *io_bitmap_a, *io_bitmap_b, *virtual_apic, *vmread_bitmap, *vmwrite_bitmap;
    uint64_t *entry_load, *exit_store, *exit_load, *eptp_list, *ve_info, *pml;
    uint64_t shadow; /* a shadow VMCS */
};
extern struct l1_pages l1_pages;

#define TIMER_BOUND 30000
#define PML_INDEX_START 511

void base_init(void);
struct l2_config base_config_pick(void);
void base_build(const struct l2_config *, struct image *);
/* Operand and address size of the code that a mode starts with: 16, 32 or 64. */
unsigned mode_bits(enum mode);
unsigned mode_cpl(enum mode);
const char *mode_name(enum mode);

#endif
