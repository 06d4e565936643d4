/* The loop of a virtual processor: enter the guest, take its exit to the handler of its reason, enter again.
 * vmcs01_create() made vmcs01, which is current.
 * start/ starts it; vmx/exit_handlers has the handlers, vmx/hooks what nested/ adds. */
#ifndef VMX_RUN_H
#define VMX_RUN_H

#include "kernel/msr.h"
#include "kernel/x86.h"
#include "vmx/vcpu.h"

/* Runs the guest for ever on this processor. */
NORETURN void vcpu_run(struct vcpu *vcpu);

static inline void vcpu_count_exit(struct vcpu *vcpu, uint32_t reason, uint64_t rip, bool from_l2)
{
    if (reason < EXIT_REASON_COUNT)
        vcpu->exits[from_l2][reason]++;
    count(from_l2 ? COUNT_EXITS_L2 : COUNT_EXITS_L1);
    trace(from_l2 ? TRACE_EXIT_L2 : TRACE_EXIT_L1, reason, rip);
}

/* Makes true what every entry relies on, whoever runs next; the first where something is to be done. entry.asm looks at
 * vcpu->attention. */
void vcpu_prepare_entry_anew(struct vcpu *vcpu);
/* True if nothing is. */
static inline bool vcpu_is_prepared(const struct vcpu *vcpu)
{
    uint64_t generation = __atomic_load_n(&vcpu->vm->ept01.generation, __ATOMIC_ACQUIRE);
    return __builtin_expect(!(vcpu->inject_info | vcpu->cpu->nmi_seen), 1) &&
           __builtin_expect(vcpu->ept01_generation == generation, 1);
}
static inline void vcpu_prepare_entry(struct vcpu *vcpu)
{
    if (!vcpu_is_prepared(vcpu))
        vcpu_prepare_entry_anew(vcpu);
}

/* True if exits for this reason say a guest-linear and a guest-physical address; else those of the snapshot are an
 * earlier exit's. */
bool vcpu_exit_has_addresses(uint32_t reason);

/* In entry.asm: from the first to the last, an NMI makes the processor look once more before it enters (vmx/kick). */
extern const uint8_t vmx_enter_first[], vmx_enter_launch[], vmx_enter_resume[], vmx_enter_again[];

/* Called by entry.asm only. */
void vcpu_enter_again(struct vcpu *vcpu);
enum vcpu_next vcpu_handle_exit(struct vcpu *vcpu);
void vcpu_entry_failed(struct vcpu *vcpu);
void vcpu_straight_checked(struct vcpu *vcpu);
/* In entry.asm: enters the guest for the first time; where an exit arrives that takes the long way; and what a
 * straight one may still come to. */
NORETURN void vmx_run(struct vcpu *vcpu, void *stack_word);
void vmx_exit(void);
/* The same with the option trace=: notes the time, and asks for another look before entry, which makes the records. */
void vmx_exit_timed(void);
extern const uint8_t vmx_straight_again[];
/* Ends the blocking of NMIs that an NMI exit began, by an IRET to the next instruction. */
void vmx_unblock_nmi(void);

#endif
