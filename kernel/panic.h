/* The end of a run, wanted or not, and the checks for Nestor's own mistakes.
 * Needs the log. No action of a guest may reach panic() or a failing ASSERT. In unit tests panic() fails the test.
 * Anyone may call these. */
#ifndef KERNEL_PANIC_H
#define KERNEL_PANIC_H

#include "kernel/base.h"
#include "kernel/choices.h"

/* The values of the option "on-exit". */
enum on_exit { ON_EXIT_CHOICES(CHOICE_MEMBER) };

#define STATUS_PANIC 125
#define STATUS_ENVIRONMENT 1 /* the machine, the options or L1's image are not what Nestor needs */

/* Prints "nestor: exit status N (reason)" and ends the run as the option "on-exit" says. */
NORETURN void machine_end(int status, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Registers what a run that ends does instead of what "on-exit" says, and does not come back; NULL: nothing. For a
 * start that can still be undone. */
void machine_on_refusal(void (*give_back)(const char *reason));
/* The first half of machine_end(): for when the machine is about to end by what L1 does. */
void machine_report(int status, const char *reason);
/* Registers what stops the other processors before that; it waits until they stand, or for a while. */
void machine_on_stop(void (*stop_others)(void));
/* Registers what is to be printed before that line; the last one registered wins. */
void machine_on_end(void (*print)(void));
/* Registers who else is to learn the status, behind it. */
void machine_on_status(void (*tell)(int status));
/* machine_end() with STATUS_PANIC, after the last trace records. */
NORETURN void panic(const char *fmt, ...) PRINTF_LIKE(1, 2);

#define ASSERT(condition)                                                                                              \
    do {                                                                                                               \
        if (__builtin_expect(!(condition), 0))                                                                         \
            panic("%s:%d: assertion failed: %s", __FILE__, __LINE__, #condition);                                      \
    } while (0)

#endif
