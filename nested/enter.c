#include "nested/enter.h"

#include "kernel/cmdline.h"
#include "kernel/msr.h"
#include "nested/enlightened.h"
#include "nested/entry_log.h"
#include "nested/host_state.h"
#include "nested/insn.h"
#include "nested/l2_ept.h"
#include "nested/lint.h"
#include "nested/msr_area.h"
#include "nested/prepare.h"
#include "nested/quiet.h"
#include "nested/rules/check.h"
#include "nested/shadow.h"
#include "nested/slot.h"
#include "nested/straight_lists.h"
#include "nested/switched.h"
#include "nested/vmcs12_dump.h"
#include "vmx/dump.h"
#include "vmx/event.h"
#include "vmx/exit_handlers.h"
#include "vmx/refusal.h"
#include "vmx/run.h"
#include "vmx/startup.h"
#include "vmx/step.h"
#include "vmx/vmcs_setup.h"
#include "vmx/vpid.h"

/* How the checks read L1's memory: PDPTEs, and the VMCS that the link pointer names. */
static void check_read(void *context, gpa_t gpa, void *buffer, unsigned len)
{
    gmem_read(context, gpa, buffer, len);
}

/* L1's own registers that an L2 starts with, or L1 goes on with, when controls do not load them. Current: vmcs01. */
static struct l1_registers read_l1_registers(uint32_t loaded)
{
    struct l1_registers l1 = {0};
    if (!(loaded & ENTRY_LOAD_DEBUG)) {
        l1.dr7 = vmcs_read(GUEST_DR7);
        l1.debugctl = vmcs_read(GUEST_DEBUGCTL);
    }
    if (!(loaded & ENTRY_LOAD_PAT))
        l1.pat = vmcs_read(GUEST_PAT);
    if (!(loaded & ENTRY_LOAD_EFER))
        l1.efer = vmcs_read(GUEST_EFER);
    return l1;
}

/* Back to vmcs01 after vmcs02 was made current. */
static void leave_l2(struct vcpu *vcpu)
{
    EXPECT_CURRENT(vcpu->nested->current->vmcs02);
    struct vmcs12_slot *slot = vcpu->nested->current;
    if (vcpu->nmi_window)
        event_cancel_nmi_window(vcpu);
    vcpu->in_l2 = false;
    shadow_close(vcpu->nested, slot);
    vcpu->launched = true;
}

/* Makes the slot's vmcs02 current, with what L1 wrote to it without an exit. Current: vmcs01. */
static void turn_to_l2(struct vcpu *vcpu, struct vmcs12_slot *slot)
{
    EXPECT_CURRENT(vcpu->vmcs01);
    if (vcpu->nmi_window)
        event_cancel_nmi_window(vcpu);
    enum vmcs02_life was = slot->life;
    shadow_open(slot);
    if (was == VMCS02_EMPTY)
        prepare_constants(vcpu);
    vcpu->in_l2 = true;
    vcpu->launched = was == VMCS02_LAUNCHED;
    prepare_fetch_unread(slot);
    shadow_fetch(slot);
}

/* L1's state as after an exit, then the MSRs that L1 wants loaded. Current: vmcs01. */
static ALWAYS_INLINE void resume_l1(struct vcpu *vcpu, struct vmcs12_slot *slot, const struct l1_registers *l2,
                                    uint64_t l2_cr0)
{
    EXPECT_CURRENT(vcpu->vmcs01);
    const struct vmcs12 *v = slot->v;
    host_state_load(vcpu, slot, l2->efer, l2->pat, l2_cr0);
    if (!(vmcs12_proc2(v) & PROC2_VPID))
        vpid_flush_zero(vcpu, VPID_L1);
    if (msr_area_load(vcpu, v->EXIT_MSR_LOAD_ADDR, (uint32_t)v->EXIT_MSR_LOAD_COUNT)) {
        entry_log_abort(slot->vmptr, &vcpu->nested->refusal);
        dump_and_end(vcpu, "VMX abort of L1: its VM-exit MSR-load list failed");
    }
}

/* vmcs12 got another value than vmcs02 has. */
static void put_exit_row(struct nested *nested, unsigned row)
{
    slot_set_dirty(nested->current, row);
    shadow_put(nested, nested->current, row);
}

