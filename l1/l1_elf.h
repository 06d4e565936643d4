/* ELF executables as L1: their segments by physical address.
 * Pure, as l1_image.
 * l1/l1_multiboot calls it. */
#ifndef L1_L1_ELF_H
#define L1_L1_ELF_H

#include "l1/l1_image.h"

/* Adds a copy per loadable segment; the physical entry address in *entry. 32- and 64-bit files for x86. */
MUST_CHECK const char *l1_elf_plan(const struct l1_input *in, struct l1_plan *plan, uint64_t *entry);

#endif
