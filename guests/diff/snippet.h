/* Random L2 code: a few instructions for a mode, after which the code page's VMCALLs follow.
 * Pure except for the random numbers. */
#ifndef GUESTS_DIFF_SNIPPET_H
#define GUESTS_DIFF_SNIPPET_H

#include "guests/diff/base.h"

#define SNIPPET_MAX 256

/* The guest state beyond the general registers, RIP, RSP and RFLAGS the code may change. */
#define TOUCH_SEGMENTS BIT(0)
#define TOUCH_TABLES BIT(1)
#define TOUCH_MSRS BIT(2)
#define TOUCH_DEBUG BIT(3)
#define TOUCH_EPTP BIT(4)
/* RAX and RDX may hold what depends on time. */
#define TOUCH_TIME BIT(5)

struct snippet {
    uint8_t bytes[SNIPPET_MAX];
    unsigned length;
    unsigned bits;
    uint64_t touches;
};

void snippet_make(struct snippet *, enum mode);
/* The general registers that snippets expect. */
void snippet_registers(uint64_t regs[16]);
/* Makes the next snippets use these more often; 0 ends that. */
void snippet_focus_msr(uint32_t msr);
void snippet_focus_port(uint16_t port);
/* A port that snippets use. */
uint16_t snippet_port_pick(void);

#endif
