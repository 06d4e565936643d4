/* A screen of text, for a machine without a serial port: the loader's framebuffer, or VGA's text. */
#ifndef GUESTS_BENCH_DISPLAY_H
#define GUESTS_BENCH_DISPLAY_H

#include "kernel/base.h"

/* Clears the screen. False: there is none that can be used. */
MUST_CHECK bool display_start(void);
/* Makes an empty page of it. */
void display_clear(void);
/* A character, for console_use(). */
void display_put(char c);
unsigned display_columns(void);
unsigned display_rows(void);

#endif
