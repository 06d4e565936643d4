/* The exit of an attempted task switch of L1: the switch is made here, between vmcs01 and the registers. */
#include "vmx/cr.h"
#include "vmx/event.h"
#include "vmx/exit_handlers.h"
#include "vmx/run.h"
#include "vmx/task_switch.h"
#include "vmx/vmcs_setup.h"
#include "vmx/vpid.h"

#include "kernel/ledger.h"
#include "kernel/x86.h"

#define DR6_BT BIT(15)
#define DR7_LOCAL (BIT(0) | BIT(2) | BIT(4) | BIT(6) | BIT(8)) /* L0 to L3, LE */

_Static_assert(TASK_IRET == 1 && TASK_GATE == 3, "numbered as in the exit qualification");

/* The processor's own accesses: to descriptor tables and TSSs, at supervisor privilege whatever the CPL. */
static bool task_read(void *context, uint32_t gva, void *buffer, unsigned len, struct fault *fault)
{
    return gva_read_as(context, gva, buffer, len, GVA_IMPLICIT, fault);
}

/* `user`: the push of an error code, which is an access of the new task at its CPL. */
static bool task_write(void *context, uint32_t gva, const void *buffer, unsigned len, bool user, struct fault *fault)
{
    return gva_write_as(context, gva, buffer, len, user ? GVA_USER : GVA_IMPLICIT, fault);
}

/* SDM 3A 4.4.1 "PDPTE Registers": a task switch that changes CR3 loads them. */
static bool task_load_cr3(void *context, uint32_t cr3)
{
    struct vcpu *vcpu = context;

    if ((cr_read_cr4() & CR4_PAE) && !cr_load_pdptes(vcpu, cr3))
        return false;
    ledger_owe_vpid(VPID_L1, "a task switch that loads CR3");
    vmcs_write(GUEST_CR3, (uint64_t)cr3);
    vpid_flush(vcpu, VPID_L1);
    return true;
}

/* An event of a type that an instruction raises: the switch returns to behind that instruction. */
static bool is_software_event(uint32_t info)
{
    unsigned type = (unsigned)GET(info, INTR_TYPE);
    return type >= INTR_TYPE_SOFT_INTERRUPT && type <= INTR_TYPE_SOFT_EXCEPTION;
}

/* Takes the request from the exit's information fields. EXT of error codes is set where the program did not raise the
 * event itself. */
static void request_read(const struct vcpu *vcpu, struct task_request *request)
{
    uint32_t info = vcpu->exit.idt_vectoring_info;
    bool event = info & INTR_VALID;

    *request = (struct task_request){
        .source = (enum task_source)GET(vcpu->exit.qualification, TASK_QUAL_SOURCE),
        .selector = (uint16_t)GET(vcpu->exit.qualification, TASK_QUAL_SELECTOR),
        .external = event && (!is_software_event(info) || GET(info, INTR_TYPE) == INTR_TYPE_PRIV_SOFT_EXCEPTION),
        .has_error_code = event && (info & INTR_ERROR_CODE),
        .error_code = vcpu->exit.idt_vectoring_error_code,
    };
}

/* L1's state as the old task leaves it: EIP is behind the instruction that switches, if one does. */
static void state_read(const struct vcpu *vcpu, const struct task_request *request, struct task_state *state)
{
    bool behind = request->source != TASK_GATE || is_software_event(vcpu->exit.idt_vectoring_info);

    for (unsigned i = 0; i < ARRAY_SIZE(state->gpr); i++)
        state->gpr[i] = (uint32_t)(i == RSP ? vmcs_read(GUEST_RSP) : vcpu->regs[i]);
    state->eip = (uint32_t)vmcs_read(GUEST_RIP) + (behind ? vcpu->exit.instruction_length : 0);
    state->eflags = (uint32_t)vmcs_read(GUEST_RFLAGS);
    state->cr3 = (uint32_t)vmcs_read(GUEST_CR3);
    state->paging = (cr_read_cr0() & CR0_PG) != 0;
    state->gdt_base = (uint32_t)vmcs_read(GUEST_GDTR_BASE);
    state->gdt_limit = (uint16_t)vmcs_read(GUEST_GDTR_LIMIT);
    for (unsigned i = 0; i < TASK_SEGMENTS; i++)
        state->segment[i] = (struct segment){
            .selector = (uint16_t)vmcs_read_encoding(GUEST_ES_SELECTOR.encoding + 2 * i),
            .limit = (uint32_t)vmcs_read_encoding(GUEST_ES_LIMIT.encoding + 2 * i),
            .access_rights = (uint32_t)vmcs_read_encoding(GUEST_ES_AR_BYTES.encoding + 2 * i),
            .base = vmcs_read_encoding(GUEST_ES_BASE.encoding + 2 * i),
        };
}

