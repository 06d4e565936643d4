/* The traces of L2, for the transcript: an exit's registers, the state that was saved, the memory that was written.
 * The operation's VMCS is current. Accepted differences are left out here (docs/DIFF.md). Used by l2op.c. */
#ifndef GUESTS_DIFF_L2REPORT_H
#define GUESTS_DIFF_L2REPORT_H

#include "guests/diff/base.h"
#include "guests/diff/exit_info.h"
#include "guests/diff/mutate.h"
#include "guests/diff/snippet.h"

struct guest {
    struct l2 l2;
    struct l2_config config;
    struct image base;
};

struct operation {
    struct guest *guest;
    struct image wanted;
    struct mutation mutation;
    struct snippet snippet;
    uint64_t regs[16];
    struct exit_info exit;
};

/* After each exit: the general registers, RIP, RSP and RFLAGS. */
void l2report_registers(const struct operation *);
/* After the last one: what changes often, what was mutated, what the code may have changed, and a sample. */
void l2report_state(const struct operation *);
/* The stores of L2 and of the CPU to memory; puts back what is written most. */
void l2report_memory(const struct operation *);
/* Hashes of all of L2's pages, which take their time. */
void l2report_pages(void);

#endif
