/* The interface of efi/ (nestor.efi) and Nestor's image when Nestor takes over a machine that runs already: the
 * firmware's own state of each processor, which L1 goes on with.
 * Constants and structs; boot/in_place.asm knows the members by boot/boot_values.c.
 * efi/ fills it, start/main_in_place reads it. */
#ifndef BOOT_IN_PLACE_H
#define BOOT_IN_PLACE_H

#include "kernel/base.h"

struct in_place_segment {
    uint64_t base;
    uint32_t limit, access; /* in the VMCS's format */
    uint16_t selector;
};

/* A processor in 64-bit mode, as it was when it called in_place_enter() or in_place_join(): it comes back there, as L1
 * or as the firmware's still. The general registers are on its stack. */
struct in_place_state {
    uint64_t rsp, rip; /* in_place_enter() and in_place_join() fill these */
    uint64_t cr0, cr3, cr4, efer;
    uint8_t gdtr[16], idtr[16]; /* as SGDT stores them */
    uint64_t fs_base, gs_base;
    uint16_t cs, ss, ds, es, fs, gs, ldtr, tr;
    struct in_place_segment segment[8]; /* in the order of the VMCS's fields: ES CS SS DS FS GS LDTR TR */
};

struct in_place_processor {
    struct in_place_state state;
    uint64_t tables, stack, cpu, main; /* where in_place_join() leads to: Nestor's side fills these */
};

enum in_place_result {
    IN_PLACE_IS_L1,   /* the caller runs as L1 from now on */
    IN_PLACE_REFUSED, /* nothing has changed; `reason` says why */
    IN_PLACE_WANTS,   /* nothing has changed; in_place_enter() again, with `carveout_size` bytes of memory */
    IN_PLACE_JOIN,    /* let all others join, then this processor again */
    IN_PLACE_DONE,    /* what a processor has to say that is not the one that boots */
};

#define IN_PLACE_PROCESSORS 256

/* Below 4 GiB. */
struct in_place {
    struct in_place_processor processor[IN_PLACE_PROCESSORS]; /* [0] is the one that boots */
    uint64_t processors;                                      /* that the firmware lets take part */
    uint64_t load_base;        /* where the image was put, on a border of 2 MiB below 4 GiB */
    uint64_t boot_information; /* a multiboot2 block, below 4 GiB */
    uint64_t carveout_base, carveout_size;
    uint64_t joined; /* how many others have a number in this round; atomic */
    bool failed;     /* one of them was refused */
    bool one_by_one; /* so they are to join */
    bool try_next;   /* the firmware is to boot its next entry: the option then= */
    char reason[256];
};

#endif
