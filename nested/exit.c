/* Exits of L2. The order of the questions is the order of nested_exit_from_l2(): first what is L0's by its cause and
 * of which L1 never learns, EPT02 above all; then exits that only a bitmap of ones has caused; and then, by
 * nested/rules/decide, whether L1 would have had this exit without Nestor. If so it is reflected, that is, written
 * into vmcs12 and L1 entered at its host RIP. If not, the handler of L1's exits acts on L2's state, and L2 goes on. */
#include "nested/exit.h"

#include "kernel/layout.h"
#include "kernel/x86.h"
#include "nested/enter.h"
#include "nested/insn.h"
#include "nested/l2_ept.h"
#include "nested/prepare.h"
#include "nested/rules/decide.h"
#include "nested/rules/merge.h"
#include "nested/slot.h"
#include "nested/switched.h"
#include "vmx/event.h"
#include "vmx/exit_handlers.h"
#include "vmx/io.h"
#include "vmx/msr_bitmap.h"
#include "vmx/run.h"
#include "vmx/shutdown.h"
#include "vmx/startup.h"
#include "vmx/vmcs_setup.h"

/* L1's bitmaps that the reason asks for: NULL when the control is off or the page is no RAM. */
static void add_bitmaps(const struct nested *nested, struct decide_input *in)
{
    const struct vmcs12_slot *slot = nested->current;
    const struct slot_bitmaps *bitmaps = &slot->bitmaps;
    const struct merged_cache *cache = nested->bitmaps;
    const struct gmem *gmem = &nested->vcpu->vm->gmem;
    const struct vmcs12 *v = slot->v;
    bool use_msr = (v->PROC_CONTROLS & PROC_USE_MSR_BITMAPS) != 0,
         use_io = (v->PROC_CONTROLS & PROC_USE_IO_BITMAPS) != 0;
    bool shadowing = (vmcs12_proc2(v) & PROC2_VMCS_SHADOWING) != 0;
    /* MSR and I/O bitmaps come from the snapshots that the merger keeps; only what it does not know is L1's page
     * itself. */
    switch (in->exit->reason) {
    case EXIT_RDMSR:
    case EXIT_WRMSR:
    case EXIT_RDMSRLIST:
    case EXIT_WRMSRLIST:
    case EXIT_RDMSR_IMMEDIATE:
    case EXIT_WRMSRNS_IMMEDIATE:
        in->msr_bitmap = use_msr ? slot_bitmaps_l1_page(bitmaps, cache, MERGED_MSR, v->MSR_BITMAP) : NULL;
        break;
    case EXIT_IO:
        in->io_bitmap_a = use_io ? slot_bitmaps_l1_page(bitmaps, cache, MERGED_IO_A, v->IO_BITMAP_A) : NULL;
        in->io_bitmap_b = use_io ? slot_bitmaps_l1_page(bitmaps, cache, MERGED_IO_B, v->IO_BITMAP_B) : NULL;
        break;
    case EXIT_VMREAD:
    case EXIT_VMWRITE:
        in->vmread_bitmap = shadowing ? gmem_page(gmem, v->VMREAD_BITMAP) : NULL;
        in->vmwrite_bitmap = shadowing ? gmem_page(gmem, v->VMWRITE_BITMAP) : NULL;
        break;
    default:
        break;
    }
}

/* Gathers what decide_exit() needs of the world and asks it. RSP and the width of L2's operands cost a VMREAD each, so
 * they are read for the reasons that look at them alone. */
static enum decision decide(struct vcpu *vcpu)
{
    const struct vmcs12 *v = vcpu->nested->current->v;
    bool register_matters =
        vcpu->exit.reason == EXIT_CR_ACCESS || vcpu->exit.reason == EXIT_VMREAD || vcpu->exit.reason == EXIT_VMWRITE;
    struct decide_input in; /* what the reason does not ask for is left as it is */
    in.exit = &vcpu->exit;
    in.v = v;
    in.regs = vcpu->regs;
    in.l0_nmi = !(v->PIN_CONTROLS & PIN_NMI) || vcpu->nested->current->nmi_blocked;
    if (register_matters) {
        in.rsp = vmcs_read(GUEST_RSP);
        in.narrow = !(vmcs_read(GUEST_CS_AR_BYTES) & AR_L);
    }
    add_bitmaps(vcpu->nested, &in);
    return decide_exit(&in);
}

/* A fault of L2 that L0 found while it acted for it, turned into the exit that L1's exception bitmap may want. */
static bool fault_is_l1s(struct vcpu *vcpu)
{
    if (!vcpu->inject_info || !vcpu->inject_is_fault)
        return false;
    struct vmexit *exit = &vcpu->exit;
    exit->reason = EXIT_EXCEPTION_NMI;
    exit->changed = true;
    exit->interruption_info = vcpu->inject_info;
    exit->interruption_error_code = vcpu->inject_error_code;
    exit->qualification = GET(vcpu->inject_info, INTR_VECTOR) == VECTOR_PF ? vcpu->inject_address : 0;
    /* L1 does not intercept it: the fault stays queued and L2 gets it at its next entry. */
    if (decide(vcpu) == TO_L0)
        return false;
    vcpu->inject_info = 0;
    vcpu->inject_is_fault = false;
    return true;
}

