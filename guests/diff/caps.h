/* The VMX capabilities that both runs have: Nestor's run prints its own, the bare run gets them on its command line.
 * caps_init() once. What Nestor hides is then drawn by neither run. */
#ifndef GUESTS_DIFF_CAPS_H
#define GUESTS_DIFF_CAPS_H

#include "guests/lib/vmx.h"

#define CAPS_WORDS 10

struct caps {
    struct vmx_control_caps pin, proc, proc2, exit, entry;
    uint64_t basic, ept_vpid, misc, vmfunc, proc3, exit2;
    uint64_t cr0_fixed0, cr4_fixed0, cr4_fixed1;
    unsigned physical_bits;
};
extern struct caps caps;

/* From the CPU; then, when there is one, cut down to the list of words that another run printed. */
MUST_CHECK bool caps_init(const char *list);
void caps_print(void);
/* Bits of a control field of 32 bits that may be 1, and must be 1. */
const struct vmx_control_caps *caps_of(enum vmcs_field controls);
bool caps_have(enum vmcs_field controls, uint64_t bits);

#endif
