/* Calls from vmx/ up to nested/, which lies above it: pointers that nested_init() fills once.
 * Each contract says which VMCS is current.
 * vmx/ calls them, nested/nested.c fills them. */
#ifndef VMX_HOOKS_H
#define VMX_HOOKS_H

#include "vmx/vcpu.h"

/* The fate of an NMI for the guest that is pending while L2 runs. */
enum nmi_fate {
    NMI_FOR_GUEST,   /* L2 gets it, once nothing blocks it */
    NMI_GONE,        /* it became an exit to L1 */
    NMI_AFTER_EVENT, /* it becomes one as soon as the event is in that the entry injects */
    NMI_AT_EXIT,     /* it waits for an exit to L1, which comes without Nestor's doing or not at all */
};

struct straight_plan;         /* vmx/straight.h */
struct invalidate_descriptor; /* vmx/vmx_insn.h */

struct nested_hooks {
    /* An exit of L2 (vmcs02 current): true when it went to L1, shall go by vcpu->next, or was dealt with, false when
     * the handler of L1's exits shall act on L2's state. */
    bool (*exit_from_l2)(struct vcpu *vcpu);
    /* An exit of L2 for a reason of vcpu->l2_straight, of which nothing was read: it goes to L1. This and the next are
     * the whole way of an exit, from vcpu_count_exit() to vcpu_prepare_entry(). */
    void (*straight_to_l1)(struct vcpu *vcpu, uint32_t reason);
    /* L1's VMRESUME, of which nothing was read, and the plan is valid: true when the straight way may do it, after what
     * this has done for it. Current: vmcs01. */
    bool (*straight_resume)(struct vcpu *vcpu);
    /* Of vmx/straight.h: Nestor's own state follows where the straight way led; whether the next entry or exit may
     * take it, asked when all else is done; whether the long way would have done the same, in a checked build.
     * Current: the VMCS that is entered next, or exited. */
    void (*straight_settle)(struct vcpu *vcpu);
    void (*straight_ready)(struct vcpu *vcpu);
    void (*straight_checked)(struct vcpu *vcpu);
    /* INVEPT of L1 in the form that vmx/straight_l1.asm takes: its type, and the descriptor's first word. INVVPID, with
     * the descriptor where L1 has it. False: the long way must look. And VMPTRLD, found to be for the vmcs12 of that
     * plan, behind straight entries or exits: what is left but L1's flags and instruction pointer. Current: vmcs01. */
    bool (*invept_usual)(struct vcpu *vcpu, uint64_t type, uint64_t eptp12);
    bool (*invvpid_usual)(struct vcpu *vcpu, uint64_t type, const struct invalidate_descriptor *operand);
    void (*vmptrld_usual)(struct vcpu *vcpu, const struct straight_plan *plan);
    /* VMREAD or VMWRITE of L1, of which nothing was read. */
    void (*field_access)(struct vcpu *vcpu, uint32_t reason);
    /* Turns an address that L2 takes for physical into L1's, for an access as in vmx/gva.h; `walk`: by L2's page walk,
     * not the access itself. False: vcpu->exit is now the EPT violation that L1 must see, and vcpu->l2_unmapped set. */
    bool (*l2_translate)(struct vcpu *vcpu, gpa_t *gpa, uint32_t access, bool walk);
    /* The handler of L1's exits has acted on L2, which goes on. */
    void (*l0_handled_l2)(struct vcpu *vcpu);
    /* L0 has executed an instruction of L2, or an iteration of it: what L1 asked for then. */
    void (*l2_completed)(struct vcpu *vcpu);
    /* The page of Nestor's memory that L2 could store to at gpa2 for one instruction is closed again, and the CPU knows
     * (vmcs02 current). */
    void (*close_l2_page)(struct vcpu *vcpu, gpa_t gpa2);
    /* VMLAUNCH/VMRESUME of the current VMCS failed with this VM-instruction error (vmcs02 current). */
    void (*entry_failed)(struct vcpu *vcpu, uint32_t error);
    /* An NMI for the guest is pending while L2 runs. */
    enum nmi_fate (*nmi_in_l2)(struct vcpu *vcpu);
    /* An INIT came while L2 runs: it becomes an exit to L1. */
    void (*init_to_l1)(struct vcpu *vcpu);
    /* A word of the areas of kernel/inspect_abi.h that are nested/'s; L1 reads (vmcs01 current). */
    uint32_t (*inspect)(struct vcpu *vcpu, uint32_t area, size_t byte);
    /* L1 wrote to HV_X64_MSR_VP_ASSIST_PAGE: vcpu->vp_assist (vmcs01 current). */
    void (*vp_assist_changed)(struct vcpu *vcpu);
    /* The start-up IPI that an L2 waited for, which the CPU never entered, has come: an exit to L1. */
    void (*sipi_to_l1)(struct vcpu *vcpu, uint8_t vector);
};
extern struct nested_hooks nested_hooks;

/* The debugger's, with the option gdb= alone (debug/); NULL otherwise. With the VMCS that exited, or is to be entered,
 * current. */
struct debug_hooks {
    /* With STEP_DEBUG: what the entry was given goes from the VMCS and the debug registers. */
    void (*disarm)(struct vcpu *vcpu);
    /* The same at an exit, of which all is known. True: it is the debugger's alone. */
    bool (*exit)(struct vcpu *vcpu);
    /* Last before an entry: the guest stops here as long as the debugger wants. */
    void (*entry)(struct vcpu *vcpu);
};
extern struct debug_hooks debug_hooks;

#endif
