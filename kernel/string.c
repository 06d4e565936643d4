#include "kernel/string.h"

/* By words of eight bytes: an emulator counts each step of a string instruction, and CPUs like it as well. */
#if !__STDC_HOSTED__
#undef memcpy
#undef memset
#endif

void *memcpy(void *to, const void *from, size_t size)
{
    void *result = to;
    size_t words = size / 8, rest = size % 8;
    __asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(words) : : "memory");
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(rest) : : "memory");
    return result;
}

void *memmove(void *to, const void *from, size_t size)
{
    uint8_t *end_to = (uint8_t *)to + size;
    const uint8_t *end_from = (const uint8_t *)from + size;
    size_t words = size / 8, rest = size % 8;

    if ((uintptr_t)to - (uintptr_t)from >= size)
        return memcpy(to, from, size);
    /* `to` begins inside the source: from the end down, first the bytes that fill no word. */
    for (; rest; rest--)
        *--end_to = *--end_from;
    end_to -= 8;
    end_from -= 8;
    __asm__ volatile("std; rep movsq; cld" : "+D"(end_to), "+S"(end_from), "+c"(words) : : "memory");
    return to;
}

void *memset(void *to, int byte, size_t size)
{
    void *result = to;
    size_t words = size / 8, rest = size % 8;
    uint64_t pattern = 0x0101010101010101ull * (uint8_t)byte;
    __asm__ volatile("rep stosq" : "+D"(to), "+c"(words) : "a"(pattern) : "memory");
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(rest) : "a"(pattern) : "memory");
    return result;
}

int memcmp(const void *a, const void *b, size_t size)
{
    const uint8_t *left = a, *right = b;

    for (size_t i = 0; i < size; i++)
        if (left[i] != right[i])
            return left[i] - right[i];
    return 0;
}

void *memchr(const void *where, int byte, size_t size)
{
    const uint8_t *bytes = where;

    for (size_t i = 0; i < size; i++)
        if (bytes[i] == (uint8_t)byte)
            return (void *)(uintptr_t)(bytes + i);
    return NULL;
}

size_t strlen(const char *text)
{
    size_t length = 0;

    while (text[length])
        length++;
    return length;
}

size_t strnlen(const char *text, size_t limit)
{
    size_t length = 0;

    while (length < limit && text[length])
        length++;
    return length;
}

int strncmp(const char *a, const char *b, size_t limit)
{
    for (size_t i = 0; i < limit; i++) {
        if (a[i] != b[i])
            return (uint8_t)a[i] - (uint8_t)b[i];
        if (!a[i])
            break;
    }
    return 0;
}

int strcmp(const char *a, const char *b)
{
    return strncmp(a, b, SIZE_MAX);
}

char *strchr(const char *text, int c)
{
    for (;; text++) {
        if (*text == (char)c)
            return (char *)(uintptr_t)text;
        if (!*text)
            return NULL;
    }
}
