/* Text from a format string: %s %c %d %i %u %x %X %p %% with the flags 0, - and #, a width (also *), a
 * precision for %s, and the sizes l, ll and z.
 * Pure; the buffer is always terminated when it has any room.
 * kernel/log prints through it; others may build short texts with it. */
#ifndef KERNEL_FORMAT_H
#define KERNEL_FORMAT_H

#include <stdarg.h>

#include "kernel/base.h"

/* Both return the number of characters in the buffer, the terminating 0 not counted: at most size - 1. */
size_t format_text(char *buffer, size_t size, const char *fmt, ...) PRINTF_LIKE(3, 4);
size_t format_list(char *buffer, size_t size, const char *fmt, va_list list) PRINTF_LIKE(3, 0);

#endif
