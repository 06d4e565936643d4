/* The VMX instructions that L1 executes, other than entries and accesses to fields. Each is an unconditional exit,
 * and the handler's order is that of the pseudocode in the SDM: #UD for the mode, #GP for the privilege, then faults
 * of the operand, and only then the instruction's own VMfail. What the processor has checked before it exits is not
 * checked again. SDM 3C chapter 31 "VMX Instruction Reference" */
#include "nested/insn.h"

#include "kernel/msr.h"
#include "kernel/x86.h"
#include "nested/enlightened.h"
#include "nested/lint.h"
#include "nested/quiet.h"
#include "nested/settle.h"
#include "nested/shadow.h"
#include "nested/slot.h"
#include "vmx/cr.h"
#include "vmx/event.h"
#include "vmx/operand.h"
#include "vmx/refusal.h"
#include "vmx/run.h"
#include "vmx/skip.h"
#include "vmx/vmcs_setup.h"

/* The six arithmetic flags say how a VMX instruction went; all others stay. SDM 3C 31.2 "Conventions" */
static void set_flags(struct vcpu *vcpu, uint64_t flags)
{
    vcpu_skip_with_flags(vcpu, (vmcs_read(GUEST_RFLAGS) & ~RFLAGS_ARITHMETIC) | flags);
}

/* VMfailInvalid: CF alone. */
void insn_fail_invalid(struct vcpu *vcpu)
{
    set_flags(vcpu, RFLAGS_CF);
}

/* Without a current VMCS there is no field for the error number: VMfailInvalid then. */
void insn_fail(struct vcpu *vcpu, uint32_t error)
{
    struct vmcs12_slot *current = vcpu->nested->current;
    if (!current) {
        insn_fail_invalid(vcpu);
        return;
    }
    current->v->VM_INSTRUCTION_ERROR = error;
    if (current->enlightened)
        enlightened_write_failure(vcpu->nested, current);
    set_flags(vcpu, RFLAGS_ZF);
}

/* Modes in which no VMX instruction exists: real-address, virtual-8086, compatibility. Except for VMCALL and, where VMX
 * operation has yet to begin, VMXON, the processor itself raises #UD there, before it exits. SDM 3C 31.3 "VMX
 * Instructions" */
static bool wrong_mode(void)
{
    bool compatibility = (vmcs_read(GUEST_EFER) & EFER_LMA) && !(vmcs_read(GUEST_CS_AR_BYTES) & AR_L);
    return !(cr_read_cr0() & CR0_PE) || (vmcs_read(GUEST_RFLAGS) & RFLAGS_VM) || compatibility;
}

/* The checks that all VMX instructions but VMXON share, in the SDM's order: #UD outside VMX operation before #GP for
 * the CPL. */
bool insn_permitted(struct vcpu *vcpu)
{
    EXPECT_CURRENT(vcpu->vmcs01);
    if (!vcpu->nested->vmxon) {
        refusal_log(vcpu, REFUSAL_NOT_IN_VMX, 0, 0);
        event_inject_ud(vcpu);
        return false;
    }
    if (operand_cpl() > 0) {
        refusal_log(vcpu, REFUSAL_NOT_CPL0, operand_cpl(), 0);
        event_inject_gp(vcpu, 0);
        return false;
    }
    return true;
}

/* The 64-bit physical address that the memory operand holds. False: the fault is queued. */
static bool read_pointer(struct vcpu *vcpu, gpa_t *pointer)
{
    struct fault fault;
    /* The usual case, an aligned operand of a 64-bit kernel, is one load; all others take the walk with its checks. */
    const gpa_t *plain = operand_plain(vcpu, sizeof(*pointer));
    if (plain) {
        *pointer = __atomic_load_n(plain, __ATOMIC_RELAXED);
        return true;
    }
    if (operand_read(vcpu, pointer, sizeof(*pointer), &fault))
        return true;
    event_inject(vcpu, &fault);
    return false;
}

