/* How nestorctl reads Nestor: through the port that CPUID names (kernel/inspect_abi.h).
 * window_open() first; it needs root. */
#ifndef NESTORCTL_WINDOW_H
#define NESTORCTL_WINDOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernel/inspect_abi.h"

/* The CPUID leaf that has Nestor's name; 0: none. */
uint32_t window_leaf(void);
/* True if this machine is Nestor's, by CPUID: true fills *port, *version and *processors. Needs no root. */
bool window_find(uint16_t *port, uint32_t *version, uint32_t *processors);
/* Opens the window and reads its header. On failure prints one line that says why and what to do, and returns -1. Keeps
 * this process on one processor and other nestorctls out, as the port's offset is the processor's. */
int window_open(struct inspect_header *header);
/* Moves to another processor, for what is the reading one's own. False, with a line: there is no such one. */
bool window_move(int cpu);
/* Reads `size` bytes (a multiple of 4) at `offset`, as INSPECT_OFFSET() gives it. */
void window_read(uint32_t offset, void *buffer, size_t size);
uint64_t window_read64(uint32_t offset);

#endif
