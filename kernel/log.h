/* Nestor's log: one line a call, to the memory ring always and to the consoles when the level allows it.
 * log_init() first for the consoles; the ring works from the first instruction on.
 * Anyone may log, but not on hot paths: those write kernel/trace.h. */
#ifndef KERNEL_LOG_H
#define KERNEL_LOG_H

#include "boot/bootinfo.h"
#include "kernel/base.h"
#include "kernel/choices.h"
#include "kernel/log_ring.h"

/* Also the values of the option "log". */
enum log_level { LOG_CHOICES(CHOICE_MEMBER) };

#define log_err(subsys, ...) log_line(LOG_ERR, subsys, __VA_ARGS__)
#define log_warn(subsys, ...) log_line(LOG_WARN, subsys, __VA_ARGS__)
#define log_info(subsys, ...) log_line(LOG_INFO, subsys, __VA_ARGS__)
#define log_dbg(subsys, ...) log_line(LOG_DBG, subsys, __VA_ARGS__)

/* All lines, also those that no console shows; vmx/inspect lets L1 read them, a debugger or a memory dump can. */
extern struct log_ring log_ring;
/* The log of the run before, if it is still in RAM. */
extern struct log_text log_previous;

#if __STDC_HOSTED__
/* Unit tests look at results, not at the log. */
static inline PRINTF_LIKE(3, 4) void log_line(enum log_level level, const char *subsys, const char *fmt, ...)
{
    (void)level, (void)subsys, (void)fmt;
}
static inline PRINTF_LIKE(1, 2) void log_raw(const char *fmt, ...)
{
    (void)fmt;
}
#else
/* Prints "nestor: subsys: text". */
void log_line(enum log_level level, const char *subsys, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Prints the text alone as one line, at every level: banner and tables. */
void log_raw(const char *fmt, ...) PRINTF_LIKE(1, 2);
/* Lines go there alone, and to no console; NULL: as usual. */
void log_redirect(void (*to)(const char *line, size_t length));
/* Finds the serial ports at the usual addresses. */
void log_init(void);
/* The screen that the loader named, whose pixels lie at `pixels`; VGA's text screen where it is none of pixels. What
 * was said before goes there, too. */
void log_screen(const struct boot_framebuffer *screen, void *pixels);
/* True if there is a screen that the log can be read from at the end. */
bool log_has_screen(void);
/* The options are known: the same for the serial port that they name. */
void log_options(void);
/* Nestor's memory is going to be [start, start + size), and may have been it before the reset: looks for the log of
 * that run. Before anything is written there. */
void log_find_previous(void *start, uint64_t size);
/* L1 takes its devices over: from here on only the console of the option "console" is written. */
void log_l1_starts(void);
/* From here on without the lock, and with all text on the line when a call returns: this processor may have died while
 * it held the lock, and the machine is about to end. The screen is Nestor's again. */
void log_machine_ends(void);
#endif

#endif
