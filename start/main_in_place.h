/* The start under a firmware that goes on as L1 (nestor.efi), in place of start/main.c.
 * boot/in_place.asm calls it. */
#ifndef START_MAIN_IN_PLACE_H
#define START_MAIN_IN_PLACE_H

#include "boot/in_place.h"

/* `where`: the struct in_place. Leaves by in_place_leave(). */
void kernel_main_in_place(hpa_t where);

#endif
