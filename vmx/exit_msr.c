/* Accesses to an MSR that Nestor keeps, or that lies in neither range of the bitmap: RDMSR, WRMSR and WRMSRNS, their
 * immediate forms, and one entry of a list.
 * SDM 3C 26.1.3 "Instructions That Cause VM Exits Conditionally" */
#include "kernel/x86.h"
#include "vmx/event.h"
#include "vmx/exit_handlers.h"
#include "vmx/msr_form.h"
#include "vmx/msr_guest.h"
#include "vmx/operand.h"
#include "vmx/refusal.h"
#include "vmx/run.h"
#include "vmx/skip.h"

#define IMMEDIATE_REGISTER BITS(6, 3) /* of the instruction information */
#define INSTRUCTION_MAX 15u
#define WRMSRNS_QUALIFICATION 1u /* beside WRMSR's 0 */
#define LIST_STEP 8u
#define SEGMENT_DS 3u

/* #GP(0), with a line in the log that says which row of the policy, or that the CPU has no such MSR. */
static void refuse(struct vcpu *vcpu, uint32_t msr, enum msr_access access, uint64_t value)
{
    refusal_log_msr(vcpu, msr, access, value);
    event_inject_gp(vcpu, 0);
}

/* EDX:EAX, the upper halves of RAX and RDX cleared, as by the instruction itself. */
void exit_rdmsr(struct vcpu *vcpu)
{
    uint64_t value;
    if (!msr_guest_read(vcpu, (uint32_t)vcpu->regs[RCX], &value)) {
        refuse(vcpu, (uint32_t)vcpu->regs[RCX], MSR_READ, 0);
        return;
    }
    vcpu->regs[RAX] = (uint32_t)value;
    vcpu->regs[RDX] = value >> 32;
    vcpu_skip_instruction(vcpu);
}

/* EDX:EAX: the upper halves of both registers do not count, in 64-bit mode either. */
void exit_wrmsr(struct vcpu *vcpu)
{
    uint64_t value = vcpu->regs[RDX] << 32 | (uint32_t)vcpu->regs[RAX];
    if (!msr_guest_write(vcpu, (uint32_t)vcpu->regs[RCX], value)) {
        refuse(vcpu, (uint32_t)vcpu->regs[RCX], MSR_WRITE, value);
        return;
    }
    vcpu_skip_instruction(vcpu);
}

/* The immediate forms name one 64-bit register in the place of EDX:EAX. They are instructions of 64-bit mode alone. */
static unsigned immediate_register(const struct vcpu *vcpu)
{
    return (unsigned)GET(vcpu->exit.instruction_info, IMMEDIATE_REGISTER);
}

void exit_rdmsr_immediate(struct vcpu *vcpu)
{
    uint64_t value;
    if (!msr_guest_read(vcpu, vcpu->exit.msr, &value)) {
        refuse(vcpu, vcpu->exit.msr, MSR_READ, 0);
        return;
    }
    operand_register_write(vcpu, immediate_register(vcpu), value, true);
    vcpu_skip_instruction(vcpu);
}

void exit_wrmsrns_immediate(struct vcpu *vcpu)
{
    uint64_t value = operand_register_read(vcpu, immediate_register(vcpu), true);
    if (!msr_guest_write(vcpu, vcpu->exit.msr, value)) {
        refuse(vcpu, vcpu->exit.msr, MSR_WRITE, value);
        return;
    }
    vcpu_skip_instruction(vcpu);
}

/* Where the list's entry lies that is next. False: the fault is queued. */
static bool entry_address(struct vcpu *vcpu, enum gpr list, bool write, gva_t *gva)
{
    const struct segment flat = {0};
    uint64_t offset = vcpu->regs[list] + LIST_STEP * (unsigned)__builtin_ctzll(vcpu->regs[RCX]);
    uint64_t cr4 = vmcs_read(GUEST_CR4);
    unsigned bits = cr4 & CR4_LA57 ? 57 : 48;
    struct fault fault;
    offset = segment_untag(offset, vmcs_read(GUEST_CR3), cr4);
    if (segment_linear(&flat, SEGMENT_DS, offset, LIST_STEP, write, bits, gva, &fault))
        return true;
    event_inject(vcpu, &fault);
    return false;
}

/* Reads the entry of the list that RCX's lowest bit names. False: the fault is queued, or an exit of L1 stands in
 * vcpu->exit. */
static bool entry_read(struct vcpu *vcpu, enum gpr list, uint64_t *value)
{
    struct fault fault;
    gva_t gva;
    if (!entry_address(vcpu, list, false, &gva))
        return false;
    if (gva_read(vcpu, gva, value, sizeof *value, &fault))
        return true;
    if (!vcpu->l2_unmapped)
        event_inject(vcpu, &fault);
    return false;
}

