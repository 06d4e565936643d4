#include "kernel/log_ring.h"

#include "kernel/string.h"

#define MARK_0 0x7369676f6c207361ull
#define MARK_1 0x2e67736574616c70ull

/* Of the word's bytes the one at `at` weighs so much; what is all zero sums up to 0. */
static uint64_t weighed(char c, uint64_t at)
{
    return (uint64_t)(uint8_t)c << 8 * (at % 8);
}

void log_ring_seal(struct log_ring *ring)
{
    ring->written_check = ~ring->log.written;
    ring->mark[0] = MARK_0;
    ring->mark[1] = MARK_1;
}

void log_ring_write(struct log_ring *ring, const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        uint64_t at = ring->log.written++ % LOG_RING_SIZE;
        ring->sum[at / LOG_BLOCK_SIZE] += weighed(text[i], at) - weighed(ring->log.text[at], at);
        ring->log.text[at] = text[i];
    }
    ring->written_check = ~ring->log.written;
}

struct log_ring *log_ring_find(void *start, uint64_t size)
{
    for (uint64_t at = 0; at + sizeof(struct log_ring) <= size; at += PAGE_SIZE) {
        struct log_ring *ring = (struct log_ring *)((uint8_t *)start + at);
        if (ring->mark[0] == MARK_0 && ring->mark[1] == MARK_1 && ring->log.written == ~ring->written_check)
            return ring;
    }
    return NULL;
}

static bool is_kept(const struct log_ring *ring, unsigned block)
{
    uint64_t sum = 0;
    for (uint64_t at = block * LOG_BLOCK_SIZE; at < (block + 1) * LOG_BLOCK_SIZE; at++)
        sum += weighed(ring->log.text[at], at);
    return sum == ring->sum[block];
}

unsigned log_ring_take(struct log_ring *ring, struct log_text *to)
{
    unsigned lost = 0;

    memcpy(to, &ring->log, sizeof *to);
    for (unsigned block = 0; block < LOG_BLOCKS && block * LOG_BLOCK_SIZE < to->written; block++)
        if (!is_kept(ring, block)) {
            char *text = to->text + block * LOG_BLOCK_SIZE;
            memset(text, '?', LOG_BLOCK_SIZE - 1);
            text[LOG_BLOCK_SIZE - 1] = '\n';
            lost++;
        }
    ring->mark[0] = 0;
    return lost;
}
