/* Exceptions and interrupts of an L1 image: expected faults are caught and looked at, interrupts are counted.
 * trap_init() once, after desc_init(). L1 code and the L2 code that shares its address space may use all of it. */
#ifndef GUESTS_LIB_TRAP_H
#define GUESTS_LIB_TRAP_H

#include "kernel/x86_bits.h"

/* The vectors of exceptions are in kernel/x86_bits.h. */
enum {
    VECTOR_USER_RETURN = 0x81,
    NO_FAULT = 0xff,
};

struct trap_frame {
    uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
    uint64_t vector, error;
    uint64_t rip, cs, rflags, rsp, ss;
};

struct jump_buffer {
    uint64_t regs[8];
};

/* The last fault that FAULT_OF() caught. */
struct fault {
    uint8_t vector;
    uint32_t error;
    uint64_t cr2;
    uint64_t rip;
};
extern struct fault fault;

/* Interrupts and NMIs taken, by vector; and the instruction that the last one interrupted. */
extern volatile unsigned trap_count[256];
extern volatile uint64_t trap_rip;

/* While set, debug exceptions are counted like interrupts and return. */
extern volatile bool trap_debug_counted;
/* Called for each of them, in whatever context it arrived; NULL for nothing. */
extern void (*volatile trap_hook)(uint64_t vector);

int jump_set(struct jump_buffer *) __attribute__((returns_twice));
void jump_to(const struct jump_buffer *, int value) NORETURN;

void trap_init(void);
/* Called with the frame of a fault that nobody expected; must not return. */
void trap_set_unexpected(void (*handler)(const struct trap_frame *));

extern struct jump_buffer fault_jump;
void fault_arm(void);
void fault_disarm(void);

/* Runs a statement and gives the vector of the fault that it raised, or NO_FAULT; details are in `fault`. Do not rely
 * on local variables that the statement changed before it faulted. */
#define FAULT_OF(statement)                                                                                            \
    ({                                                                                                                 \
        fault_arm();                                                                                                   \
        if (!jump_set(&fault_jump)) {                                                                                  \
            statement;                                                                                                 \
        }                                                                                                              \
        fault_disarm();                                                                                                \
        fault.vector;                                                                                                  \
    })

/* The same for a function that is run at CPL 3. */
uint8_t fault_of_user(void (*code)(void));

#endif
