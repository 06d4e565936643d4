/* The refusal of a CPU that is too old, by name: with a row missing Nestor does not start, and says which. Each row is
 * one that no software can stand in for; whatever Nestor merely likes to have (VPID, VMCS shadowing, posted interrupts)
 * is asked where it is used. */
#include "vmx/caps.h"
#include "vmx/vmx_bits.h"

/* The features that Nestor itself needs, as rows. A feature whose MSR is absent reads as zero, so that the row of the
 * control that brings it (secondary controls, EPT) comes first and is the one named. */
enum source { FROM_PIN, FROM_PROC, FROM_PROC2, FROM_EXIT, FROM_ENTRY, FROM_EPT_VPID };

static const struct need {
    const char *name;
    enum source source;
    uint64_t bits;
} needs[] = {
    {"NMI exiting", FROM_PIN, PIN_NMI},
    {"virtual NMIs", FROM_PIN, PIN_VIRTUAL_NMIS},
    {"NMI-window exiting", FROM_PROC, PROC_NMI_WINDOW},
    {"I/O bitmaps", FROM_PROC, PROC_USE_IO_BITMAPS},
    {"MSR bitmaps", FROM_PROC, PROC_USE_MSR_BITMAPS},
    {"secondary processor-based controls", FROM_PROC, PROC_SECONDARY},
    {"EPT", FROM_PROC2, PROC2_EPT},
    {"unrestricted guest", FROM_PROC2, PROC2_UNRESTRICTED},
    {"4-level EPT", FROM_EPT_VPID, EPT_CAP_WALK4},
    {"write-back EPT structures", FROM_EPT_VPID, EPT_CAP_WB},
    {"2-MByte EPT pages", FROM_EPT_VPID, EPT_CAP_2M},
    {"INVEPT, single-context and all-context", FROM_EPT_VPID,
     EPT_CAP_INVEPT | EPT_CAP_INVEPT_SINGLE | EPT_CAP_INVEPT_ALL},
    {"64-bit host", FROM_EXIT, EXITC_HOST_64},
    {"saving and loading IA32_EFER at VM exit", FROM_EXIT, EXITC_SAVE_EFER | EXITC_LOAD_EFER},
    {"saving and loading IA32_PAT at VM exit", FROM_EXIT, EXITC_SAVE_PAT | EXITC_LOAD_PAT},
    {"64-bit guests", FROM_ENTRY, ENTRY_GUEST_64},
    {"loading IA32_EFER at VM entry", FROM_ENTRY, ENTRY_LOAD_EFER},
    {"loading IA32_PAT at VM entry", FROM_ENTRY, ENTRY_LOAD_PAT},
};

/* The first row that fails. One name is enough: on a CPU without EPT, say, all rows below it would fail as well. */
const char *caps_missing(const struct vmx_caps *caps)
{
    const uint64_t has[] = {
        [FROM_PIN] = caps->pin.may,   [FROM_PROC] = caps->proc.may,   [FROM_PROC2] = caps->proc2.may,
        [FROM_EXIT] = caps->exit.may, [FROM_ENTRY] = caps->entry.may, [FROM_EPT_VPID] = caps->ept_vpid,
    };

    for (unsigned i = 0; i < ARRAY_SIZE(needs); i++)
        if ((has[needs[i].source] & needs[i].bits) != needs[i].bits)
            return needs[i].name;
    return NULL;
}
