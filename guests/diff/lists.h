/* The three MSR lists: entries that work, and for the list of VM entry some that do not (an exit's would end L1).
 * After base_init(). Each gives the count of entries. */
#ifndef GUESTS_DIFF_LISTS_H
#define GUESTS_DIFF_LISTS_H

#include "kernel/base.h"

unsigned lists_fill_entry_load(void);
unsigned lists_fill_exit_store(void);
unsigned lists_fill_exit_load(void);
/* The values that the exit stored. */
void lists_report(unsigned stored);
/* The list of VM entry, as a remark. */
void lists_note(void);

#endif
