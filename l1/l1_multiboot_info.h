/* The information blocks that multiboot images get: memory, modules, strings (Multiboot Specification 0.6.96, 3.3
 * "Boot information format", and 2.0, 3.6).
 * Pure, as l1_image; call it when all else is planned.
 * l1/l1_multiboot calls it. */
#ifndef L1_L1_MULTIBOOT_INFO_H
#define L1_L1_MULTIBOOT_INFO_H

#include "l1/l1_image.h"

/* Plan the block into low memory; its address in *where. */
MUST_CHECK const char *l1_multiboot1_info(const struct l1_input *in, struct l1_plan *plan, uint32_t *where);
MUST_CHECK const char *l1_multiboot2_info(const struct l1_input *in, struct l1_plan *plan, uint32_t *where);

#endif