/* `left`: what the entry had made of L1's registers when it failed. Current: vmcs01. */
static void fail_entry(struct vcpu *vcpu, uint32_t reason, uint64_t qualification, const struct l1_registers *left)
{
    EXPECT_CURRENT(vcpu->vmcs01);
    struct vmcs12_slot *slot = vcpu->nested->current;
    struct vmcs12 *v = slot->v;
    uint32_t nmi_blocked = vmcs_read(GUEST_INTERRUPTIBILITY) & (uint32_t)BLOCKING_BY_NMI;
    prepare_fetch_rows(vcpu->nested, slot);
    v->EXIT_REASON = reason | EXIT_REASON_ENTRY_FAILURE;
    v->EXIT_QUALIFICATION = qualification;
    put_exit_row(vcpu->nested, FIELD_INDEX_EXIT_REASON);
    put_exit_row(vcpu->nested, FIELD_INDEX_EXIT_QUALIFICATION);
    if (slot->enlightened)
        enlightened_write_failure(vcpu->nested, slot);
    shadow_select(vcpu->nested);
    vcpu->inject_info = 0;
    slot->host.ready = false; /* the entry did not look at the rows that L1 wrote */
    resume_l1(vcpu, slot, left, vmcs_read(GUEST_CR0));
    vmcs_write(GUEST_INTERRUPTIBILITY, nmi_blocked);
}

void nested_entry_failure(struct vcpu *vcpu, uint32_t reason, uint64_t qualification)
{
    EXPECT_CURRENT(vcpu->vmcs01);
    struct l1_registers l1 = read_l1_registers(0);
    fail_entry(vcpu, reason, qualification, &l1);
}

/* Current: vmcs02. */
static void start_l2(struct vcpu *vcpu, struct vmcs12_slot *slot, const struct l1_registers *l1)
{
    EXPECT_CURRENT(vcpu->nested->current->vmcs02);
    struct vmcs12 *v = slot->v;
    /* EPT02 gets what L1 has just allowed, so that L2 does not exit for it once more. */
    if (slot->revisit)
        l2_ept_prefill(vcpu);
    if (v->ENTRY_MSR_LOAD_COUNT) /* a list that fails half-way must be undone */
        prepare_fetch_listed(slot);
    slot_bitmaps_refresh(&slot->bitmaps, vcpu->nested->bitmaps, slot->v);
    prepare_vmcs02(vcpu->nested, slot, l1);

    uint32_t failed = msr_area_load(vcpu, v->ENTRY_MSR_LOAD_ADDR, (uint32_t)v->ENTRY_MSR_LOAD_COUNT);
    if (failed) {
        count(COUNT_NESTED_ENTRY_FAILS);
        entry_log_msr(slot->vmptr, &vcpu->nested->refusal);
        slot_set_all_dirty(slot); /* entries before the failed one went to vmcs02 */
        slot_unmirror(slot);
        /* Values that the list loaded stay, where no control gives L1 its own. SDM 3C 27.8 "VM-Entry Failures During
         * or After Loading Guest State" */
        struct l1_registers left = {.pat = vmcs_read(GUEST_PAT), .efer = vmcs_read(GUEST_EFER)};
        switched_by_hand(vcpu->nested, slot, true);
        leave_l2(vcpu);
        fail_entry(vcpu, EXIT_MSR_LOAD_FAIL, failed, &left);
        return;
    }
    /* From here on the CPU has the word: if it refuses vmcs02 nevertheless, the launch state must be what it was. */
    slot->was_launched = v->launched != 0;
    slot->entered_straight = false;
    v->launched = 1;
    if (__builtin_expect(v->GUEST_ACTIVITY_STATE == ACTIVITY_WAIT_SIPI, 0))
        startup_wait_in_l2(vcpu);
    if (__builtin_expect(vcpu->requests, 0))
        vcpu->attention = true; /* an INIT that waited in VMX root operation ends the entry at once */
    count(COUNT_NESTED_ENTRIES);
}

/* L1's instruction fails. The straight way has not read where it is. Current: vmcs01. */
static void fail_instruction(struct vcpu *vcpu, uint32_t error)
{
    vcpu->exit.rip = vmcs_read(GUEST_RIP);
    vcpu->exit.instruction_length = vmcs_read(EXIT_INSTRUCTION_LENGTH);
    insn_fail(vcpu, error);
}