/* True if what L0 met while it acted for L2 is an exit for L1. */
static bool met_exit_of_l1(struct vcpu *vcpu)
{
    if (!vcpu->l2_unmapped)
        return fault_is_l1s(vcpu);
    vcpu->l2_unmapped = false;
    return !l2_unmapped_exit(vcpu);
}

void nested_l0_handled_l2(struct vcpu *vcpu)
{
    EXPECT_CURRENT(vcpu->nested->current->vmcs02);
    if (met_exit_of_l1(vcpu)) {
        nested_reflect(vcpu);
        return;
    }
    slot_suspend_bitmaps(vcpu->nested, vcpu->nested->current);
}

/* The CPU makes this exit behind the instructions that it executes itself. It comes before debug traps, which stay
 * pending in the VMCS. SDM 3C 26.5.2 "Monitor Trap Flag" */
void nested_l2_completed(struct vcpu *vcpu)
{
    EXPECT_CURRENT(vcpu->nested->current->vmcs02);
    if (!(vcpu->nested->current->v->PROC_CONTROLS & PROC_MONITOR_TRAP))
        return;
    vcpu->exit = (struct vmexit){.reason = EXIT_MONITOR_TRAP, .changed = true};
    nested_reflect(vcpu);
}

/* True if an exit was only due to a page of ones in the place of a bitmap, so that L2 executes the instruction
 * again. */
static bool only_suspended(struct vcpu *vcpu)
{
    uint32_t reason = vcpu->exit.reason;
    if (!decide_is_msr_access(reason))
        return !io_access_is_l0s(vcpu->exit.qualification);
    return !msr_bitmap_test(vcpu->vm->msr_bitmap, decide_msr(&vcpu->exit, vcpu->regs), decide_msr_direction(reason));
}

/* An exit that a page of ones in the place of a bitmap may have caused: makes the bitmaps fresh first. True when L2
 * goes on. */
static bool retry_with_fresh_bitmaps(struct vcpu *vcpu)
{
    uint32_t reason = vcpu->exit.reason;
    struct vmcs12_slot *slot = vcpu->nested->current;
    bool suspended = slot_bitmaps_hw(&slot->bitmaps) == HW_SUSPENDED;
    if (!decide_is_msr_access(reason) && !(reason == EXIT_IO && suspended))
        return false;
    slot_bitmaps_restore(&slot->bitmaps, vcpu->nested->bitmaps, slot->v, reason != EXIT_IO);
    return decide(vcpu) == TO_L0 && only_suspended(vcpu);
}

/* For the summary: how many exits for MSRs the merged bitmap could not spare, and whose they were. */
static void count_msr_exit(const struct vcpu *vcpu, enum decision decision)
{
    if (decide_is_msr_access(vcpu->exit.reason))
        count(decision == TO_L1 ? COUNT_L2_MSR_EXITS_L1 : COUNT_L2_MSR_EXITS_L0);
}

/* Of a list that exits for one of its MSRs: which one that is. Without a bitmap of L1's the whole list is its. False:
 * the list could not be read, and L2 or L1 is told. */
static bool find_list_entry(struct vcpu *vcpu)
{
    uint32_t reason = vcpu->exit.reason;
    if (reason != EXIT_RDMSRLIST && reason != EXIT_WRMSRLIST)
        return true;
    if (!(vcpu->nested->current->v->PROC_CONTROLS & PROC_USE_MSR_BITMAPS) || exit_list_find(vcpu))
        return true;
    nested_l0_handled_l2(vcpu);
    return false;
}

/* Bochs: what an exit interrupted while a virtual interrupt was delivered is reported as an older event, or as none
 * with the valid bit. SVI has the vector since the entry then, and interrupts were enabled, as they seldom are while
 * one is being served: that tells it from an exception of its handler. */
static NOINLINE void correct_vectoring(struct vcpu *vcpu, struct vmcs12_slot *slot)
{
    uint8_t svi = (uint8_t)GET(vmcs_read(GUEST_INTERRUPT_STATUS), INTERRUPT_STATUS_SVI);
    bool fresh = svi && svi != slot->svi_seen && (vmcs_read(GUEST_RFLAGS) & RFLAGS_IF);
    slot->svi_seen = svi;
    if (!fresh || !(vcpu->exit.idt_vectoring_info & INTR_VALID))
        return;
    vcpu->exit.idt_vectoring_info = (uint32_t)(INTR_VALID | PUT(INTR_TYPE_EXTERNAL, INTR_TYPE) | svi);
    vcpu->exit.changed = true;
}

/* VMREAD or VMWRITE of L2 that Nestor does on its shadow VMCS; a fault of it may be an exit to L1. */
static inline void field_access_of_l2(struct vcpu *vcpu)
{
    if (!l2_shadow_access(vcpu) || fault_is_l1s(vcpu))
        nested_reflect(vcpu);
}