bool exit_list_find(struct vcpu *vcpu)
{
    struct vmexit *exit = &vcpu->exit;
    uint64_t msr;
    /* With nothing left to do the instruction has no MSR, and is complete. */
    if (exit->list_known || !vcpu->regs[RCX])
        return true;
    if (!entry_read(vcpu, RSI, &msr))
        return false;
    /* An MSR has a number of 32 bits: a greater one is #GP. */
    if (msr >> 32) {
        refusal_log(vcpu, REFUSAL_MSR_LIST_NUMBER, msr, 0);
        event_inject_gp(vcpu, 0);
        return false;
    }
    exit->msr_data = 0;
    if (exit->reason == EXIT_WRMSRLIST && !entry_read(vcpu, RDI, &exit->msr_data))
        return false;
    exit->list_known = exit->changed = true;
    exit->msr = (uint32_t)msr;
    exit->qualification = msr;
    return true;
}

/* An entry is done. The instruction goes on with the next one; between two it takes interrupts and traps. */
static void entry_done(struct vcpu *vcpu)
{
    vcpu->regs[RCX] &= vcpu->regs[RCX] - 1;
    if (!vcpu->regs[RCX])
        vcpu_skip_instruction(vcpu);
    else
        vcpu_repeat_instruction(vcpu);
}

/* One entry for each exit: RCX has a bit for each, and the lowest that is set is next. The bit goes when its entry is
 * done, so an exit in the middle, an interrupt, or a fault leaves an instruction that can be executed again. */
void exit_rdmsrlist(struct vcpu *vcpu)
{
    struct fault fault;
    uint64_t value;
    gva_t gva;
    if (!exit_list_find(vcpu))
        return;
    if (!msr_guest_read(vcpu, vcpu->exit.msr, &value)) {
        refuse(vcpu, vcpu->exit.msr, MSR_READ, 0);
        return;
    }
    if (!entry_address(vcpu, RDI, true, &gva))
        return;
    if (gva_write(vcpu, gva, &value, sizeof value, &fault))
        entry_done(vcpu);
    else if (!vcpu->l2_unmapped)
        event_inject(vcpu, &fault);
}

/* The entries with lower numbers are written already when one faults; RCX says how far it came. */
void exit_wrmsrlist(struct vcpu *vcpu)
{
    if (!exit_list_find(vcpu))
        return;
    if (msr_guest_write(vcpu, vcpu->exit.msr, vcpu->exit.msr_data))
        entry_done(vcpu);
    else
        refuse(vcpu, vcpu->exit.msr, MSR_WRITE, vcpu->exit.msr_data);
}

/* The instruction's own bytes, where they can be read. */
static enum msr_form read_form(struct vcpu *vcpu, uint32_t *msr, unsigned *reg)
{
    uint8_t bytes[INSTRUCTION_MAX];
    unsigned size = MIN(vcpu->exit.instruction_length, INSTRUCTION_MAX);
    struct fault fault;
    bool read = size && gva_read_as(vcpu, vcpu->exit.rip, bytes, size, GVA_FETCH, &fault);
    vcpu->l2_unmapped = false; /* it was fetched: what cannot be read any more is no exit of L1's */
    return read ? msr_form_decode(bytes, size, msr, reg) : MSR_FORM_OTHER;
}

/* Bochs 3.1 gives no MSR in the qualification, nor the register, and has WRMSRNS exit with the immediate form's reason.
 * A qualification of 0 or 1 may be such an exit's, so the bytes say; any other is the CPU's word. */
static void settle_immediate(struct vcpu *vcpu)
{
    struct vmexit *exit = &vcpu->exit;
    uint32_t msr;
    unsigned reg;
    exit->msr = (uint32_t)exit->qualification;
    if (exit->qualification > WRMSRNS_QUALIFICATION)
        return;
    switch (read_form(vcpu, &msr, &reg)) {
    case MSR_FORM_WRMSRNS:
        exit->reason = EXIT_WRMSR;
        exit->qualification = WRMSRNS_QUALIFICATION;
        exit->changed = true;
        break;
    case MSR_FORM_IMMEDIATE:
        exit->qualification = exit->msr = msr;
        exit->instruction_info = (uint32_t)PUT(reg, IMMEDIATE_REGISTER);
        exit->changed = true;
        break;
    case MSR_FORM_OTHER:
        break;
    }
}

/* Before anybody decides about the exit, so that L0, L1's bitmap and L1 itself go by one description of it. */
void exit_settle_msr(struct vcpu *vcpu)
{
    vcpu->exit.list_known = false;
    vcpu->exit.msr_data = 0;
    if (vcpu->exit.reason == EXIT_RDMSR_IMMEDIATE || vcpu->exit.reason == EXIT_WRMSRNS_IMMEDIATE)
        settle_immediate(vcpu);
}
