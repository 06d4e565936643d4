/* Linux as L1: the 32-bit boot protocol (Linux, Documentation/arch/x86/boot.rst).
 * Pure, as l1_image.
 * l1/l1_image calls it. */
#ifndef L1_L1_LINUX_H
#define L1_L1_LINUX_H

#include "l1/l1_image.h"

/* True if the bytes have the marks of a Linux kernel with boot protocol. */
bool l1_linux_detect(const uint8_t *image, uint64_t size);
MUST_CHECK const char *l1_linux_plan(const struct l1_input *in, struct l1_plan *plan);

#endif
