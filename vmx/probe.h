/* Finds by trial what of VMX does not work on this CPU although its capability MSRs promise it: small guests that run
 * before L1 does.
 * The page allocator works; no processor is in VMX operation, and each is in IA32_FEATURE_CONTROL's VMX.
 * start/, once. */
#ifndef VMX_PROBE_H
#define VMX_PROBE_H

#include "kernel/percpu.h"
#include "vmx/caps.h"

/* True if the monitor trap flag ends a guest after its first instruction. SDM 3C 26.5.2 "Monitor Trap Flag" */
bool probe_monitor_trap(const struct vmx_caps *caps);

/* True if a guest may have bases as wide as the CPU's linear addresses whatever its CR4.LA57 is, as CPUs do. False only
 * on a CPU of more than 48 bits. SDM 3C 27.3.1.2 "Checks on Guest Segment Registers" */
bool probe_wide_bases(const struct vmx_caps *caps);

/* True if INIT and a start-up IPI are VM exits after which a guest goes on, found by sending them to the processor
 * `cpu`, which waits in probe_serve(). When they are not, that processor has left probe_serve() and VMX operation, if
 * it could, and must be started again. SDM 3C 26.2 "Other Causes of VM Exits" */
bool probe_startup(const struct cpu *cpu);
/* For the processor that waits: takes part if it is the one that was asked. */
void probe_serve(const struct vmx_caps *caps);

#endif
