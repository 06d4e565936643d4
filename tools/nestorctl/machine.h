/* Linux's view of the machine, for check and report: files below a root folder, which the tests replace by recorded
 * ones (the environment variable NESTORCTL_ROOT).
 * Nothing is written. */
#ifndef NESTORCTL_MACHINE_H
#define NESTORCTL_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define MACHINE_PATH 512

/* The file's name below the root, in a buffer that the next call uses again. */
const char *machine_path(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
bool machine_exists(const char *path);
/* The whole file, 0 at the end, allocated; NULL when it cannot be read. *size may be NULL. */
char *machine_read(const char *path, size_t *size);
/* Processors that are online: their numbers, at most `room`. */
unsigned machine_processors(unsigned *number, unsigned room);
/* An MSR of that processor; false when the driver msr is not loaded or the MSR is not there. A recorded machine has it
 * as the text of the file dev/cpu/N/msr: lines "NUMBER VALUE", both hexadecimal. */
bool machine_msr(unsigned processor, uint32_t msr, uint64_t *value);
/* The text behind "KEY : " of that processor in /proc/cpuinfo, allocated; NULL when there is none. */
char *machine_cpuinfo(unsigned processor, const char *key);
/* True if the word is in the text, set apart by spaces. */
bool machine_has_word(const char *text, const char *word);

#endif
