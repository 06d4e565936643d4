#include "vmx/exit_names.h"

#include "vmx/vmx_bits.h"

static const char *const names[EXIT_REASON_COUNT] = {
#define REASON(name, number, printable, ...) [number] = (printable),
#include "vmx/exit_reasons.def"
#undef REASON
};

const char *exit_reason_name(uint32_t reason)
{
    return reason < ARRAY_SIZE(names) && names[reason] ? names[reason] : "?";
}
