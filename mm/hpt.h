/* Nestor's own page tables: its image by section rights (W^X) at IMAGE_LINK_BASE, and a direct map of physical
 * memory (read-write, no execute) without Nestor's own text and read-only data.
 * Called by start/ at start.
 * hpt_relocate moves the image to the carve-out and switches to tables made there. */
#ifndef MM_HPT_H
#define MM_HPT_H

#include "kernel/base.h"

/* The loader put the image at `load_base`: before anything else. */
void hpt_start(hpa_t load_base);
/* Makes [start, start+size) reachable at its place in the direct map, where the first 4 GiB are always, and by the
 * final tables the RAM: from the first instruction on, also for tables and screens above 4 GiB. 0, or -1 when there is
 * no table left for it. The memory type is the MTRRs'. */
MUST_CHECK int hpt_reach(hpa_t start, uint64_t size);
/* Copies the image [IMAGE_LINK_BASE, image end) to `image_hpa` (2 MiB-aligned), builds the final tables from the page
 * allocator, loads CR3 and sets layout_image_hpa. `direct_end`: physical memory mapped up to here (1 GiB pages where
 * the CPU has them, else 2 MiB). hpt_reach(), page_init() of the carve-out first. 0, or -1 when pages run out. */
MUST_CHECK int hpt_relocate(hpa_t image_hpa, hpa_t direct_end);
/* True if the direct map has these bytes (the image's text and read-only data apart). */
bool hpt_maps(hpa_t hpa, uint64_t len);
/* Loads the final tables on another processor. */
void hpt_load(void);

#endif