/* Current: vmcs02; on return vmcs01. */
static void fail_checks(struct vcpu *vcpu, const struct check_result *result)
{
    EXPECT_CURRENT(vcpu->nested->current->vmcs02);
    if (result->kind == CHECK_FAIL_GUEST)
        switched_by_hand(vcpu->nested, vcpu->nested->current, false);
    leave_l2(vcpu);
    count(COUNT_NESTED_ENTRY_FAILS);
    if (entry_log_check(vcpu->nested->current->vmptr, result, &vcpu->vm->caps12) && options.dump == DUMP_VMCS12)
        vmcs12_dump(vcpu->nested, vcpu->nested->current);
    if (result->kind == CHECK_FAIL_GUEST)
        nested_entry_failure(vcpu, EXIT_INVALID_GUEST_STATE, result->qualification);
    else
        fail_instruction(vcpu, result->kind == CHECK_FAIL_HOST ? VMXERR_ENTRY_HOST_STATE : VMXERR_ENTRY_CONTROLS);
}

/* L1 may have written another to vmcs02, at which shadow_fetch() does not look; if L2 has, that costs a look. Current:
 * vmcs02. */
static NOINLINE check_scope_t scope_of_cr3(const struct vmcs12_slot *slot)
{
    return vmcs_read(GUEST_CR3) == slot->checked_cr3 ? 0 : check_scope_of(FIELD_INDEX_GUEST_CR3);
}

/* The rows that L1 writes to vmcs02 itself are the CPU's to judge, but not where Nestor does a part of the entry that
 * comes behind these checks: then they are judged before it. */
static inline check_scope_t scope_of_direct(const struct vmcs12_slot *slot)
{
    const struct vmcs12 *v = slot->v;
    bool has_part = v->ENTRY_MSR_LOAD_COUNT || v->GUEST_ACTIVITY_STATE == ACTIVITY_WAIT_SIPI;
    return __builtin_expect(has_part, 0) ? slot->direct | scope_of_cr3(slot) : 0;
}

/* Which tables of checks the entry must pass: none when nothing that they look at changed since the last one. */
static inline check_scope_t scope_to_check(const struct vmcs12_slot *slot, bool long_mode)
{
    if (long_mode != slot->checked_long_mode)
        return CHECK_SCOPE_ALL;
    return slot->plan.scope | check_scope_of_memory(slot->v) | scope_of_direct(slot);
}

static struct check_result check_slot(const struct vcpu *vcpu, const struct vmcs12_slot *slot, bool long_mode,
                                      check_scope_t scope)
{
    struct check_context context = {
        .caps = &vcpu->vm->caps12,
        .l1_long_mode = long_mode,
        .read = check_read,
        .context = &vcpu->vm->gmem,
        .current_vmptr = slot->vmptr,
        .vmxon_pointer = vcpu->nested->vmxon_pointer,
    };
    return check_entry_scoped(slot->v, &context, scope);
}

/* `long_mode`: L1's. False: the entry has failed. Current: the slot's vmcs02; vmcs01 when it failed. */
static NOINLINE bool pass_checks(struct vcpu *vcpu, bool long_mode, check_scope_t scope)
{
    struct vmcs12_slot *slot = vcpu->nested->current;
    EXPECT_CURRENT(slot->vmcs02);
    if (scope & SLOT_SCOPE_BITMAPS)
        slot_bitmaps_look_again(&slot->bitmaps);
    prepare_fetch_checked(slot, scope);
    struct check_result result = check_slot(vcpu, slot, long_mode, scope);
    if (result.kind != CHECK_OK) {
        /* The first rule in the SDM's order may be about a row that is the CPU's to judge, or was not looked at. */
        prepare_fetch_rows(vcpu->nested, slot);
        result = check_slot(vcpu, slot, long_mode, CHECK_SCOPE_ALL);
    }
    if (result.kind != CHECK_OK) {
        fail_checks(vcpu, &result);
        return false;
    }
    slot->plan.scope = slot->direct = 0;
    slot->checked_long_mode = long_mode;
    if (!(check_scope_of(FIELD_INDEX_GUEST_CR3) & ~scope))
        slot->checked_cr3 = slot->v->GUEST_CR3;
    return true;
}

