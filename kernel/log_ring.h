/* The ring that holds Nestor's log, so sealed that the next start can find it in RAM after a reset: a mark, and a sum
 * of each block. Blocks that a reset has spoilt are told from those that it has kept.
 * Pure. Freestanding and hosted; kernel/log.c has the ring, vmx/inspect shows it to L1. */
#ifndef KERNEL_LOG_RING_H
#define KERNEL_LOG_RING_H

#include "kernel/base.h"

#define LOG_RING_SIZE (64 * KIB)
#define LOG_BLOCK_SIZE KIB
#define LOG_BLOCKS (LOG_RING_SIZE / LOG_BLOCK_SIZE)

struct log_text {
    uint64_t written; /* bytes ever; the next one goes to written % LOG_RING_SIZE; 0: nothing is there */
    char text[LOG_RING_SIZE];
};

struct log_ring {
    uint64_t mark[2];
    uint64_t sum[LOG_BLOCKS];
    uint64_t written_check; /* ~log.written */
    struct log_text log;
} __attribute__((aligned(PAGE_SIZE)));

/* From here on it can be found, with what was written before. */
void log_ring_seal(struct log_ring *ring);
void log_ring_write(struct log_ring *ring, const char *text, size_t size);
/* The first sealed ring that begins at a page in [start, start + size), or NULL. */
struct log_ring *log_ring_find(void *start, uint64_t size);
/* Copies what it holds; a block whose sum is wrong becomes a line of question marks. It is not found again. The number
 * of such blocks. */
unsigned log_ring_take(struct log_ring *ring, struct log_text *to);

#endif