/* Page-aligned, and within the physical-address width that L1 is shown. */
static bool pointer_valid(const struct vcpu *vcpu, gpa_t pointer)
{
    return IS_ALIGNED(pointer, PAGE_SIZE) && !(pointer >> vcpu->vm->caps12.address_bits);
}

/* The first word of a region. Bit 31 marks a shadow VMCS. */
static uint32_t read_revision(const struct vcpu *vcpu, gpa_t pointer)
{
    return gmem_read32(&vcpu->vm->gmem, pointer);
}

/* A region that VMPTRLD takes: of our format, and a shadow VMCS only where there are such. */
static bool revision_accepted(const struct vcpu *vcpu, uint32_t revision)
{
    if ((revision & VMCS_SHADOW_INDICATOR) && !(vcpu->vm->caps12.proc2.may & PROC2_VMCS_SHADOWING))
        return false;
    return (revision & ~VMCS_SHADOW_INDICATOR) == GET(vcpu->vm->caps12.basic, VMX_BASIC_REVISION);
}

/* The rule of IA32_VMX_CR0_FIXED0 and _FIXED1, and of the like for CR4: 1 in both must be 1, 0 in both must be 0. */
static bool fixed_bits_hold(uint64_t value, uint64_t fixed0, uint64_t fixed1)
{
    return (value & fixed0) == fixed0 && !(value & ~fixed1);
}

/* The #UD or #GP(0) that VMXON gets, said in the log. False: none. */
static bool vmxon_faults(struct vcpu *vcpu)
{
    const struct vmx_caps *caps = &vcpu->vm->caps12;
    const uint64_t needed = FEATURE_CONTROL_LOCK | FEATURE_CONTROL_VMX_OUTSIDE_SMX;
    uint64_t cr0 = cr_read_cr0(), cr4 = cr_read_cr4();

    if (!(cr4 & CR4_VMXE) || wrong_mode()) {
        refusal_log(vcpu, cr4 & CR4_VMXE ? REFUSAL_WRONG_MODE : REFUSAL_VMXON_NO_VMXE, cr4, 0);
        event_inject_ud(vcpu);
        return true;
    }
    if (operand_cpl() > 0)
        refusal_log(vcpu, REFUSAL_NOT_CPL0, operand_cpl(), 0);
    else if (vcpu->nested->vmxon)
        return false;
    else if (!fixed_bits_hold(cr0, caps->cr0_fixed0, caps->cr0_fixed1))
        refusal_log(vcpu, REFUSAL_VMXON_CR0, cr0, caps->cr0_fixed0);
    else if (!fixed_bits_hold(cr4, caps->cr4_fixed0, caps->cr4_fixed1))
        refusal_log(vcpu, REFUSAL_VMXON_CR4, cr4, caps->cr4_fixed0);
    else if ((vcpu->feature_control & needed) != needed)
        refusal_log(vcpu, REFUSAL_VMXON_FEATURE_CONTROL, vcpu->feature_control, 0);
    else
        return false;
    event_inject_gp(vcpu, 0);
    return true;
}

/* Nestor does not enter anything: it has been in VMX operation since its start. From here on L1 is in it as well, which
 * fixes bits of its CR0 and CR4, blocks INIT, and lets the other instructions exist. SDM 3C 24.7 "Enabling and Entering
 * VMX Operation" */
void insn_exit_vmxon(struct vcpu *vcpu)
{
    const struct vmx_caps *caps = &vcpu->vm->caps12;
    struct nested *nested = vcpu->nested;
    gpa_t pointer;
    if (vmxon_faults(vcpu))
        return;
    if (nested->vmxon) {
        refusal_log(vcpu, REFUSAL_VMXON_IN_ROOT, nested->vmxon_pointer, 0);
        insn_fail(vcpu, VMXERR_VMXON_IN_ROOT);
        return;
    }
    if (!read_pointer(vcpu, &pointer))
        return;
    uint64_t revision = GET(caps->basic, VMX_BASIC_REVISION);
    if (!pointer_valid(vcpu, pointer) || read_revision(vcpu, pointer) != revision) {
        if (pointer_valid(vcpu, pointer))
            refusal_log(vcpu, REFUSAL_VMXON_REVISION, read_revision(vcpu, pointer), revision);
        else
            refusal_log(vcpu, REFUSAL_VMXON_ADDRESS, pointer, caps->address_bits);
        insn_fail_invalid(vcpu);
        return;
    }
    nested->vmxon = true;
    nested->vmxon_pointer = pointer;
    vcpu->l1_in_vmx = true;
    cr_update_masks(vcpu);
    insn_succeed(vcpu);
}