/* The new task's state. CR0.TS is set and local breakpoints end, as with each switch. */
static void state_write(struct vcpu *vcpu, const struct task_state *state)
{
    for (unsigned i = 0; i < ARRAY_SIZE(state->gpr); i++)
        vcpu->regs[i] = state->gpr[i];
    vmcs_write(GUEST_RSP, (uint64_t)state->gpr[RSP]);
    vmcs_write(GUEST_RIP, (uint64_t)state->eip);
    vmcs_write(GUEST_RFLAGS, (uint64_t)state->eflags);
    for (unsigned i = 0; i < TASK_SEGMENTS; i++) {
        vmcs_write_encoding(GUEST_ES_SELECTOR.encoding + 2 * i, state->segment[i].selector);
        vmcs_write_encoding(GUEST_ES_LIMIT.encoding + 2 * i, state->segment[i].limit);
        vmcs_write_encoding(GUEST_ES_AR_BYTES.encoding + 2 * i, state->segment[i].access_rights);
        vmcs_write_encoding(GUEST_ES_BASE.encoding + 2 * i, state->segment[i].base);
    }
    vmcs_write(GUEST_CR0, vmcs_read(GUEST_CR0) | CR0_TS);
    vmcs_write(CR0_READ_SHADOW, vmcs_read(CR0_READ_SHADOW) | CR0_TS);
    vmcs_write(GUEST_DR7, vmcs_read(GUEST_DR7) & ~DR7_LOCAL);
    /* Pending debug exceptions belonged to the old task: SDM 3B 18.3.1.4 "Single-Step Exception Condition" */
    vmcs_write(GUEST_PENDING_DEBUG, 0);
}

/* An NMI on its way through the task gate blocks further NMIs, an IRET ends the blocking, both also when the switch
 * ends in a fault. SDM 3C 28.1 "Architectural State Before a VM Exit", 26.3 "Changes to Instruction Behavior" */
static void block_nmi(const struct vcpu *vcpu, enum task_source source)
{
    uint32_t info = vcpu->exit.idt_vectoring_info;
    uint64_t state = vmcs_read(GUEST_INTERRUPTIBILITY) & ~(BLOCKING_BY_STI | BLOCKING_BY_MOV_SS);

    if ((info & INTR_VALID) && GET(info, INTR_TYPE) == INTR_TYPE_NMI)
        state |= BLOCKING_BY_NMI;
    else if (source == TASK_IRET)
        state &= ~BLOCKING_BY_NMI;
    vmcs_write(GUEST_INTERRUPTIBILITY, (uint32_t)state);
}

/* A fault of the switch that an exception started may make a double fault of both. */
static void inject_fault(struct vcpu *vcpu, struct fault *fault)
{
    uint32_t info = vcpu->exit.idt_vectoring_info;
    unsigned vector = fault->vector;

    if ((info & INTR_VALID) && GET(info, INTR_TYPE) == INTR_TYPE_HARD_EXCEPTION)
        vector = fault_combine((unsigned)GET(info, INTR_VECTOR), vector);
    if (vector == FAULT_NONE) {
        exit_handlers[EXIT_TRIPLE_FAULT](vcpu);
        return;
    }
    if (vector != fault->vector)
        *fault = (struct fault){.vector = (uint8_t)vector, .has_error_code = true};
    event_inject(vcpu, fault);
}

/* SDM 3C 26.4.2 "Treatment of Task Switches": the CPU has made the first checks, and has changed nothing. */
void exit_task_switch(struct vcpu *vcpu)
{
    EXPECT_CURRENT(vcpu->vmcs01);
    const struct task_memory memory = {task_read, task_write, task_load_cr3, vcpu};
    struct task_request request;
    struct task_state state;
    struct fault fault;

    vcpu->inject_info = 0; /* the event was queued again; it is delivered by the switch itself */
    request_read(vcpu, &request);
    state_read(vcpu, &request, &state);
    enum task_outcome outcome = task_switch(&state, &request, &memory, &fault);
    block_nmi(vcpu, request.source);
    /* Until it is refused nothing has changed; later faults happen in the new task. */
    if (outcome != TASK_REFUSED)
        state_write(vcpu, &state);
    if (outcome == TASK_REFUSED || outcome == TASK_FAULTED)
        inject_fault(vcpu, &fault);
    if (outcome == TASK_DEBUG_TRAP) {
        write_dr6(read_dr6() | DR6_BT);
        event_inject_fault(vcpu, VECTOR_DB, 0);
    }
}
