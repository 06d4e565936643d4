/* Mappings of EPT02 that EPT12 once had and has no more. As L1 has executed no INVEPT, a CPU might still use them, too.
 * Looked for with the option lint=1 only.
 * nested/lint calls it. */
#ifndef NESTED_EPT02_EPT02_STALE_H
#define NESTED_EPT02_EPT02_STALE_H

#include "nested/ept02/ept02.h"

struct ept02_stale {
    gpa_t gpa2;       /* the first that is mapped so */
    gpa_t where;      /* of the entry of EPT12 that decides now, */
    unsigned level;   /* its level, */
    uint64_t entry;   /* and what it is */
    const char *what; /* has changed, in words */
};

/* True for the first such mapping from *from on. Looks at no more than *leaves of them, and says there how many are
 * left; *from is where to go on then, 0 after the last. Behind ept02_settle() no INVEPT named a mapping that is
 * found. */
bool ept02_find_stale(struct ept02s *ept02s, const struct ept02_root *root, uint64_t eptp12, gpa_t *from,
                      unsigned *leaves, struct ept02_stale *out);

#endif
