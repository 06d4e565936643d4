/* When tracing a page pays, and whether its next merge may wait: what its last entries tell
 * (docs/adr/0010-when-tracing-rests.md and 0014-a-merge-waits.md have the costs).
 * Pure, except for a counter.
 * nested/bitmap/merged asks. */
#ifndef NESTED_BITMAP_MERGED_PAYS_H
#define NESTED_BITMAP_MERGED_PAYS_H

#include "kernel/base.h"

/* For how many entries a page rests from tracing: the first time, and at most. */
#define MERGED_REST_MIN 64
#define MERGED_REST_MAX 4096
/* How many merges are done at once before one is put off: of a new page; when L2 had accessed an MSR after all. */
#define MERGED_EAGER_FIRST 4
#define MERGED_EAGER_AGAIN 64

struct merged_pays {
    uint64_t saved;     /* entries since the last merge that needed none */
    bool keep_traced;   /* L2 stores to it while it runs: only a trace shows that */
    unsigned strikes;   /* merges in a row for which tracing did not pay */
    unsigned untraced;  /* entries that are still to be merged without tracing */
    unsigned next_rest; /* how many those are the next time */
    unsigned eager;     /* merges until one is put off until L2 accesses an MSR */
};
#define MERGED_PAYS_AT_FIRST                                                                                           \
    {                                                                                                                  \
        .next_rest = MERGED_REST_MIN, .eager = MERGED_EAGER_FIRST                                                      \
    }

/* At a merge: whether to trace the page from now on. `was_stored_to`: the page was, or may have been, since the last
 * merge, and is not watched. */
bool merged_pays_to_trace(struct merged_pays *pays, bool was_stored_to);
/* At an entry that would merge: whether the merge may wait. */
bool merged_pays_to_wait(struct merged_pays *pays);
/* L2 accessed an MSR while the merge waited. */
void merged_pays_wanted(struct merged_pays *pays);

#endif
