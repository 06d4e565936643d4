/* Tracing costs a write fault for each burst of stores; merging at each entry costs the merge. Which is cheaper
 * depends on L1 alone, so it is found by watching it: the functions look at how the last merges went and at nothing
 * else. Neither answer can be wrong, only dear: an untraced page is merged at each entry. */
#include "nested/bitmap/merged_pays.h"

#include "kernel/percpu.h"

#define TRACE_PAYS_FROM 1 /* entries without a merge, between two merges */
#define STRIKES_MAX 4

/* A page that L1 rewrites before nearly every entry costs a write fault and a protection on top of each merge: after
 * some such merges in a row it rests untraced, longer each time. */
bool merged_pays_to_trace(struct merged_pays *pays, bool was_stored_to)
{
    if (pays->untraced) {
        pays->strikes = STRIKES_MAX - 1; /* the next one ends the new attempt */
        return --pays->untraced == 0;
    }
    if (!was_stored_to || pays->keep_traced)
        return true;
    /* At least one entry went without a merge: tracing has paid for itself, and all that was held against the page is
     * forgotten. */
    if (pays->saved >= TRACE_PAYS_FROM) {
        pays->strikes = 0;
        pays->next_rest = MERGED_REST_MIN;
        return true;
    }
    if (++pays->strikes < STRIKES_MAX)
        return true;
    pays->untraced = pays->next_rest;
    pays->next_rest = MIN(2 * pays->next_rest, MERGED_REST_MAX);
    count(COUNT_BITMAP_UNTRACED);
    return false;
}

bool merged_pays_to_wait(struct merged_pays *pays)
{
    if (pays->keep_traced)
        return false;
    /* Until L2 is seen to access MSRs, a merge that is put off may never be needed. */
    if (pays->eager == 0)
        return true;
    pays->eager--;
    return false;
}

/* Putting a merge off and doing it after all costs an exit more than doing it at once, so for a while none is put
 * off. */
void merged_pays_wanted(struct merged_pays *pays)
{
    pays->eager = MERGED_EAGER_AGAIN;
}