void nested_enter(struct vcpu *vcpu, bool launch)
{
    EXPECT_CURRENT(vcpu->vmcs01);
    if (!insn_permitted(vcpu))
        return;
    if (__builtin_expect(vcpu->vp_assist & HYPERV_ENABLE, 0) && !enlightened_select(vcpu, launch)) {
        insn_fail_invalid(vcpu);
        return;
    }
    struct vmcs12_slot *slot = vcpu->nested->current;
    if (!slot || (slot->v->revision & VMCS_SHADOW_INDICATOR)) {
        refusal_log(vcpu, slot ? REFUSAL_SHADOW_CURRENT : REFUSAL_NO_CURRENT, slot ? slot->vmptr : 0, 0);
        insn_fail_invalid(vcpu);
        return;
    }
    uint64_t interruptibility = vmcs_read(GUEST_INTERRUPTIBILITY);
    if (interruptibility & BLOCKING_BY_MOV_SS) {
        refusal_log(vcpu, REFUSAL_MOV_SS, 0, 0);
        insn_fail(vcpu, VMXERR_ENTRY_MOV_SS);
        return;
    }
    if (launch == (slot->v->launched != 0)) {
        refusal_log(vcpu, launch ? REFUSAL_NOT_CLEAR : REFUSAL_NOT_LAUNCHED, slot->vmptr, 0);
        insn_fail(vcpu, launch ? VMXERR_VMLAUNCH_NOT_CLEAR : VMXERR_VMRESUME_NOT_LAUNCHED);
        return;
    }
    /* L1's registers are read while vmcs01 is current. Then comes the move. The checks are made behind it, because
     * rows that they look at may be in vmcs02 alone. */
    vcpu->nested->left_as_loaded = straight_left_as_loaded(interruptibility);
    straight_of(vcpu->cpu)->eptp_is_owed = false;
    bool long_mode = (vmcs_read(GUEST_EFER) & EFER_LMA) != 0;
    struct l1_registers l1 = read_l1_registers((uint32_t)slot->v->ENTRY_CONTROLS);
    turn_to_l2(vcpu, slot);
    check_scope_t scope = scope_to_check(slot, long_mode);
    if (!scope || pass_checks(vcpu, long_mode, scope))
        start_l2(vcpu, slot, &l1);
}

static inline bool is_nmi(const struct vmexit *exit)
{
    return exit->reason == EXIT_EXCEPTION_NMI && GET(exit->interruption_info, INTR_TYPE) == INTR_TYPE_NMI;
}

/* True if L1 is left with NMIs blocked: an exit due to an NMI blocks them, other exits change nothing about it, and
 * without virtual NMIs it is the processor's own blocking that L2 had. SDM 3C 28.5.5 "Updating Non-Register State" */
static bool blocks_nmis(const struct vcpu *vcpu, const struct vmcs12 *v)
{
    if (is_nmi(&vcpu->exit))
        return true;
    return !(v->PIN_CONTROLS & PIN_VIRTUAL_NMIS) && v->GUEST_INTERRUPTIBILITY & BLOCKING_BY_NMI;
}

/* Few exits ask for it: registers that the CPU has not switched, all that an enlightened VMCS has. Current: vmcs02. */
static NOINLINE void go_by_hand(struct nested *nested, struct vmcs12_slot *slot)
{
    if (slot->kept & KEPT_SWITCHED)
        switched_by_hand(nested, slot, true);
    if (!(slot->kept & KEPT_ENLIGHTENED))
        return;
    prepare_fetch_rows(nested, slot);
    enlightened_write_exit(nested, slot);
}

