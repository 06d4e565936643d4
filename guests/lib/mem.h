/* The few string and memory functions that an L1 image needs; the compiler itself calls the first three.
 * Needs nothing. Anyone may call. */
#ifndef GUESTS_LIB_MEM_H
#define GUESTS_LIB_MEM_H

#include "kernel/base.h"

void *memset(void *to, int value, size_t size);
void *memcpy(void *to, const void *from, size_t size);
int memcmp(const void *a, const void *b, size_t size);
/* Copies at most size - 1 characters and always ends the copy with a zero. */
void string_copy(char *to, const char *from, size_t size);
bool string_equal(const char *a, const char *b);

#endif