/* The end of all that Nestor keeps for L1's VMX: slots with their vmcs02, merged bitmaps, EPT02s, watches. */
void insn_exit_vmxoff(struct vcpu *vcpu)
{
    if (!insn_permitted(vcpu))
        return;
    /* All images go to L1's memory. A CPU may leave them on the chip; L1 that followed the SDM has executed VMCLEAR on
     * each and cannot tell. */
    slot_release_all(vcpu->nested);
    shadow_select(vcpu->nested);
    ept02_forget_all(&vcpu->nested->ept02s); /* nothing of EPT02 is needed any more */
    vcpu->nested->vmxon = false;
    vcpu->l1_in_vmx = false;
    vcpu->attention = true; /* an INIT may have waited for this */
    cr_update_masks(vcpu);
    insn_succeed(vcpu);
}

/* The image goes back to L1's memory and the slot with its vmcs02 and its merged bitmaps is free. A VMCS that is
 * cleared can be loaded by another processor. */
void insn_exit_vmclear(struct vcpu *vcpu)
{
    struct nested *nested = vcpu->nested;
    static const uint32_t clear[] = {0, LINT_CLEARED};
    gpa_t pointer;
    if (!insn_permitted(vcpu) || !read_pointer(vcpu, &pointer))
        return;
    if (!pointer_valid(vcpu, pointer)) {
        refusal_log(vcpu, REFUSAL_VMCLEAR_ADDRESS, pointer, vcpu->vm->caps12.address_bits);
        insn_fail(vcpu, VMXERR_VMCLEAR_ADDRESS);
        return;
    }
    if (pointer == nested->vmxon_pointer) {
        refusal_log(vcpu, REFUSAL_VMCLEAR_VMXON_POINTER, pointer, 0);
        insn_fail(vcpu, VMXERR_VMCLEAR_VMXON_POINTER);
        return;
    }
    struct vmcs12_slot *slot = slot_find(nested, pointer);
    bool enlightened = slot ? slot->enlightened : enlightened_is_at(vcpu, pointer);
    if (slot)
        slot_clear(nested, slot);
    shadow_select(nested);
    /* Also for a VMCS that Nestor does not hold: its launch state is in the region alone. */
    if (!enlightened)
        gmem_write(&vcpu->vm->gmem, pointer + offsetof(struct vmcs12, launched), clear, sizeof(clear));
    insn_succeed(vcpu);
}

/* The slot is L1's current VMCS from here on. The one that was stays in its slot, with its vmcs02: coming back to it
 * costs no copy. */
static inline void make_current(struct vcpu *vcpu, struct vmcs12_slot *slot)
{
    vcpu->nested->current = slot;
    shadow_select(vcpu->nested);
    straight_follow(vcpu);
}

