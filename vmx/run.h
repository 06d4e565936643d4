/* The loop of a virtual processor: enter the guest, take its exit to the handler of its reason, enter again.
 * vcpu_setup() made the vcpu; vmcs01 is current.
 * kernel/main.c starts it; exit handlers fill vcpu_exit_handlers, nested/ through vcpu_set_nested_hooks(). */
#ifndef VMX_RUN_H
#define VMX_RUN_H

#include "kernel/msr.h"
#include "kernel/x86.h"
#include "vmx/vcpu.h"

/* Runs the guest for ever on this processor. */
NORETURN void vcpu_run(struct vcpu *vcpu);

/* What nested/ does for the loop; filled once at start. */
struct nested_hooks {
    /* An exit of L2 (vmcs02 current): true when it went to L1 or was dealt with, false when the handler of L1's exits
     * shall act on L2's state. */
    bool (*exit_from_l2)(struct vcpu *vcpu);
    /* An exit of L2 for a reason of vcpu->l2_straight, of which nothing was read: it goes to L1. This and the next are
     * the whole way of an exit, from vcpu_count_exit() to vcpu_prepare_entry(). */
    void (*straight_to_l1)(struct vcpu *vcpu, uint32_t reason);
    /* VMREAD or VMWRITE of L1, of which nothing was read. */
    void (*field_access)(struct vcpu *vcpu, uint32_t reason);
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
    /* The start-up IPI that an L2 waited for, which the CPU never entered, has come: an exit to L1. */
    void (*sipi_to_l1)(struct vcpu *vcpu, uint8_t vector);
};
extern struct nested_hooks nested_hooks;

typedef void (*exit_handler_fn)(struct vcpu *vcpu);
/* By basic exit reason; exits of L1, and those of L2 that are L0's. nested/ registers the VMX instructions. */
extern exit_handler_fn exit_handlers[EXIT_REASON_COUNT];

static inline void vcpu_count_exit(struct vcpu *vcpu, uint32_t reason, uint64_t rip, bool from_l2)
{
    if (reason < EXIT_REASON_COUNT)
        vcpu->exits[from_l2][reason]++;
    count(from_l2 ? COUNT_EXITS_L2 : COUNT_EXITS_L1);
    trace(from_l2 ? TRACE_EXIT_L2 : TRACE_EXIT_L1, reason, rip);
}

/* What must be so at each entry, whoever runs next; the first where something is to be done. entry.asm looks at
 * vcpu->attention. */
void vcpu_prepare_entry_anew(struct vcpu *vcpu);
static inline void vcpu_prepare_entry(struct vcpu *vcpu)
{
    uint64_t generation = __atomic_load_n(&vcpu->vm->ept01.generation, __ATOMIC_ACQUIRE);
    if (__builtin_expect(vcpu->inject_info | vcpu->cpu->nmi_seen, 0) ||
        __builtin_expect(vcpu->ept01_generation != generation, 0))
        vcpu_prepare_entry_anew(vcpu);
}

/* Moves on past the instruction of `length` at `from`, which left `rflags`. Current: the VMCS that exited. */
static inline void vcpu_skip_from(uint64_t from, uint64_t length, uint64_t rflags)
{
    uint64_t rip = from + length;
    uint32_t state = vmcs_read(GUEST_INTERRUPTIBILITY);
    /* Outside 64-bit mode the instruction pointer wraps. */
    if (__builtin_expect((rip ^ from) >> 32, 0) && !(vmcs_read(GUEST_CS_AR_BYTES) & AR_L))
        rip = (uint32_t)rip;
    vmcs_write(GUEST_RIP, rip);
    if (state & (BLOCKING_BY_STI | BLOCKING_BY_MOV_SS))
        vmcs_write(GUEST_INTERRUPTIBILITY, state & ~(uint32_t)(BLOCKING_BY_STI | BLOCKING_BY_MOV_SS));
    /* The instruction completed here, so the trap that RFLAGS.TF asks for is due (SDM 3C 27.3.1.5 requires BS then),
     * but for one that waits for branches only. */
    if (__builtin_expect(rflags & RFLAGS_TF, 0) && !(vmcs_read(GUEST_DEBUGCTL) & DEBUGCTL_BTF))
        vmcs_write(GUEST_PENDING_DEBUG, vmcs_read(GUEST_PENDING_DEBUG) | PENDING_DEBUG_BS);
}
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
