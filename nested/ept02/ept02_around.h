/* The neighbours of a leaf that EPT02 was just given. nested/ept02/ept02_fill calls it. */
#ifndef NESTED_EPT02_EPT02_AROUND_H
#define NESTED_EPT02_EPT02_AROUND_H

#include "nested/ept02/ept02.h"
#include "nested/ept02/ept12_walk.h"

/* `entry`: the leaf, of the size that `walk` found, 4 KiB or 2 MiB; `above`: EPT02's entry that leads to its table.
 * The lock of e is held. */
void ept02_fill_around(struct ept02s *e, struct ept02_root *root, uint64_t *above, uint64_t *entry,
                       const struct ept12_walk *walk);

#endif
