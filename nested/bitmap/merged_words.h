/* Which 64-bit words of a page of L0 are not 0: few, and a merge touches only those of them.
 * Pure.
 * nested/bitmap/merged uses it. */
#ifndef NESTED_BITMAP_MERGED_WORDS_H
#define NESTED_BITMAP_MERGED_WORDS_H

#include "kernel/base.h"

struct merged_words {
    uint64_t generation; /* of the page; 0: none was looked at */
    unsigned count;
    uint16_t index[PAGE_SIZE / sizeof(uint64_t)];
};

/* `words`, brought up to date when the page is of another generation. Returned for convenience. */
const struct merged_words *merged_words_of(struct merged_words *words, const uint8_t *page, uint64_t generation);

#endif
