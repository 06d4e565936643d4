/* Other ways to merge than the right one: the policy `allow`, for comparison, and the faults that tests inject.
 * The options are parsed.
 * nested/nested.c asks once, for merged_cache.merge. */
#ifndef NESTED_BITMAP_MERGED_WRONG_H
#define NESTED_BITMAP_MERGED_WRONG_H

#include "nested/bitmap/merged.h"

/* As the options `bitmap` and `fault` say; merged_merge() for most. */
merged_merge_fn merged_wrong_choose(void);

#endif
