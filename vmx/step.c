#include "vmx/step.h"

#include "kernel/layout.h"
#include "kernel/string.h"

/* Units that the guest gets. One may pass before the first instruction completes, which costs only another
 * violation. SDM 3C 26.5.1 "VMX-Preemption Timer" */
#define STEP_TIMER 2u

void step_begin(struct vcpu *vcpu, uint64_t *entry)
{
    uint32_t pin = vmcs_read(PIN_CONTROLS);
    count(COUNT_CARVEOUT_HITS);
    __atomic_store_n(entry, *entry | EPT_W, __ATOMIC_RELEASE);
    vcpu->step.entry = entry;
    vcpu->step.pin_controls = pin;
    if (!(vcpu->vm->caps.pin.may & PIN_PREEMPTION_TIMER))
        return; /* the page closes at the next exit, whenever that is */
    if (pin & PIN_PREEMPTION_TIMER)
        vcpu->step.timer = vmcs_read(PREEMPTION_TIMER);
    vmcs_write(PIN_CONTROLS, (uint32_t)(pin | PIN_PREEMPTION_TIMER));
    vmcs_write(PREEMPTION_TIMER, STEP_TIMER);
}

bool step_end(struct vcpu *vcpu)
{
    struct ept *ept = &vcpu->vm->ept01;
    uint64_t *entry = vcpu->step.entry;
    vcpu->step.entry = NULL;
    __atomic_store_n(entry, *entry & ~EPT_W, __ATOMIC_RELEASE);
    memset(hpa_to_va(ept->ones_page), 0xff, PAGE_SIZE);
    __atomic_fetch_add(&ept->generation, 1, __ATOMIC_RELEASE);
    vmcs_write(PIN_CONTROLS, vcpu->step.pin_controls);
    if (vcpu->step.pin_controls & PIN_PREEMPTION_TIMER)
        vmcs_write(PREEMPTION_TIMER, vcpu->step.timer);
    return vcpu->exit.reason == EXIT_PREEMPTION_TIMER;
}
