/* Printable names of the basic exit reasons, from vmx/exit_reasons.def.
 * Pure.
 * Logs, the summary and dumps use it. */
#ifndef VMX_EXIT_NAMES_H
#define VMX_EXIT_NAMES_H

#include <stdint.h>

/* Of a basic reason (bits 15:0); "?" when the list has none. */
const char *exit_reason_name(uint32_t reason);

#endif
