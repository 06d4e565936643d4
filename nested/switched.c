#include "nested/switched.h"

#include "kernel/msr.h"
#include "kernel/safe.h"
#include "vmx/vmcs_setup.h"

#define NO_HOST FIELD_COUNT /* an exit makes it 0 */

/* Each exit saves them. */
static const struct {
    uint32_t entry, exit; /* controls */
    uint8_t guest, host;  /* rows */
} registers[SWITCHED_COUNT] = {
    {ENTRY_LOAD_CET, EXITC_LOAD_CET, FIELD_INDEX_GUEST_S_CET, FIELD_INDEX_HOST_S_CET},
    {ENTRY_LOAD_CET, EXITC_LOAD_CET, FIELD_INDEX_GUEST_SSP, FIELD_INDEX_HOST_SSP},
    {ENTRY_LOAD_CET, EXITC_LOAD_CET, FIELD_INDEX_GUEST_SSP_TABLE, FIELD_INDEX_HOST_SSP_TABLE},
    {ENTRY_LOAD_PKRS, EXITC_LOAD_PKRS, FIELD_INDEX_GUEST_PKRS, FIELD_INDEX_HOST_PKRS},
    {ENTRY_LOAD_UINV, EXITC_CLEAR_UINV, FIELD_INDEX_GUEST_UINV, NO_HOST},
};

/* Both are computed when L1 wrote a control, kept in the slot, and for nearly all L1s 0. */
uint8_t switched_needs(const struct vmcs12 *v)
{
    bool loads_perf = (v->ENTRY_CONTROLS & ENTRY_LOAD_PERF_GLOBAL) != 0;
    bool changes_perf = (v->EXIT_CONTROLS & EXITC_LOAD_PERF_GLOBAL) != 0;
    bool saves_perf = (v->EXIT_CONTROLS & EXITC_SAVE_PERF_GLOBAL) != 0;
    return loads_perf != changes_perf || (loads_perf && !saves_perf) ? AT_ENTRY_PERF : 0;
}

bool switched_exits_by_hand(const struct vmcs12 *v)
{
    for (unsigned i = 0; i < SWITCHED_COUNT; i++)
        if ((v->EXIT_CONTROLS & registers[i].exit) && !(v->ENTRY_CONTROLS & registers[i].entry))
            return true;
    return vmcs12_loads_spec_ctrl(v);
}

/* vmcs02 saves and loads it for itself, see merge_controls(). */
void switched_prepare(const struct vmcs12 *v)
{
    uint64_t value = v->GUEST_PERF_GLOBAL_CTRL;
    if ((v->ENTRY_CONTROLS & ENTRY_LOAD_PERF_GLOBAL) || rdmsr_safe(IA32_PERF_GLOBAL_CTRL, &value))
        vmcs_write(GUEST_PERF_GLOBAL_CTRL, value);
}

/* The register itself: no entry of L1 loads it. */
static void perf_by_hand(const struct vmcs12 *v, bool entered)
{
    if (v->EXIT_CONTROLS & EXITC_LOAD_PERF_GLOBAL)
        (void)!wrmsr_safe(IA32_PERF_GLOBAL_CTRL, v->HOST_PERF_GLOBAL_CTRL);
    else if (entered && (v->ENTRY_CONTROLS & ENTRY_LOAD_PERF_GLOBAL))
        (void)!wrmsr_safe(IA32_PERF_GLOBAL_CTRL, vmcs_read(GUEST_PERF_GLOBAL_CTRL));
}

/* The CPU changes these registers in an exit that it makes, unless only exits do. Such an exit, one that Nestor makes
 * up, or an entry that fails on the way, finds them as L2 had them; L1's next entry loads what the exit should have
 * loaded. */
void switched_by_hand(struct nested *nested, struct vmcs12_slot *slot, bool entered)
{
    EXPECT_CURRENT(slot->vmcs02);
    const struct vmcs12 *v = slot->v;
    uint32_t due = 0;
    for (unsigned i = 0; i < SWITCHED_COUNT; i++) {
        if (!(v->EXIT_CONTROLS & registers[i].exit) && !(entered && (v->ENTRY_CONTROLS & registers[i].entry)))
            continue;
        due |= registers[i].entry;
        nested->switched[i] = vmcs_read_encoding(vmcs_fields[registers[i].guest].encoding);
    }
    perf_by_hand(v, entered);
    /* vmcs02's exits leave it alone: after one that Nestor handles L2 must find its own, and no entry would load it. */
    if (vmcs12_loads_spec_ctrl(v))
        (void)!wrmsr_safe(IA32_SPEC_CTRL, v->HOST_SPEC_CTRL);
    nested->switched_due = due;
    if (due)
        slot->host.ready = false;
}

uint32_t switched_load(struct nested *nested, const struct vmcs12 *v)
{
    EXPECT_CURRENT(nested->vcpu->vmcs01);
    uint32_t due = nested->switched_due;
    nested->switched_due = 0;
    for (unsigned i = 0; i < SWITCHED_COUNT; i++) {
        uint64_t value = nested->switched[i];
        if (!(due & registers[i].entry))
            continue;
        if (v->EXIT_CONTROLS & registers[i].exit)
            value = registers[i].host == NO_HOST ? 0 : v->field[registers[i].host];
        vmcs_write_encoding(vmcs_fields[registers[i].guest].encoding, value);
    }
    return due;
}
