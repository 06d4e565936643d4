/* Merged MSR bitmaps as lines of the log, for tools/bitmap-report.
 * Any state.
 * nested/bitmap/merged_cache and nested/summary call it; nested/nested.c has it told of merges. */
#ifndef NESTED_BITMAP_MERGED_DUMP_H
#define NESTED_BITMAP_MERGED_DUMP_H

#include "nested/bitmap/merged_cache.h"

/* L0's and L1's half, if it is an MSR bitmap and was merged. */
void merged_dump(const struct merged *m);
/* The same behind a merge; the first thousand of them. */
void merged_dump_merge(const struct merged *m);

#endif
