/* The common part of the scenarios of VMCS shadowing: L1 with a shadow VMCS for its L2, and L2's two instructions.
 * shadow_start() first; then one of the two runs.
 * For shadow.c and shadow_operands.c. */
#ifndef GUESTS_SCENARIOS_SHADOW_H
#define GUESTS_SCENARIOS_SHADOW_H

#include "guests/scenarios/scenario.h"

struct shadowed {
    struct vm vm;
    uint64_t shadow; /* the shadow VMCS */
    uint8_t *read_bitmap, *write_bitmap;
};

/* Operands and outcome of L2's instruction; the flags are the arithmetic ones. */
extern volatile uint64_t l2_field, l2_value, l2_flags;
void l2_vmread(void);
void l2_vmwrite(void);

/* Both bitmaps clear: L2 has all fields. */
void shadow_start(struct shadowed *);
/* Makes this L2's code and these its operands; shadow_done() also runs it to its end. */
void shadow_run(struct shadowed *, void (*code)(void), uint64_t field, uint64_t value);
void shadow_done(struct shadowed *, void (*code)(void), uint64_t field, uint64_t value);
const char *without_shadowing(void);

#endif
