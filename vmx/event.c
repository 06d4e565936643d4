#include "vmx/event.h"

#include "kernel/percpu.h"
#include "kernel/x86.h"
#include "vmx/hooks.h"
#include "vmx/run.h"

bool event_has_error_code(unsigned vector)
{
    const uint32_t with_code = 1u << VECTOR_DF | 1u << VECTOR_TS | 1u << VECTOR_NP | 1u << VECTOR_SS | 1u << VECTOR_GP |
                               1u << VECTOR_PF | 1u << VECTOR_AC | 1u << VECTOR_CP;
    return vector < 32 && (with_code >> vector & 1);
}

void event_inject_fault(struct vcpu *vcpu, unsigned vector, uint32_t error_code)
{
    uint32_t info = (uint32_t)(INTR_VALID | PUT(INTR_TYPE_HARD_EXCEPTION, INTR_TYPE) | vector);
    /* Real-address mode pushes no error codes, and the entry checks refuse one there. */
    if (event_has_error_code(vector) && (vmcs_read(GUEST_CR0) & CR0_PE))
        info |= INTR_ERROR_CODE;
    vcpu->inject_info = info;
    vcpu->inject_error_code = error_code;
    vcpu->inject_length = 0;
    vcpu->inject_is_fault = true;
    /* The flags that a fault pushes have RF set; an injected one pushes what the field says. #DB here is a trap.
     * SDM 3B 18.3.1.1 "Instruction-Breakpoint Exception Condition" */
    if (vector != VECTOR_DB)
        vmcs_write(GUEST_RFLAGS, vmcs_read(GUEST_RFLAGS) | RFLAGS_RF);
}

void event_inject_ud(struct vcpu *vcpu)
{
    event_inject_fault(vcpu, VECTOR_UD, 0);
}

void event_inject_gp(struct vcpu *vcpu, uint32_t error_code)
{
    event_inject_fault(vcpu, VECTOR_GP, error_code);
}

void event_inject(struct vcpu *vcpu, const struct fault *fault)
{
    vcpu->inject_address = fault->address;
    event_inject_fault(vcpu, fault->vector, fault->error_code);
}

/* An NMI that was under way blocks further NMIs already; it is sent again, so blocking must go (SDM 3C 28.2.4). */
static void event_unblock_nmi(void)
{
    uint32_t state = vmcs_read(GUEST_INTERRUPTIBILITY);
    if (state & BLOCKING_BY_NMI)
        vmcs_write(GUEST_INTERRUPTIBILITY, state & ~(uint32_t)BLOCKING_BY_NMI);
}

void event_requeue(struct vcpu *vcpu)
{
    uint32_t info = vcpu->exit.idt_vectoring_info;
    if (!(info & INTR_VALID))
        return;
    vcpu->inject_info = info & ~(uint32_t)INTR_NMI_UNBLOCKING;
    vcpu->inject_is_fault = false;
    vcpu->inject_error_code = info & INTR_ERROR_CODE ? vcpu->exit.idt_vectoring_error_code : 0;
    vcpu->inject_length = vcpu->exit.instruction_length;
    if (GET(info, INTR_TYPE) == INTR_TYPE_NMI)
        event_unblock_nmi();
    /* The CPU model says "error code valid" in real-address mode too; an entry would be refused. */
    if (!(vmcs_read(GUEST_CR0) & CR0_PE))
        vcpu->inject_info &= ~(uint32_t)INTR_ERROR_CODE;
}

static void event_write(struct vcpu *vcpu)
{
    uint32_t info = vcpu->inject_info;
    unsigned type = (unsigned)GET(info, INTR_TYPE);
    vmcs_write(ENTRY_INTERRUPTION_INFO, info);
    if (info & INTR_ERROR_CODE)
        vmcs_write(ENTRY_EXCEPTION_ERROR_CODE, vcpu->inject_error_code);
    if (type >= INTR_TYPE_SOFT_INTERRUPT && type <= INTR_TYPE_SOFT_EXCEPTION)
        vmcs_write(ENTRY_INSTRUCTION_LENGTH, vcpu->inject_length);
    if (vcpu->inject_is_fault && GET(info, INTR_VECTOR) == VECTOR_PF)
        write_cr2(vcpu->inject_address);
    trace(TRACE_INJECT, info, vcpu->inject_error_code);
    vcpu->inject_info = 0;
    vcpu->inject_is_fault = false;
}

void event_recall(struct vcpu *vcpu)
{
    uint32_t info = vmcs_read(ENTRY_INTERRUPTION_INFO);
    if (!(info & INTR_VALID))
        return;
    vcpu->inject_info = info;
    vcpu->inject_is_fault = false; /* CR2 is loaded already */
    vcpu->inject_error_code = vmcs_read(ENTRY_EXCEPTION_ERROR_CODE);
    vcpu->inject_length = vmcs_read(ENTRY_INSTRUCTION_LENGTH);
    vmcs_write(ENTRY_INTERRUPTION_INFO, 0);
}

static void event_set_nmi_window(struct vcpu *vcpu, bool on)
{
    uint32_t controls = vmcs_read(PROC_CONTROLS);
    vmcs_write(PROC_CONTROLS, (uint32_t)(on ? controls | PROC_NMI_WINDOW : controls & ~PROC_NMI_WINDOW));
    vcpu->nmi_window = on;
}

void event_cancel_nmi_window(struct vcpu *vcpu)
{
    event_set_nmi_window(vcpu, false);
}

void event_restore_nmi_blocking(const struct vcpu *vcpu)
{
    if ((vcpu->exit.qualification & EPT_QUAL_NMI_UNBLOCKING) && !(vcpu->exit.idt_vectoring_info & INTR_VALID))
        vmcs_write(GUEST_INTERRUPTIBILITY, (uint32_t)(vmcs_read(GUEST_INTERRUPTIBILITY) | BLOCKING_BY_NMI));
}

/* A pending NMI goes in when nothing blocks it, else its window is asked for. */
static void event_prepare_nmi(struct vcpu *vcpu)
{
    const uint32_t blockers = BLOCKING_BY_NMI | BLOCKING_BY_MOV_SS | BLOCKING_BY_STI;
    if (vcpu->in_l2 && nested_hooks.nmi_to_l1(vcpu))
        return;
    if (vcpu->inject_info || (vmcs_read(GUEST_INTERRUPTIBILITY) & blockers)) {
        if (!vcpu->nmi_window)
            event_set_nmi_window(vcpu, true);
        return;
    }
    vcpu->cpu->nmi_seen = false;
    count(COUNT_NMIS);
    vcpu->inject_info = (uint32_t)(INTR_VALID | PUT(INTR_TYPE_NMI, INTR_TYPE) | VECTOR_NMI);
    if (vcpu->nmi_window)
        event_set_nmi_window(vcpu, false);
}

void event_prepare(struct vcpu *vcpu)
{
    if (__builtin_expect(vcpu->cpu->nmi_seen, 0))
        event_prepare_nmi(vcpu);
    if (vcpu->inject_info)
        event_write(vcpu);
}
