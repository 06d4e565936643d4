/* Text on COM1, and the end of the run.
 * console_init() first. Anyone may call. */
#ifndef GUESTS_LIB_CONSOLE_H
#define GUESTS_LIB_CONSOLE_H

#include <stdarg.h>

#include "kernel/base.h"

void console_init(void);
/* Knows %s %c %d %u %x %p %%, l and ll, a width, and the flags 0 and -. */
void print(const char *format, ...) PRINTF_LIKE(1, 2);
void print_list(const char *format, va_list args);
/* Where print() puts its characters from now on. NULL: COM1 again. */
void console_use(void (*put)(char c));
/* Ends the run: status 0 is success. */
void guest_exit(uint8_t status) NORETURN;

#endif
