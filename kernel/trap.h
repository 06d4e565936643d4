/* Exceptions, NMIs and interrupts that reach Nestor itself.
 * Works from desc_load() on.
 * kernel/desc.c takes the gates from here; nobody else calls the handlers. */
#ifndef KERNEL_TRAP_H
#define KERNEL_TRAP_H

#include "kernel/base.h"

/* As kernel/trap.asm pushes it. */
struct trap_frame {
    uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rdx, rcx, rbx, rax;
    uint64_t vector, error_code;
    uint64_t rip, cs, rflags, rsp, ss;
};

/* The entry point of each vector, in trap.asm. */
extern const uint64_t trap_stubs[256];

/* An instruction that may fault, and where to go on when it did; in section .fixup, see kernel/safe.c. */
struct trap_fixup {
    uint64_t at, to;
};

/* The function of vmx/kick for an NMI that meets Nestor itself, once there are virtual processors. It may move
 * frame->rip. */
extern void (*trap_nmi)(struct trap_frame *frame);

/* Called by trap.asm. Returns to the interrupted code for an NMI, an interrupt, or an exception with a fix-up. */
void trap_handle(struct trap_frame *frame);

#endif