/* True: dealt with, by L2 or L1 going on. False: the exit is L0's, and the handler of its reason shall act. */
bool nested_exit_from_l2(struct vcpu *vcpu)
{
    EXPECT_CURRENT(vcpu->nested->current->vmcs02);
    const struct vmcs12 *v = vcpu->nested->current->v;
    uint32_t reason = vcpu->exit.reason;
    if (__builtin_expect(vcpu->nested->current->watches_svi, 0))
        correct_vectoring(vcpu, vcpu->nested->current);
    /* Nestor's own checks found no fault, the CPU did: rare, and said in the log. */
    if (vcpu->exit.entry_failure) {
        nested_hardware_entry_failure(vcpu);
        return true;
    }
    if (reason == EXIT_EPT_VIOLATION || reason == EXIT_EPT_MISCONFIG) {
        if (!(vmcs12_proc2(v) & PROC2_EPT))
            return false; /* EPT01 serves this L2 */
        if (!l2_ept_exit(vcpu))
            nested_reflect(vcpu);
        return true;
    }
    if ((reason == EXIT_VMFUNC && l2_vmfunc(vcpu)) || (reason == EXIT_SPP && l2_sub_page_exit(vcpu)))
        return true;
    if (reason == EXIT_SIPI)
        startup_wait_no_more(vcpu);
    if (reason == EXIT_TRIPLE_FAULT)
        shutdown_explain(vcpu);
    if (__builtin_expect(reason >= EXIT_RDMSRLIST, 0) && !find_list_entry(vcpu))
        return true;
    const struct vmcs12_slot *slot = vcpu->nested->current;
    /* A merge that waited, or pages that were suspended, made this exit: with fresh pages the CPU may not make it
     * again. */
    if (slot_bitmaps_hw(&slot->bitmaps) != HW_MERGED && retry_with_fresh_bitmaps(vcpu))
        return true;
    enum decision decision = decide(vcpu);
    count_msr_exit(vcpu, decision);
    if (decision == TO_L0 && (reason == EXIT_VMREAD || reason == EXIT_VMWRITE)) {
        field_access_of_l2(vcpu);
        return true;
    }
    if (decision == TO_L0)
        return false;
    nested_reflect(vcpu);
    return true;
}

/* L1's own window comes before the NMI: the CPU makes that exit by itself. SDM 3C 26.2 "Other Causes of VM Exits" */
static bool l1_window_is_open(const struct vmcs12 *v)
{
    const uint32_t blockers = BLOCKING_BY_NMI | BLOCKING_BY_MOV_SS;
    return (v->PROC_CONTROLS & PROC_NMI_WINDOW) && !(vmcs_read(GUEST_INTERRUPTIBILITY) & blockers);
}

/* The CPU would make this exit at the instruction where it meets the NMI. Nestor met it first, before an entry, so it
 * makes the exit itself unless something comes before an NMI. */
enum nmi_fate nested_nmi_in_l2(struct vcpu *vcpu)
{
    EXPECT_CURRENT(vcpu->nested->current->vmcs02);
    const struct vmcs12_slot *slot = vcpu->nested->current;
    if (!(slot->v->PIN_CONTROLS & PIN_NMI))
        return NMI_FOR_GUEST;
    if (slot->nmi_blocked)
        return NMI_AT_EXIT;
    if (vcpu->inject_info)
        return NMI_AFTER_EVENT;
    if (l1_window_is_open(slot->v))
        return NMI_AT_EXIT;
    /* The exit takes the NMI: it must not be delivered once more. */
    vcpu->cpu->nmi_seen = false;
    count(COUNT_NMIS);
    switched_by_hand(vcpu->nested, vcpu->nested->current, true);
    vcpu->exit = (struct vmexit){
        .reason = EXIT_EXCEPTION_NMI,
        .changed = true,
        .interruption_info = (uint32_t)(INTR_VALID | PUT(INTR_TYPE_NMI, INTR_TYPE) | VECTOR_NMI),
    };
    nested_reflect(vcpu);
    return NMI_GONE;
}

/* An event that was about to be injected goes to L1 as one whose delivery was interrupted. */
void nested_init_to_l1(struct vcpu *vcpu)
{
    EXPECT_CURRENT(vcpu->nested->current->vmcs02);
    vcpu->exit = (struct vmexit){
        .reason = EXIT_INIT,
        .changed = true,
        .idt_vectoring_info = vcpu->inject_info,
        .idt_vectoring_error_code = vcpu->inject_error_code,
        .instruction_length = vcpu->inject_length,
    };
    vcpu->inject_info = 0;
    switched_by_hand(vcpu->nested, vcpu->nested->current, true);
    nested_reflect(vcpu);
}

/* The vector is the exit qualification. SDM 3C 28.2.1 "Basic VM-Exit Information" */
void nested_sipi_to_l1(struct vcpu *vcpu, uint8_t vector)
{
    EXPECT_CURRENT(vcpu->nested->current->vmcs02);
    vcpu->exit = (struct vmexit){.reason = EXIT_SIPI, .changed = true, .qualification = vector};
    switched_by_hand(vcpu->nested, vcpu->nested->current, true);
    nested_reflect(vcpu);
}
