/* Nestor's options: struct options with one 64-bit member per row of options.def, and their parser.
 * Pure but for the one global that start/ fills.
 * Anyone may read `options`. */
#ifndef KERNEL_CMDLINE_H
#define KERNEL_CMDLINE_H

#include "kernel/base.h"

struct options {
#define OPTION(member, name, kind, initial, values, text) uint64_t member;
#include "kernel/options.def"
#undef OPTION
};

/* In the order of the values of the option "bitmap". */
enum bitmap_policy { BITMAP_TRACE, BITMAP_MERGE, BITMAP_ALLOW, BITMAP_EXIT };
/* In the order of the values of the option "fault". */
enum injected_fault {
    NO_INJECTED_FAULT,
    FAULT_DROP_L0_BITS,
    FAULT_SKIP_REMERGE,
    FAULT_SKIP_EPT02,
    FAULT_FORGET_GENERATION,
    FAULT_NEVER_REJOIN,
    FAULT_SKIP_KICK,
    FAULT_READ_FIRST,
    FAULT_DROP_NMI_WINDOW,
    FAULT_HOST_WITHOUT_MCE,
    FAULT_MACHINE_CHECK,
    FAULT_DROP_REPEAT_TRAP,
    FAULT_EARLY_GENERATION,
    FAULT_SKIP_INVEPT,
    FAULT_INVEPT_AT_ONCE,
    FAULT_KEEP_VPID,
    FAULT_PANIC,
};

/* In the order of the values of the option "virtual-vectoring". */
enum virtual_vectoring { VECTORING_CPU, VECTORING_SVI };
/* In the order of the values of the option "boot". */
enum boot_option { BOOT_HD0, BOOT_HD1, BOOT_CD };
/* In the order of the values of the option "startup". */
enum startup_option { STARTUP_AUTO, STARTUP_EXIT, STARTUP_TRAP };

/* The options in force: the defaults until start/ parsed the command line into it. */
extern struct options options;

/* Told of each line that the user should see: a warning (`error` false) or an error. */
typedef void (*cmdline_report_fn)(bool error, const char *text);

/* Reads "name=value" words, set apart by spaces, into *to, which holds the defaults or earlier values. An unknown name
 * is a warning that lists the known ones. A bad value is an error that names option, value and what is allowed, and
 * makes the result -1, when the caller ends the run; else 0. */
MUST_CHECK int cmdline_parse(const char *text, struct options *to, cmdline_report_fn report);

#endif
