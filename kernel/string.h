/* Memory and string functions of the C library that Nestor uses, under their usual names.
 * Needs nothing. On the host the C library's own are taken.
 * Anyone may include it. */
#ifndef KERNEL_STRING_H
#define KERNEL_STRING_H

#include "kernel/base.h"

#if __STDC_HOSTED__
#include <string.h>
size_t strnlen(const char *text, size_t limit); /* POSIX, not C11: <string.h> hides it */
#else
void *memcpy(void *to, const void *from, size_t size);
void *memmove(void *to, const void *from, size_t size);
void *memset(void *to, int byte, size_t size);
int memcmp(const void *a, const void *b, size_t size);
void *memchr(const void *where, int byte, size_t size);
size_t strlen(const char *text);
size_t strnlen(const char *text, size_t limit);
int strcmp(const char *a, const char *b);
int strncmp(const char *a, const char *b, size_t limit);
char *strchr(const char *text, int c);
/* So that a small constant size needs no call. */
#define memcpy(to, from, size) __builtin_memcpy(to, from, size)
#define memset(to, byte, size) __builtin_memset(to, byte, size)
#endif

#endif
