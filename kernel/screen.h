/* A text console on the loader's framebuffer. It remembers the characters that it drew: the framebuffer is never read,
 * which is slow, and a character that stays is not drawn again.
 * Not locked: kernel/log.c, its one caller, is. */
#ifndef KERNEL_SCREEN_H
#define KERNEL_SCREEN_H

#include "boot/bootinfo.h"
#include "kernel/base.h"

/* `pixels`: where `screen` lies in the address space. False when it is no screen of red, green and blue, or of a size
 * that cannot be: nothing is drawn then. */
MUST_CHECK bool screen_init(const struct boot_framebuffer *screen, void *pixels);
/* The same pixels lie elsewhere now. */
void screen_move(void *pixels);
/* Whatever somebody else drew meanwhile is painted over. */
void screen_clear(void);
void screen_write(const char *text, size_t size);
/* Lines of text that fit, and characters of a line. */
unsigned screen_rows(void);
unsigned screen_columns(void);

#endif