/* From L2 to L1, with the exit's information where L1 finds it. Current: vmcs02. */
static inline void go_to_l1(struct vcpu *vcpu, struct vmcs12_slot *slot, enum save_exit exit)
{
    EXPECT_CURRENT(vcpu->nested->current->vmcs02);
    struct nested *nested = vcpu->nested;
    struct vmcs12 *v = slot->v;
    struct l1_registers l2 = save_vmcs02(nested, slot, exit);
    if (vcpu->l2_event_written || !slot->mirrored) {
        shadow_write_event(slot);
        vcpu->l2_event_written = false;
    }
    uint64_t l2_cr0 = v->GUEST_CR0;
    if (msr_area_store(vcpu, v->EXIT_MSR_STORE_ADDR, (uint32_t)v->EXIT_MSR_STORE_COUNT)) {
        entry_log_abort(slot->vmptr, &nested->refusal);
        dump_and_end(vcpu, "VMX abort of L1: its VM-exit MSR-store list failed");
    }
    if (__builtin_expect(slot->kept & (KEPT_SWITCHED | KEPT_ENLIGHTENED), 0))
        go_by_hand(nested, slot);
    leave_l2(vcpu);
    slot->mirrored = nested->vmread_bitmap && !slot->enlightened;
    shadow_select(nested);
    resume_l1(vcpu, slot, &l2, l2_cr0);
    /* The NMI, or the blocking that L2 had, is L1's now. Nestor itself keeps NMIs open: it blocks them for L1 in the
     * VMCS. */
    if (blocks_nmis(vcpu, v)) {
        vmcs_write(GUEST_INTERRUPTIBILITY, BLOCKING_BY_NMI); /* L1's virtual blocking; Nestor itself takes NMIs */
        vmx_unblock_nmi();
    }
    if (!straight_has_no_plan(slot))
        straight_make_plan(vcpu, slot, l2_cr0);
    count(COUNT_EXITS_REFLECTED);
}

/* True if vmcs02, which L1 reads, has all that the exit says. */
static bool is_readable_in_vmcs02(const struct vcpu *vcpu)
{
    return vcpu->nested->vmread_bitmap && !vcpu->nested->current->enlightened && !vcpu->exit.changed;
}

/* The rest of the exit is the straight way's. Current: vmcs02. */
static inline bool goes_straight(struct vcpu *vcpu, struct vmcs12_slot *slot)
{
    if (!slot->plan.valid || !straight_may_exit(vcpu, slot))
        return false;
    slot->plan.timer = slot->v->PREEMPTION_TIMER;
    vcpu->next = NEXT_STRAIGHT_TO_L1;
    straight_of(vcpu->cpu)->decided = true;
    count(COUNT_EXITS_REFLECTED);
    return true;
}

void nested_reflect(struct vcpu *vcpu)
{
    EXPECT_CURRENT(vcpu->nested->current->vmcs02);
    struct vmcs12_slot *slot = vcpu->nested->current;
    if (step_active(vcpu)) /* an EPT violation that turned out to be L1's */
        (void)step_end(vcpu);
    slot->v->ENTRY_INTERRUPTION_INFO &= ~INTR_VALID;
    if (is_readable_in_vmcs02(vcpu)) {
        if (!is_nmi(&vcpu->exit) && goes_straight(vcpu, slot))
            return;
        go_to_l1(vcpu, slot, EXIT_IN_VMCS02);
        return;
    }
    shadow_record_exit(&vcpu->exit, slot->v);
    if (vcpu->exit.changed)
        shadow_write_exit(vcpu->nested, slot);
    go_to_l1(vcpu, slot, EXIT_RECORDED);
}

void nested_straight_to_l1(struct vcpu *vcpu, uint32_t reason)
{
    KNOWN(reason < EXIT_REASON_COUNT);
    struct vmcs12_slot *slot = vcpu->nested->current;
    vcpu->exit.reason = reason;
    slot->v->ENTRY_INTERRUPTION_INFO &= ~INTR_VALID;
    if (goes_straight(vcpu, slot)) {
        vcpu_count_exit(vcpu, reason, vmcs_read(GUEST_RIP), true);
        return;
    }
    go_to_l1(vcpu, slot, EXIT_IN_VMCS02);
    vcpu_count_exit(vcpu, reason, slot->v->GUEST_RIP, true);
    vcpu_prepare_entry(vcpu);
}

/* The entry that failed took no event: L1's stays where L1 sees it. Nothing of L2's state has changed. Current:
 * vmcs02. */
