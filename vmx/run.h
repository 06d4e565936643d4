/* The loop of a virtual processor: enter the guest, take its exit to the handler of its reason, enter again.
 * vcpu_setup() made the vcpu; vmcs01 is current.
 * kernel/main.c starts it; exit handlers fill vcpu_exit_handlers, nested/ through vcpu_set_nested_hooks(). */
#ifndef VMX_RUN_H
#define VMX_RUN_H

#include "vmx/vcpu.h"

/* Runs the guest for ever on this processor. */
NORETURN void vcpu_run(struct vcpu *vcpu);

/* What nested/ does for the loop; filled once at start. */
struct nested_hooks {
    /* An exit of L2 (vmcs02 current): true when it went to L1 or was dealt with, false when the handler of L1's exits
     * shall act on L2's state. */
    bool (*exit_from_l2)(struct vcpu *vcpu);
    /* An exit of L2 for a reason of vcpu->l2_straight; of vcpu->exit, reason and rip are set. It goes to L1. */
    void (*straight_to_l1)(struct vcpu *vcpu);
    /* Turns an address that L2 takes for physical into L1's, for an access as in vmx/gva.h; `walk`: by L2's page walk,
     * not the access itself. False: vcpu->exit is now the EPT violation that L1 must see, and vcpu->l2_unmapped set. */
    bool (*l2_translate)(struct vcpu *vcpu, gpa_t *gpa, uint32_t access, bool walk);
    /* The handler of L1's exits has acted on L2, which goes on. */
    void (*l0_handled_l2)(struct vcpu *vcpu);
    /* VMLAUNCH/VMRESUME of the current VMCS failed with this VM-instruction error (vmcs02 current). */
    void (*entry_failed)(struct vcpu *vcpu, uint32_t error);
    /* An NMI for the guest is pending while L2 runs: true when it became an exit to L1. */
    bool (*nmi_to_l1)(struct vcpu *vcpu);
    /* An INIT came while L2 runs: it becomes an exit to L1. */
    void (*init_to_l1)(struct vcpu *vcpu);
};
extern struct nested_hooks nested_hooks;

typedef void (*exit_handler_fn)(struct vcpu *vcpu);
/* By basic exit reason; exits of L1, and those of L2 that are L0's. nested/ registers the VMX instructions. */
extern exit_handler_fn exit_handlers[EXIT_REASON_COUNT];

/* Moves on past the instruction that exited. Current: the VMCS that exited. */
void vcpu_skip_instruction(struct vcpu *vcpu);
/* The same for one that left `rflags`. */
void vcpu_skip_with_flags(struct vcpu *vcpu, uint64_t rflags);

/* Whether exits for this reason say a guest-linear and a guest-physical address; else those of the snapshot are an
 * earlier exit's. */
bool vcpu_exit_has_addresses(uint32_t reason);

/* In entry.asm: from the first to the last, an NMI makes the processor look once more before it enters (vmx/kick). */
extern const uint8_t vmx_enter_first[], vmx_enter_launch[], vmx_enter_resume[], vmx_enter_again[];

/* Called by entry.asm only. */
void vcpu_enter_again(struct vcpu *vcpu);
void vcpu_handle_exit(struct vcpu *vcpu);
void vcpu_entry_failed(struct vcpu *vcpu);
/* In entry.asm: enters the guest for the first time; where each exit arrives (HOST_RIP). */
NORETURN void vmx_run(struct vcpu *vcpu, void *stack_word);
void vmx_exit(void);
/* Ends the blocking of NMIs that an NMI exit began, by an IRET to the next instruction. */
void vmx_unblock_nmi(void);

#endif
