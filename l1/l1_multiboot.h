/* Multiboot 1 and 2 images as L1: their headers and the information they get (Multiboot Specification 0.6.96 and
 * 2.0).
 * Pure, as l1_image.
 * l1/l1_image calls it. */
#ifndef L1_L1_MULTIBOOT_H
#define L1_L1_MULTIBOOT_H

#include "l1/l1_image.h"

/* The header's offset in the image, or -1. */
int64_t l1_multiboot1_find(const uint8_t *image, uint64_t size);
int64_t l1_multiboot2_find(const uint8_t *image, uint64_t size);
MUST_CHECK const char *l1_multiboot1_plan(const struct l1_input *in, struct l1_plan *plan);
MUST_CHECK const char *l1_multiboot2_plan(const struct l1_input *in, struct l1_plan *plan);

#endif
