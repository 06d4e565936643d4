/* Exits for which L0 has no handler: reasons newer than Nestor, instructions that exit whatever the controls say,
 * and what a CPU makes of a control that Nestor never sets. Each must leave the guest in a state that a CPU could
 * have left it in, as nobody can say that such an exit will not come: an instruction becomes #UD, as on a CPU that
 * does not have it, and after an event the guest just goes on. SDM 3D C "VMX Basic Exit Reasons" */
#include "kernel/log.h"
#include "vmx/event.h"
#include "vmx/exit_handlers.h"
#include "vmx/exit_names.h"
#include "vmx/vmcs_setup.h"

static const uint8_t causes[EXIT_REASON_COUNT] = {
#define REASON(name, number, printable, cause, ...) [number] = EXIT_CAUSE_##cause,
#include "vmx/exit_reasons.def"
#undef REASON
};

enum exit_cause exit_cause(uint32_t reason)
{
    return reason < EXIT_REASON_COUNT ? (enum exit_cause)causes[reason] : EXIT_CAUSE_INSTRUCTION;
}

/* One line for each reason of a virtual processor; numbers beyond the last word share a bit. */
static void tell_once(struct vcpu *vcpu, const char *what)
{
    const unsigned bits = 64 * ARRAY_SIZE(vcpu->unasked_told);
    unsigned bit = MIN(vcpu->exit.reason, bits - 1);
    if (vcpu->unasked_told[bit / 64] & BIT(bit % 64))
        return;
    vcpu->unasked_told[bit / 64] |= BIT(bit % 64);
    log_warn("vmx", "%s exit %u (%s) that Nestor did not ask for, rip=%lx: %s", vcpu->in_l2 ? "L2" : "L1",
             vcpu->exit.reason, exit_reason_name(vcpu->exit.reason), vcpu->exit.rip, what);
}

void exit_unasked(struct vcpu *vcpu)
{
    EXPECT_GUEST(vcpu);
    if (exit_cause(vcpu->exit.reason) == EXIT_CAUSE_EVENT) {
        tell_once(vcpu, "the guest goes on");
        return;
    }
    tell_once(vcpu, "the guest gets #UD, as on a CPU without the instruction");
    event_inject_ud(vcpu);
}
