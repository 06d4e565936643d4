/* L1 from a disk of a machine with a BIOS: no module was given, and what the BIOS would have booted is L1.
 * Pure. Nothing is read here: L1 itself begins with the few instructions of l1/l1_disk.asm, which ask the BIOS for the
 * boot sector and jump to it.
 * l1/l1_plan calls it when there is no module. */
#ifndef L1_L1_DISK_H
#define L1_L1_DISK_H

#include "l1/l1_image.h"

#define L1_DISK_CODE_SIZE 1024 /* l1/l1_disk.asm */
#define L1_DISK_PAGE 0x1000u   /* free once the boot sector runs, as all below 640 KiB but the BIOS's data */

/* NULL, or why not. */
MUST_CHECK const char *l1_disk_plan(const struct l1_input *in, struct l1_plan *plan);

#endif
