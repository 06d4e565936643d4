/* L0 keeps few MSRs, so its page is nearly empty: some dozen words out of 512. Merging is then a copy of L1's page
 * and an OR for each of those words. */
#include "nested/bitmap/merged_words.h"

const struct merged_words *merged_words_of(struct merged_words *words, const uint8_t *page, uint64_t generation)
{
    const uint64_t *word = (const uint64_t *)(const void *)page;
    /* L0's policy changes in tests alone: the list is nearly always the one that is there. */
    if (words->generation == generation)
        return words;
    words->generation = generation;
    words->count = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(words->index); i++)
        if (word[i])
            words->index[words->count++] = (uint16_t)i;
    return words;
}
