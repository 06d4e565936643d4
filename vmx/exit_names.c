/* The names are a column of vmx/exit_reasons.def, so a new reason is one row there and no list has to be kept in
 * step. Reasons that the SDM leaves out, and numbers beyond the last row, are "?". SDM 3D C "VMX Basic Exit Reasons" */
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
