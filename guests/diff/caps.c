#include "guests/diff/caps.h"

#include "guests/lib/console.h"
#include "guests/lib/cpu.h"

struct caps caps;

static void read_cpu(void)
{
    caps.pin = vmx_control_caps(PIN_CONTROLS);
    caps.proc = vmx_control_caps(PROC_CONTROLS);
    caps.exit = vmx_control_caps(EXIT_CONTROLS);
    caps.entry = vmx_control_caps(ENTRY_CONTROLS);
    if (caps.proc.may & PROC_SECONDARY)
        caps.proc2 = vmx_control_caps(PROC2_CONTROLS);
    if (caps.proc2.may & (PROC2_EPT | PROC2_VPID))
        caps.ept_vpid = vmx_ept_vpid_cap();
    if (caps.proc2.may & PROC2_VMFUNC)
        caps.vmfunc = cpu_rdmsr(IA32_VMX_VMFUNC);
    if (caps.proc.may & PROC_TERTIARY)
        caps.proc3 = cpu_rdmsr(IA32_VMX_PROCBASED_CTLS3);
    if (caps.exit.may & EXITC_SECONDARY)
        caps.exit2 = cpu_rdmsr(IA32_VMX_EXIT_CTLS2);
    if (!(caps.ept_vpid & EPT_CAP_ADVANCED_INFO)) /* BOCHS 21: 2.7 caches what it permits for the whole page */
        caps.proc2.may &= ~(uint32_t)PROC2_SPP;
    caps.basic = cpu_rdmsr(IA32_VMX_BASIC);
    caps.misc = cpu_rdmsr(IA32_VMX_MISC);
    caps.cr0_fixed0 = cpu_rdmsr(IA32_VMX_CR0_FIXED0);
    caps.cr4_fixed0 = cpu_rdmsr(IA32_VMX_CR4_FIXED0);
    caps.cr4_fixed1 = cpu_rdmsr(IA32_VMX_CR4_FIXED1);
    caps.physical_bits = cpu_physical_bits();
}

static uint64_t pack(struct vmx_control_caps controls)
{
    return controls.must | (uint64_t)controls.may << 32;
}

static void to_words(uint64_t words[CAPS_WORDS])
{
    words[0] = pack(caps.pin);
    words[1] = pack(caps.proc);
    words[2] = pack(caps.proc2);
    words[3] = pack(caps.exit);
    words[4] = pack(caps.entry);
    words[5] = caps.ept_vpid;
    words[6] = caps.misc;
    words[7] = caps.vmfunc;
    words[8] = caps.proc3;
    words[9] = caps.exit2;
}

void caps_print(void)
{
    uint64_t words[CAPS_WORDS];

    to_words(words);
    print("caps=");
    for (unsigned i = 0; i < CAPS_WORDS; i++)
        print("%s%lx", i ? "," : "", words[i]);
    print("\n");
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool parse(const char *list, uint64_t words[CAPS_WORDS])
{
    unsigned n = 0;

    words[0] = 0;
    for (; *list && *list != ' '; list++) {
        if (*list != ',')
            words[n] = words[n] << 4 | (unsigned)hex_digit(*list);
        else if (++n == CAPS_WORDS)
            return false;
        else
            words[n] = 0;
    }
    return n == CAPS_WORDS - 1;
}

static void cut(struct vmx_control_caps *controls, uint64_t word)
{
    controls->must |= (uint32_t)word;
    controls->may &= (uint32_t)(word >> 32);
}

bool caps_init(const char *list)
{
    uint64_t words[CAPS_WORDS];

    read_cpu();
    if (!list)
        return true;
    if (!parse(list, words))
        return false;
    cut(&caps.pin, words[0]);
    cut(&caps.proc, words[1]);
    cut(&caps.proc2, words[2]);
    cut(&caps.exit, words[3]);
    cut(&caps.entry, words[4]);
    caps.ept_vpid &= words[5];
    caps.misc &= words[6];
    caps.vmfunc &= words[7];
    caps.proc3 &= words[8];
    caps.exit2 &= words[9];
    return true;
}

const struct vmx_control_caps *caps_of(enum vmcs_field controls)
{
    switch (controls) {
    case PIN_CONTROLS:
        return &caps.pin;
    case PROC_CONTROLS:
        return &caps.proc;
    case PROC2_CONTROLS:
        return &caps.proc2;
    case EXIT_CONTROLS:
        return &caps.exit;
    default:
        return &caps.entry;
    }
}

bool caps_have(enum vmcs_field controls, uint64_t bits)
{
    switch (controls) {
    case PROC3_CONTROLS:
        return (caps.proc3 & bits) == bits;
    case EXIT2_CONTROLS:
        return (caps.exit2 & bits) == bits;
    default:
        return (caps_of(controls)->may & bits) == bits;
    }
}