/* Any VMPTRLD, with all checks. */
static NOINLINE void load_pointer(struct vcpu *vcpu)
{
    struct nested *nested = vcpu->nested;
    gpa_t pointer;
    if (!insn_permitted(vcpu) || !read_pointer(vcpu, &pointer))
        return;
    if (!pointer_valid(vcpu, pointer)) {
        refusal_log(vcpu, REFUSAL_VMPTRLD_ADDRESS, pointer, vcpu->vm->caps12.address_bits);
        insn_fail(vcpu, VMXERR_VMPTRLD_ADDRESS);
        return;
    }
    if (pointer == nested->vmxon_pointer) {
        refusal_log(vcpu, REFUSAL_VMPTRLD_VMXON_POINTER, pointer, 0);
        insn_fail(vcpu, VMXERR_VMPTRLD_VMXON_POINTER);
        return;
    }
    if (!revision_accepted(vcpu, read_revision(vcpu, pointer))) {
        refusal_log(vcpu, REFUSAL_VMPTRLD_REVISION, read_revision(vcpu, pointer),
                    GET(vcpu->vm->caps12.basic, VMX_BASIC_REVISION));
        insn_fail(vcpu, VMXERR_VMPTRLD_REVISION);
        return;
    }
    struct vmcs12_slot *slot = slot_load(nested, pointer);
    if (!slot) { /* the pool is exhausted; docs/LIMITS.md */
        refusal_log(vcpu, REFUSAL_VMPTRLD_NO_PAGES, 0, 0);
        insn_fail(vcpu, VMXERR_VMPTRLD_ADDRESS);
        return;
    }
    make_current(vcpu, slot);
    insn_succeed(vcpu);
}

/* The slot that a 64-bit kernel asks for, if it has one: nearly every VMPTRLD. There are slots in VMX operation alone,
 * and only of pointers that passed; but the revision is L1's memory. NULL: all must be checked. */
static inline struct vmcs12_slot *find_held(struct vcpu *vcpu)
{
    const gpa_t *plain = operand_plain(vcpu, sizeof(*plain));
    gpa_t pointer = plain ? __atomic_load_n(plain, __ATOMIC_RELAXED) : VMPTR_NONE;
    struct vmcs12_slot *slot = pointer == VMPTR_NONE ? NULL : slot_find(vcpu->nested, pointer);
    bool held = slot && !slot->enlightened && read_revision(vcpu, pointer) == slot->v->revision;
    return held ? slot : NULL;
}

/* Nestor keeps a few vmcs12s in slots, each with a vmcs02, so that an L1 that goes round its L2s loads no image at
 * all. */
void insn_exit_vmptrld(struct vcpu *vcpu)
{
    struct vmcs12_slot *slot = find_held(vcpu);
    if (!slot) {
        load_pointer(vcpu);
        return;
    }
    slot_touch(vcpu->nested, slot);
    make_current(vcpu, slot);
    insn_succeed_plain(vcpu);
}

/* L1 goes from one L2 to another, which it enters next: all is asked at once. Of the one that it leaves all stays true
 * for when it comes back. */
void insn_vmptrld_usual(struct vcpu *vcpu, const struct straight_plan *plan)
{
    EXPECT_CURRENT(vcpu->vmcs01);
    struct straight *straight = straight_of(vcpu->cpu);
    if (straight->moves)
        straight_settle(vcpu);
    straight->entered = 0;
    slot_touch(vcpu->nested, plan->slot);
    make_current(vcpu, plan->slot);
    straight_ready(vcpu);
}

/* All-ones when there is no current VMCS. */
void insn_exit_vmptrst(struct vcpu *vcpu)
{
    struct fault fault;
    if (!insn_permitted(vcpu))
        return;
    gpa_t pointer = vcpu->nested->current ? vcpu->nested->current->vmptr : VMPTR_NONE;
    if (!operand_write(vcpu, &pointer, sizeof(pointer), &fault)) {
        event_inject(vcpu, &fault);
        return;
    }
    insn_succeed(vcpu);
}

/* Without SMM's dual monitor there is nothing to call from root operation. SDM 3C 31.3 "VMCALL—Call to VM Monitor" */
void insn_exit_vmcall(struct vcpu *vcpu)
{
    if (wrong_mode()) {
        refusal_log(vcpu, REFUSAL_WRONG_MODE, 0, 0);
        event_inject_ud(vcpu);
    } else if (hyperv_takes_vmcall(vcpu->vm)) {
        hyperv_call(vcpu);
    } else if (insn_permitted(vcpu)) {
        refusal_log(vcpu, REFUSAL_VMCALL_IN_ROOT, 0, 0);
        insn_fail(vcpu, VMXERR_VMCALL_IN_ROOT);
    }
}