static void undo_entry(struct vcpu *vcpu, struct vmcs12_slot *slot)
{
    slot->v->launched = slot->was_launched;
    vcpu->inject_info = 0;
    if (vcpu->l2_event_written && slot->mirrored)
        shadow_write_event(slot);
    vcpu->l2_event_written = false;
    if (slot->entered_straight) { /* so vmcs12 is older */
        prepare_leave_unread(slot);
        if (slot->plan.shape & SHAPE_ENTRY_LIST) /* it comes behind the checks of the CPU */
            straight_lists_undo(vcpu->nested);
    }
    if (__builtin_expect(vcpu->waiting, 0)) /* L2 was to wait for a start-up IPI: others would send no kick */
        startup_wait_no_more(vcpu);
}

/* The CPU refused an entry. What it is left to judge, rows that L1 wrote to vmcs02 itself, the checks judge alike, and
 * say which rule it was. False: they find nothing. Current: vmcs02; vmcs01 when they did. */
static bool fail_by_rule(struct vcpu *vcpu, struct vmcs12_slot *slot)
{
    prepare_fetch_rows(vcpu->nested, slot);
    struct check_result result = check_slot(vcpu, slot, slot->checked_long_mode, CHECK_SCOPE_ALL);
    if (result.kind == CHECK_OK)
        return false;
    fail_checks(vcpu, &result);
    return true;
}

void nested_hardware_entry_failure(struct vcpu *vcpu)
{
    EXPECT_CURRENT(vcpu->nested->current->vmcs02);
    uint32_t reason = vcpu->exit.reason;
    uint64_t qualification = vcpu->exit.qualification;
    struct vmcs12_slot *slot = vcpu->nested->current;
    undo_entry(vcpu, slot);
    /* Each exit sets vcpu->launched; an entry that fails leaves the launch state alone. Once cleared, it is known. */
    ASSERT(insn_vmclear(slot->vmcs02));
    vmcs_load(slot->vmcs02);
    vcpu->launched = false;
    if (fail_by_rule(vcpu, slot))
        return;
    entry_log_cpu_exit(reason);
    slot_set_all_dirty(slot); /* the MSR list went to vmcs02 */
    slot_unmirror(slot);
    if (slot->kept & KEPT_SWITCHED)
        switched_by_hand(vcpu->nested, slot, false);
    leave_l2(vcpu);
    nested_entry_failure(vcpu, reason, qualification);
}

void nested_late_failure(struct vcpu *vcpu, uint32_t error)
{
    EXPECT_CURRENT(vcpu->nested->current->vmcs02);
    struct vmcs12_slot *slot = vcpu->nested->current;
    undo_entry(vcpu, slot);
    if (fail_by_rule(vcpu, slot))
        return;
    entry_log_cpu_error(error);
    slot_set_all_dirty(slot); /* the MSR list went to vmcs02 */
    slot_unmirror(slot);
    leave_l2(vcpu);
    shadow_select(vcpu->nested);
    bool host_of_l1 = slot->v->EXIT_CONTROLS & (EXITC_LOAD_CET | EXITC_LOAD_PERF_GLOBAL); /* their reserved bits */
    fail_instruction(vcpu, error == VMXERR_ENTRY_HOST_STATE && !host_of_l1 ? VMXERR_ENTRY_CONTROLS : error);
}

/* Where L1 wrote nothing, an entry may still have to let EPT02 catch up with EPT12. */
bool nested_resume_straight(struct vcpu *vcpu)
{
    EXPECT_CURRENT(vcpu->vmcs01);
    struct nested *nested = vcpu->nested;
    struct vmcs12_slot *slot = nested->current;
    if (!straight_may_enter(slot))
        return false;
    nested->left_as_loaded = true;
    straight_of(vcpu->cpu)->eptp_is_owed = false;
    if (slot->revisit)
        l2_ept_prefill(vcpu);
    if (slot->root && l2_eptp_stands(slot) && slot->roots_seen == nested->ept02s.roots_changed)
        prepare_sync_ept02(nested, slot);
    return straight_is_quiet(vcpu);
}

void insn_exit_vmlaunch(struct vcpu *vcpu)
{
    if (vcpu->nested->current)
        lint_launch(vcpu, vcpu->nested->current->v);
    nested_enter(vcpu, true);
}

void insn_exit_vmresume(struct vcpu *vcpu)
{
    nested_enter(vcpu, false);
}
