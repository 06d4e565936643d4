/* Getting an event into a guest exactly once. Whatever wants to inject something, a fault that L0 found, an event
 * that an exit interrupted, an event of L1 for L2, an NMI, leaves it in vcpu->inject_info; event_prepare() alone
 * writes it to the VMCS, just before the entry. If an NMI comes behind that, event_recall() takes it back. So an
 * entry that does not happen loses nothing, and one that happens delivers nothing twice. SDM 3C 25.8.3 "VM-Entry
 * Controls for Event Injection" */
#include "vmx/event.h"

#include "kernel/cmdline.h"
#include "kernel/percpu.h"
#include "kernel/x86.h"
#include "vmx/hooks.h"
#include "vmx/refusal.h"
#include "vmx/run.h"
#include "vmx/step.h"

/* #DF, #TS, #NP, #SS, #GP, #PF, #AC and #CP. SDM 3A 6.15 "Exception and Interrupt Reference" */
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
    vcpu->debug_hits = 0; /* the instruction did not complete */
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
    if (fault->vector == VECTOR_GP || fault->vector == VECTOR_SS)
        refusal_log(vcpu, REFUSAL_OPERAND, fault->error_code, 0);
    if (fault->vector == VECTOR_TS || fault->vector == VECTOR_NP)
        refusal_log(vcpu, REFUSAL_TASK, fault->error_code, 0);
    event_inject_fault(vcpu, fault->vector, fault->error_code);
}

/* An entry that injects an NMI must not block NMIs: one that was under way when it was interrupted does already, and
 * without virtual NMIs of its own L1 may ask for both. SDM 3C 27.3.1.5 "Checks on Guest Non-Register State" */
static void event_unblock_nmi(void)
{
    uint32_t state = vmcs_read(GUEST_INTERRUPTIBILITY);
    if (state & BLOCKING_BY_NMI)
        vmcs_write(GUEST_INTERRUPTIBILITY, state & ~(uint32_t)BLOCKING_BY_NMI);
}

/* SDM 3C 28.2.4 "Information for VM Exits During Event Delivery" */
void event_requeue(struct vcpu *vcpu)
{
    uint32_t info = vcpu->exit.idt_vectoring_info;
    if (!(info & INTR_VALID))
        return;
    /* Bit 12 is undefined in what an exit reports, and must be 0 in what an entry injects. */
    vcpu->inject_info = info & ~(uint32_t)INTR_NMI_UNBLOCKING;
    vcpu->inject_is_fault = false;
    vcpu->inject_error_code = info & INTR_ERROR_CODE ? vcpu->exit.idt_vectoring_error_code : 0;
    vcpu->inject_length = vcpu->exit.instruction_length;
    /* The CPU model says "error code valid" in real-address mode too; an entry would be refused. */
    if (!(vmcs_read(GUEST_CR0) & CR0_PE))
        vcpu->inject_info &= ~(uint32_t)INTR_ERROR_CODE;
}

/* Moves the queued event into the VMCS: the CPU delivers it behind the entry. */
static void event_write(struct vcpu *vcpu)
{
    uint32_t info = vcpu->inject_info;
    unsigned type = (unsigned)GET(info, INTR_TYPE);
    vmcs_write(ENTRY_INTERRUPTION_INFO, info);
    if (info & INTR_ERROR_CODE)
        vmcs_write(ENTRY_EXCEPTION_ERROR_CODE, vcpu->inject_error_code);
    /* A software event pushes the address behind its instruction, so its length counts. */
    if (type >= INTR_TYPE_SOFT_INTERRUPT && type <= INTR_TYPE_SOFT_EXCEPTION)
        vmcs_write(ENTRY_INSTRUCTION_LENGTH, vcpu->inject_length);
    if (type == INTR_TYPE_NMI)
        event_unblock_nmi();
    if (vcpu->inject_is_fault && GET(info, INTR_VECTOR) == VECTOR_PF)
        write_cr2(vcpu->inject_address);
    trace(TRACE_INJECT, info, vcpu->inject_error_code);
    vcpu->l2_event_written |= vcpu->in_l2;
    vcpu->inject_info = 0;
    vcpu->inject_is_fault = false;
}

/* Takes an event back that was written but not yet delivered, as an NMI came in between. */
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

/* A window that L1 asked for in the same VMCS is L1's: it opens for both, and stays. */
static void event_open_nmi_window(struct vcpu *vcpu)
{
    uint32_t controls = vmcs_read(PROC_CONTROLS);
    if ((controls & PROC_NMI_WINDOW) && options.fault != FAULT_DROP_NMI_WINDOW)
        return;
    vmcs_write(PROC_CONTROLS, (uint32_t)(controls | PROC_NMI_WINDOW));
    vcpu->nmi_window = true;
}

/* Before another VMCS becomes current: the wish was written to this one. */
void event_cancel_nmi_window(struct vcpu *vcpu)
{
    vmcs_write(PROC_CONTROLS, (uint32_t)(vmcs_read(PROC_CONTROLS) & ~PROC_NMI_WINDOW));
    vcpu->nmi_window = false;
}

/* An IRET of the guest had ended the blocking when it faulted: it did not complete, so NMIs are blocked again. Only
 * where no event was interrupted. SDM 3C 28.2.3 */
void event_restore_nmi_blocking(const struct vcpu *vcpu)
{
    if ((vcpu->exit.qualification & EPT_QUAL_NMI_UNBLOCKING) && !(vcpu->exit.idt_vectoring_info & INTR_VALID))
        vmcs_write(GUEST_INTERRUPTIBILITY, (uint32_t)(vmcs_read(GUEST_INTERRUPTIBILITY) | BLOCKING_BY_NMI));
}

/* Looks at the pending NMI again after the event that is about to be injected. Without a timer that is when L2 lets
 * NMIs in, or at some other exit before. */
static void event_return_for_nmi(struct vcpu *vcpu)
{
    bool returns = options.fault != FAULT_DROP_NMI_WINDOW && step_return_at_once(vcpu);
    if (!returns && !vcpu->nmi_window)
        event_open_nmi_window(vcpu);
}

/* A pending NMI goes in when nothing blocks it, else its window is asked for. */
static void event_prepare_nmi(struct vcpu *vcpu)
{
    const uint32_t blockers = BLOCKING_BY_NMI | BLOCKING_BY_MOV_SS | BLOCKING_BY_STI;
    enum nmi_fate fate = vcpu->in_l2 ? nested_hooks.nmi_in_l2(vcpu) : NMI_FOR_GUEST;
    if (fate == NMI_AFTER_EVENT)
        event_return_for_nmi(vcpu);
    if (fate != NMI_FOR_GUEST)
        return;
    if (vcpu->inject_info || (vmcs_read(GUEST_INTERRUPTIBILITY) & blockers)) {
        if (!vcpu->nmi_window)
            event_open_nmi_window(vcpu);
        return;
    }
    vcpu->cpu->nmi_seen = false;
    count(COUNT_NMIS);
    vcpu->inject_info = (uint32_t)(INTR_VALID | PUT(INTR_TYPE_NMI, INTR_TYPE) | VECTOR_NMI);
    if (vcpu->nmi_window)
        event_cancel_nmi_window(vcpu);
}

/* The NMI first: it may have to wait for what is queued, or become what is queued. */
void event_prepare(struct vcpu *vcpu)
{
    if (__builtin_expect(vcpu->cpu->nmi_seen, 0))
        event_prepare_nmi(vcpu);
    if (vcpu->inject_info)
        event_write(vcpu);
}
