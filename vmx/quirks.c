#include "vmx/quirks.h"

#include "kernel/string.h"

#define RSDP_OEM_ID 9
#define LEAF1_ECX_HYPERVISOR BIT(31)

static bool is_bochs(const uint8_t *rsdp, struct cpuid_result leaf1)
{
    return rsdp && !memcmp(rsdp + RSDP_OEM_ID, "BOCHS ", 6) && !(leaf1.ecx & LEAF1_ECX_HYPERVISOR);
}

struct quirks quirks_choose(enum quirks_option option, const uint8_t *rsdp, struct cpuid_result leaf1)
{
    bool bochs = option == QUIRKS_BOCHS || (option == QUIRKS_AUTO && is_bochs(rsdp, leaf1));
    return (struct quirks){.apic_enable_sticks = bochs, .init_exit_sticks = bochs};
}
