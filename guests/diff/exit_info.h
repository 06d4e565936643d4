/* Which exit-information fields the SDM defines for an exit.
 * Pure. */
#ifndef GUESTS_DIFF_EXIT_INFO_H
#define GUESTS_DIFF_EXIT_INFO_H

#include "guests/diff/image.h"

struct exit_info {
    uint32_t reason;
    uint64_t qualification;
    uint32_t intr_info, idt_info, length;
    bool one_cause; /* given by the caller: no more than one thing was wrong with the VMCS */
};

/* Reads what is defined from the current VMCS and adds it to the transcript. */
void exit_info_report(struct l2 *, struct exit_info *);
/* Accepted differences of exit qualifications. */
uint64_t exit_info_canonical(uint32_t reason, uint64_t qualification);
/* An exit caused by an instruction that L1 can step over. */
bool exit_info_is_instruction(const struct exit_info *);

#endif
