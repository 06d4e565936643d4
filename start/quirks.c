#include "start/quirks.h"

#include "boot/in_place.h"
#include "kernel/cmdline.h"
#include "kernel/log.h"
#include "start/machine.h"
#include "vmx/inspect.h"
#include "vmx/probe.h"
#include "vmx/vmx_bits.h"

/* A firmware that L1 goes on with. Then the bit cannot be hidden. */
static bool pages_by_5_levels(void)
{
    const struct in_place_state *present = l1_plan_space.start.present;

    return present && (present->cr4 & CR4_LA57);
}

void quirks_find(void)
{
    bool trap_broken = (l1_vm.caps.proc.may & PROC_MONITOR_TRAP) && !probe_monitor_trap(&l1_vm.caps);
    l1_vm.apic_stays_on = l1_vm.apic_is_final = !options.apic_disable;
    l1_vm.cpuid.x2apic_broken = !options.x2apic;
    l1_vm.cpuid.hyperv = options.evmcs;
    if (!options.posted_interrupts) {
        l1_vm.caps.pin.may &= ~(uint32_t)PIN_POSTED_INTERRUPTS;
        l1_vm.caps.old_pin.may &= ~(uint32_t)PIN_POSTED_INTERRUPTS;
    }
    if (trap_broken) {
        log_info("quirks", "the monitor trap flag does nothing here: it is not used, and not offered to L1");
        l1_vm.caps.proc.may &= ~(uint32_t)PROC_MONITOR_TRAP;
        l1_vm.caps.old_proc.may &= ~(uint32_t)PROC_MONITOR_TRAP;
    }
    l1_vm.cpuid.la57_broken = !options.la57 && !pages_by_5_levels() && !probe_wide_bases(&l1_vm.caps);
    if (l1_vm.cpuid.la57_broken) {
        log_info("quirks", "5-level paging is hidden from L1: bases are not judged by the CPU's width here");
        l1_vm.caps.linear_bits = CAPS_LINEAR_BITS_4_LEVEL;
    }
    inspect_say("quirks", "%s%s%s%s%s%s", l1_vm.apic_is_final ? "L1's APIC stays on; " : "",
                options.x2apic ? "" : "L1 sees no x2APIC; ", options.posted_interrupts ? "" : "no posted interrupts; ",
                trap_broken ? "no monitor trap flag; " : "", l1_vm.cpuid.la57_broken ? "no 5-level paging; " : "",
                "see also the log");
}
