/* Nestor's options: struct options with one 64-bit member per row of options.def, and their parser.
 * Pure except for the one global that start/ fills.
 * Anyone may read `options`. */
#ifndef KERNEL_CMDLINE_H
#define KERNEL_CMDLINE_H

#include "kernel/base.h"
#include "kernel/choices.h"

struct options {
#define OPTION(member, name, kind, initial, values, text) uint64_t member;
#include "kernel/options.def"
#undef OPTION
};

enum console_choice { CONSOLE_CHOICES(CHOICE_MEMBER) };
enum bitmap_policy { BITMAP_CHOICES(CHOICE_MEMBER) };
enum boot_option { BOOT_CHOICES(CHOICE_MEMBER) };
enum then_option { THEN_CHOICES(CHOICE_MEMBER) };
enum startup_option { STARTUP_CHOICES(CHOICE_MEMBER) };
enum gdb_choice { GDB_CHOICES(CHOICE_MEMBER) }; /* once parsed the UART's port, also of com2 */
enum dump_choice { DUMP_CHOICES(CHOICE_MEMBER) };
enum vmcs_shadowing { SHADOWING_CHOICES(CHOICE_MEMBER) };
enum virtual_vectoring { VECTORING_CHOICES(CHOICE_MEMBER) };
enum injected_fault { FAULT_CHOICES(CHOICE_MEMBER) };
enum quiet_fault { QUIET_CHOICES(CHOICE_MEMBER) };

/* Where a choice names an I/O port its member is the number, above any index; below this no card has its ports. */
#define OPTION_PORT_MIN 0x100u

/* The options in force: the defaults until start/ parsed the command line into it. */
extern struct options options;

/* True if quiet-fault= names this step, which is left out then: in the build CHECKED=1 alone, and in tests. */
#if defined(CHECKED) || defined(MUTANTS)
#define MUTANT(name) (options.quiet_fault == QUIET_FAULT_##name)
#else
#define MUTANT(name) false
#endif

/* Told of each line that the user should see: a warning (`error` false) or an error. */
typedef void (*cmdline_report_fn)(bool error, const char *text);

/* Reads "name=value" words, set apart by spaces, into *to, which holds the defaults or earlier values. An unknown name
 * is a warning that lists the known ones. A bad value is an error that names option, value and what is allowed, and
 * makes the result -1, when the caller ends the run; else 0. */
MUST_CHECK int cmdline_parse(const char *text, struct options *to, cmdline_report_fn report);

#endif
