/* The glyphs of the framebuffer console: printable ASCII.
 * Constant. */
#ifndef KERNEL_FONT_H
#define KERNEL_FONT_H

#include "kernel/base.h"

#define FONT_FIRST 0x20
#define FONT_GLYPHS 95
#define FONT_WIDTH 8
#define FONT_HEIGHT 13

/* Rows from the top; bit 7 of each is the leftmost pixel. */
extern const uint8_t font_glyphs[FONT_GLYPHS][FONT_HEIGHT];

#endif
