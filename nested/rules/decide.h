/* Whose exit is it: L0's or L1's (docs/FLOWS.md, flow 4, step 3).
 * Pure: a table row per basic exit reason, with few functions for the reasons that need one.
 * nested/ calls it for each exit of L2. */
#ifndef NESTED_RULES_DECIDE_H
#define NESTED_RULES_DECIDE_H

#include "nested/rules/vmcs12.h"
#include "vmx/msr_bitmap.h"
#include "vmx/vmexit.h"

enum decision { TO_L0, TO_L1 };

struct decide_input {
    const struct vmexit *exit;
    const struct vmcs12 *v;
    const uint64_t *regs;      /* L2's general registers (GPR order); regs[RSP] is not valid */
    uint64_t rsp;              /* L2's RSP, for the rare reason that needs it */
    const uint8_t *msr_bitmap; /* snapshot of L1's page, or NULL when L1 uses none */
    /* L1's I/O bitmaps A and B, NULL when they are no RAM (reads as all-ones). */
    const uint8_t *io_bitmap_a, *io_bitmap_b;
    const uint8_t *vmread_bitmap, *vmwrite_bitmap;
    bool l0_nmi; /* the NMI is Nestor's own */
    bool narrow; /* L2 is outside 64-bit mode: the upper halves of its registers do not count */
};

/* True if an exit is an access to an MSR that the MSR bitmap governs, and which MSR it is: of a list the next entry's,
 * which the caller has read into the exit. */
static inline bool decide_is_msr_access(uint32_t reason)
{
    return reason == EXIT_RDMSR || reason == EXIT_WRMSR || reason == EXIT_RDMSRLIST || reason == EXIT_WRMSRLIST ||
           reason == EXIT_RDMSR_IMMEDIATE || reason == EXIT_WRMSRNS_IMMEDIATE;
}
static inline uint32_t decide_msr(const struct vmexit *exit, const uint64_t *regs)
{
    return exit->reason >= EXIT_RDMSRLIST ? exit->msr : (uint32_t)regs[RCX];
}
static inline enum msr_access decide_msr_direction(uint32_t reason)
{
    return reason == EXIT_RDMSR || reason == EXIT_RDMSRLIST || reason == EXIT_RDMSR_IMMEDIATE ? MSR_READ : MSR_WRITE;
}

enum decision decide_exit(const struct decide_input *in);
/* The reasons, as bits 0 to 63, for which the controls alone say TO_L1. */
uint64_t decide_straight(const struct vmcs12 *v);

#endif
