/* Which of EPT12's tables an EPT02 was made of, traced by mm/ept_watch: INVEPT drops what was made of tables that were
 * stored to since, and keeps the rest. A table is traced before it is read. One of the last level that L1 stores to
 * between most INVEPTs rests: what it is behind goes at each INVEPT, without a fault for the store.
 * A struct ept02s is used by its own processor only; stores are told of under the lock of ept_watch, which comes before
 * that of the ept02s: nothing here is called with the latter held.
 * nested/ept02/ept02.c calls it. */
#ifndef NESTED_EPT02_EPT12_TRACE_H
#define NESTED_EPT02_EPT12_TRACE_H

#include "nested/ept02/ept02.h"

#ifndef EPT12_TRACKERS
#define EPT12_TRACKERS 4096u
#endif

/* A table of EPT12 at its place below a root. */
struct ept12_tracker {
    struct watcher watcher; /* its page is the table; ~0: none yet */
    struct ept02s *ept02s;
    struct ept02_root *root;
    gpa_t base;     /* gpa2 of what entry 0 maps */
    unsigned level; /* of the table */
    bool dirty;     /* atomic: stored to since it was traced, or not traced */
    bool untraceable;
    bool repeats;       /* atomic: EPT02 may have leaves EPT02_MISCONFIGURED there, which go with the first store */
    uint8_t heat, rest; /* how often it was stored to at once; INVEPTs until it is traced again */
    uint16_t next;      /* of its bucket: number + 1, 0 at the end */
    uint64_t armed_at;  /* e->looks when it was traced */
};

#define EPT12_TRACKER_BUCKETS 1024u

struct ept12_trace {
    struct ept12_tracker tracker[EPT12_TRACKERS];
    unsigned used;                          /* the first of them; all are given back at once */
    uint16_t bucket[EPT12_TRACKER_BUCKETS]; /* by place; number + 1, 0: none */
    struct ept12_tracker *latest;           /* asked for last */
    unsigned short_looks; /* at which there had been more tables than trackers, since the last reset */
};

/* The trackers of `e`: 0, or -1 when pages run out. */
MUST_CHECK int ept12_trace_init(struct ept02s *e);
/* Gives up all watches; all EPT02s are empty. */
void ept12_trace_forget(struct ept02s *e);
void ept12_trace_release(struct ept02s *e);

/* True if the table at `level` in which a walk of gpa2 ended, and all above it, are known. */
bool ept12_trace_covers(struct ept02s *e, const struct ept02_root *root, gpa_t gpa2, gpa_t table12, unsigned level);
/* The same of a table that the walk found a misconfigured leaf in, not stored to since it was traced: from now on the
 * next store takes away what EPT02 repeats of it. To be asked again under the ept02s' lock before that is stored. */
bool ept12_trace_may_repeat(struct ept02s *e, const struct ept02_root *root, gpa_t gpa2, const struct ept12_walk *walk);
/* Traces the tables on the way of gpa2 from the top, each before its entry is read; the walk is to be repeated then.
 * False: there is no tracker for one, so each look drops what is made of it. */
bool ept12_trace_path(struct ept02s *e, struct ept02_root *root, uint64_t eptp12, gpa_t gpa2);
/* The look at a root that is dirty: what is below a table that was stored to goes. */
void ept12_trace_look(struct ept02s *e, struct ept02_root *root);

#endif
