/* A guest of a few instructions for trials before L1 runs. It is Nestor itself as far as registers and page tables go,
 * and has no EPT, so nothing is to be built for it; VMX operation is left again behind it, and L1 finds no trace.
 * The page allocator works; this processor is not in VMX operation, and can be.
 * vmx/probe and vmx/measure use it. */
#ifndef VMX_PROBE_GUEST_H
#define VMX_PROBE_GUEST_H

#include "vmx/caps.h"

/* One guest's life. */
struct probe_guest {
    hpa_t vmcs;
    bool launched;
};

/* VMX operation, and a VMCS that is current, with `proc` among its controls. False: no memory, or no VMX. */
MUST_CHECK bool probe_begin(struct probe_guest *probe, const struct vmx_caps *caps, uint32_t proc);
/* Leaves VMX operation again: nothing of the guest remains. */
void probe_end(struct probe_guest *probe);
/* Runs the guest from `code` on; the exit's whole reason field, or ~0 when it was not entered. Current: its VMCS. */
uint32_t probe_run(struct probe_guest *probe, const uint8_t *code, uint32_t activity);

/* vmx/probe.asm: true after an exit, which comes to probe_exit; the guests' code. */
bool probe_enter(bool launched);
extern const uint8_t probe_exit[], probe_guest_call[], probe_guest_spin[];
extern volatile uint8_t probe_guest_runs;

#endif
