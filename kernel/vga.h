/* The VGA text screen, 80 by 25.
 * Needs the direct map. A machine in a graphics mode shows nothing of it and takes no harm.
 * kernel/log.c uses it. */
#ifndef KERNEL_VGA_H
#define KERNEL_VGA_H

#include "kernel/base.h"

#define VGA_ROWS 25u

/* Clears the screen. */
void vga_init(void);
void vga_write(const char *text, size_t size);

#endif
