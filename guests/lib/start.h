/* The functions that every L1 image defines.
 * Called once, in long mode, with the library initialised. */
#ifndef GUESTS_LIB_START_H
#define GUESTS_LIB_START_H

#include "kernel/base.h"

/* Gives the status of the run: 0 is success. */
uint8_t guest_main(const char *args);

#endif
