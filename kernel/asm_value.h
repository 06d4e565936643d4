/* Gives assembly what C knows. A file *_values.c states values by these macros, inside a function that never runs: the
 * Makefile has it compiled to text, and makes of the lines with the mark @ the include file *_values.inc for NASM. So a
 * constant or the place of a member is written once, in the header that C uses.
 * Constant expressions only; nothing of such a file is linked. */
#ifndef KERNEL_ASM_VALUE_H
#define KERNEL_ASM_VALUE_H

#include "kernel/base.h"

/* A line as it is; `%%` is one percent sign. */
#define LINE(text) __asm__ volatile(".ascii \"@" text "\"" ::)
/* The same with a number at `%0`, before which the compiler writes a `$`, which the Makefile takes away. */
#define LINE_WITH(text, value) __asm__ volatile(".ascii \"@" text "\"" ::"i"((uint64_t)(value)))
/* The name, in assembly, of a constant. */
#define VALUE(name, value) LINE_WITH("%%define " #name " %0", value)
/* A constant that has the same name in C. */
#define SAME(name) LINE_WITH("%%define " #name " %0", name)
/* The offset of a member in its struct. */
#define MEMBER(name, type, member) VALUE(name, offsetof(type, member))

#endif
