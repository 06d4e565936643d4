/* The kind of L1's image, and the plan of all that must be copied to start it.
 * Pure: the images are read where they are, nothing is written but the plan.
 * start/ plans, l1/l1_load copies. */
#ifndef L1_L1_PLAN_H
#define L1_L1_PLAN_H

#include "l1/l1_image.h"

enum l1_kind l1_detect(const uint8_t *image, uint64_t size);
/* NULL, or what is wrong with the image or the memory in one line. The plan is about 300 KiB: no local variable. */
MUST_CHECK const char *l1_plan(const struct l1_input *in, struct l1_plan *plan);

#endif
