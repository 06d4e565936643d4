/* The state of the processor that calls, for Nestor to go on with.
 * In 64-bit mode at CPL 0.
 * efi/main calls it just before it enters Nestor's image. */
#ifndef EFI_PRESENT_H
#define EFI_PRESENT_H

#include "boot/in_place.h"

/* All but rsp and rip. */
void present_read(struct in_place_state *state);

#endif
