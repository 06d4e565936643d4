/* Plans for the straight way: all that vmx/straight.asm needs of one vmcs12, computed when L1 has changed something and
 * only read from then on. A plan is right as long as it depends on nothing that can change without an exit that takes
 * the long way, or without straight_disturb() by whoever changes it. Such a dependency is a row of nested/quiet.def. A
 * checked build does not believe it: before each straight entry or exit it asks the rows anew and compares vmcs02, or
 * vmcs01, with what the long way would have put there. docs/adr/0017-the-straight-way.md */
#include "nested/quiet.h"

#include "kernel/cmdline.h"
#include "kernel/layout.h"
#include "kernel/msr.h"
#include "kernel/panic.h"
#include "kernel/x86.h"
#include "nested/host_state.h"
#include "nested/prepare.h"
#include "nested/rules/decide.h"
#include "nested/rules/merge.h"
#include "nested/shadow.h"
#include "nested/slot.h"
#include "nested/straight_lists.h"
#include "nested/vpid12.h"
#include "vmx/msr_bitmap.h"
#include "vmx/run.h"
#include "vmx/step.h"
#include "vmx/vmcs_setup.h"
#include "vmx/vmx_insn.h"
#include "vmx/vpid.h"

_Static_assert(STRAIGHT_ENCODINGS == VMCS12_ENCODINGS, "straight_l1.asm looks into vmcs12_rows[]");
uint64_t straight_readable[DIRTY_WORDS], straight_writable[DIRTY_WORDS];
uint8_t straight_words[FIELD_COUNT];

/* Without EPT an entry reads the PDPTEs from L1's memory. What L2 has of CR4 the straight way does not see; out of
 * IA-32e mode L2 does not get by itself. */
static bool may_use_pae(const struct vmcs12 *v)
{
    return !(vmcs12_proc2(v) & PROC2_EPT) && !(v->ENTRY_CONTROLS & ENTRY_GUEST_64);
}

/* True if an exit saves a register that the next entry does not load: L2's value would be in vmcs12 alone. */
static bool loses_registers(const struct vmcs12 *v)
{
    uint64_t load = v->ENTRY_CONTROLS, save = v->EXIT_CONTROLS;
    return ((save & EXITC_SAVE_DEBUG) && !(load & ENTRY_LOAD_DEBUG)) ||
           ((save & EXITC_SAVE_PAT) && !(load & ENTRY_LOAD_PAT)) ||
           ((save & EXITC_SAVE_EFER) && !(load & ENTRY_LOAD_EFER));
}

/* L2 starts with L1's EFER, made to fit its mode, and can change that by itself. Linux KVM asks for this, unless L2's
 * NXE differs. */
static bool follows_mode(const struct vmcs12 *v)
{
    return (vmcs12_proc2(v) & PROC2_UNRESTRICTED) && !(v->ENTRY_CONTROLS & ENTRY_LOAD_EFER);
}

/* True if the straight way can do what this vmcs12 asks for. Nothing of it changes but by a VMWRITE that exits. */
static bool is_simple(const struct nested *nested, const struct vmcs12_slot *slot)
{
    const struct vmcs12 *v = slot->v;
    return nested->vmread_bitmap && options.straight_way && !options.trace && slot->host.host64 && v->launched &&
           (!straight_has_lists(v) || straight_lists_are_plain(nested->vcpu, v)) &&
           v->VMCS_LINK_POINTER == VMPTR_NONE && !may_use_pae(v) && !loses_registers(v) && !slot->nmi_unvirtual &&
           v->GUEST_ACTIVITY_STATE != ACTIVITY_WAIT_SIPI && /* Nestor waits, too */
           (!follows_mode(v) || (v->ENTRY_CONTROLS & ENTRY_GUEST_64)) && !slot->at_entry &&
           !(slot->kept & (KEPT_PERF | KEPT_SWITCHED | KEPT_ENLIGHTENED)) &&
           !(nested->vcpu->vp_assist & HYPERV_ENABLE); /* each entry asks which VMCS it is */
}

/* True if nothing but EPT12's entries decides what becomes of an EPT violation. */
static bool has_plain_ept(const struct vmcs12_slot *slot)
{
    const uint64_t more = PROC2_EPT_VE | PROC2_SPP | PROC2_MODE_BASED_EXECUTE;
    return (vmcs12_proc2(slot->v) & (PROC2_EPT | more)) == PROC2_EPT && !slot->watches_svi;
}

/* Work beside the image, for registers that vmcs12's controls do not switch. An entry that loads none gives L2 the
 * register as L1 has it, so it is read each time. An exit that saves none leaves vmcs12's field as it was, but the CPU
 * saves into vmcs02 always (merge_controls()), so the field's value is put back at the next entry. An exit that loads
 * none lets L1 go on with L2's. SDM 3C 27.3.2.1, 28.3.1, 28.5.1 */
static uint64_t shape_of(const struct vcpu *vcpu, const struct vmcs12_slot *slot)
{
    const struct vmcs12 *v = slot->v;
    uint64_t load = v->ENTRY_CONTROLS, save = v->EXIT_CONTROLS, shape = 0;
    if (!(load & ENTRY_LOAD_DEBUG))
        shape |= SHAPE_READ_DEBUG;
    if (!(load & ENTRY_LOAD_PAT))
        shape |= SHAPE_READ_PAT;
    if (!(load & ENTRY_LOAD_EFER))
        shape |= SHAPE_READ_EFER;
    if (!(load & ENTRY_LOAD_DEBUG) || !(save & EXITC_SAVE_DEBUG))
        shape |= SHAPE_DEBUG;
    if (!(load & ENTRY_LOAD_PAT) || !(save & EXITC_SAVE_PAT))
        shape |= SHAPE_PAT;
    if (!(load & ENTRY_LOAD_EFER) || !(save & EXITC_SAVE_EFER))
        shape |= SHAPE_EFER;
    if (slot->kept & KEPT_TIMER)
        shape |= SHAPE_TIMER;
    if (!(vmcs12_proc2(v) & PROC2_VPID) && vcpu->vm->caps.vpid_flush && options.fault != FAULT_SKIP_INVVPID)
        shape |= SHAPE_NO_VPID;
    if (!(save & EXITC_LOAD_PAT))
        shape |= SHAPE_KEEP_PAT;
    if (!(save & EXITC_LOAD_EFER))
        shape |= SHAPE_KEEP_EFER;
    if (!(v->PIN_CONTROLS & PIN_VIRTUAL_NMIS))
        shape |= SHAPE_NMI;
    if (follows_mode(v))
        shape |= SHAPE_MODE;
    if (v->ENTRY_MSR_LOAD_COUNT)
        shape |= SHAPE_ENTRY_LIST;
    if (v->EXIT_MSR_STORE_COUNT || v->EXIT_MSR_LOAD_COUNT)
        shape |= SHAPE_EXIT_LISTS;
    return shape;
}

/* The part of a plan that follows from the controls, and from fields that L1 can write by an exit alone. */
static NOINLINE void make_plan(const struct vcpu *vcpu, struct vmcs12_slot *slot)
{
    struct straight_plan *plan = &slot->plan;
    const struct vmcs12 *v = slot->v;
    plan->valid = is_simple(vcpu->nested, slot);
    plan->made = true;
    plan->plain_ept = has_plain_ept(slot);
    plan->vmcs02 = slot->vmcs02;
    plan->revision = hpa_to_va(slot->vmcs02);
    plan->reasons = slot->straight;
    plan->shape = shape_of(vcpu, slot) | (plan->shape & SHAPE_PROC);
    plan->cr0_mask = CR0_KEPT;
    plan->efer_kept = EFER_LMA | EFER_LME;
    plan->mode = v->ENTRY_CONTROLS & ENTRY_GUEST_64;
    plan->dr7 = v->GUEST_DR7;
    plan->debugctl = v->GUEST_DEBUGCTL;
    plan->pat = v->GUEST_PAT;
    plan->efer = v->GUEST_EFER;
    plan->invvpid_type = vcpu->vm->caps.vpid_flush;
    plan->invvpid_l1[0] = VPID_L1;
    plan->invvpid_l2[0] = VPID_L2_NONE;
}

void straight_make_plan(struct vcpu *vcpu, struct vmcs12_slot *slot, uint64_t l2_cr0)
{
    struct straight_plan *plan = &slot->plan;
    if (__builtin_expect(!plan->made || plan->mode != (slot->v->ENTRY_CONTROLS & ENTRY_GUEST_64), 0))
        make_plan(vcpu, slot);
    if (!plan->valid)
        return;
    plan->cr0_kept = l2_cr0 & CR0_KEPT;
    if (plan->shape & SHAPE_READ_EFER) {
        plan->l1_efer = plan->image[STRAIGHT_GUEST_EFER];
        plan->efer = merge_guest_efer(slot->v, plan->l1_efer);
    }
}

/* Host state that an exit loads as it is. Its only rule: that it is canonical, or for CR3 within the width of
 * addresses. */
static const struct {
    uint8_t row, word;
} host_words[] = {
    {FIELD_INDEX_HOST_FS_BASE, STRAIGHT_GUEST_FS_BASE},
    {FIELD_INDEX_HOST_GS_BASE, STRAIGHT_GUEST_GS_BASE},
    {FIELD_INDEX_HOST_RIP, STRAIGHT_GUEST_RIP},
    {FIELD_INDEX_HOST_CR3, STRAIGHT_GUEST_CR3},
};

static bool host_value_holds(const struct vmx_caps *caps, unsigned row, uint64_t value)
{
    uint64_t sign = BITS(63, caps->linear_bits - 1);
    if (row == FIELD_INDEX_HOST_CR3)
        return !(value >> caps->address_bits);
    return (value & sign) == 0 || (value & sign) == sign;
}

/* Linux KVM writes these at many of its exits: the interrupt window, when an interrupt for L2 waits, and CR3 and the
 * bases of FS and GS, when another of its threads runs the virtual processor. A new plan each time would cost more than
 * the straight way saves; so the bit is turned in vmcs12, in vmcs02's controls (at the next entry) and in the exits
 * that are L1's, and an address goes to vmcs12 and to the image. */
bool straight_write(const struct vcpu *vcpu, struct vmcs12_slot *slot, unsigned row, uint64_t value)
{
    struct straight_plan *plan = &slot->plan;
    struct vmcs12 *v = slot->v;
    if (!plan->valid || !slot->host.ready)
        return false;
    if (row == FIELD_INDEX_PROC_CONTROLS) {
        uint64_t window = (v->PROC_CONTROLS ^ value);
        if (window & ~(uint64_t)PROC_INTERRUPT_WINDOW)
            return false;
        v->PROC_CONTROLS ^= window;
        plan->proc ^= window;
        plan->shape |= SHAPE_PROC;
        slot->straight &= ~BIT(EXIT_INTERRUPT_WINDOW);
        if (v->PROC_CONTROLS & PROC_INTERRUPT_WINDOW)
            slot->straight |= BIT(EXIT_INTERRUPT_WINDOW);
        plan->reasons = slot->straight;
        return true;
    }
    for (unsigned i = 0; i < ARRAY_SIZE(host_words); i++)
        if (host_words[i].row == row && host_value_holds(&vcpu->vm->caps12, row, value)) {
            v->field[row] = plan->image[host_words[i].word] = value;
            return true;
        }
    return false;
}

/* A row's value is in vmcs12, and may be read there without an exit's whole work, unless L1 reads it from its shadow
 * VMCS anyhow, or the newest value may wait in vmcs02 (prepare_may_leave()). A VMWRITE needs no more than that the row
 * is marked, unless it is read-only, or straight_write() has something better. */
void straight_init(const struct nested *nested)
{
    static struct straight_plan nobody; /* of no vmcs12 */
    for (unsigned i = 0; i < STRAIGHT_HELD; i++)
        straight_of(nested->vcpu->cpu)->held[i] = &nobody;
    for (unsigned row = 0; row < FIELD_COUNT; row++) {
        if (!bits_test(nested->field_offered, row) || bits_test(nested->rows_shown, row) || prepare_may_leave(row))
            continue;
        bits_set(straight_readable, row);
        if (vmcs12_write_masks[row] && row != FIELD_INDEX_PROC_CONTROLS)
            bits_set(straight_writable, row);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(host_words); i++) {
        bits_clear(straight_writable, host_words[i].row);
        if (host_words[i].row != FIELD_INDEX_HOST_CR3)
            straight_words[host_words[i].row] = (uint8_t)(host_words[i].word + 1);
    }
}

/* True if straight_ept_enter() does all that L1's next entry has to do with EPT02. */
static inline bool straight_may_revisit(const struct vmcs12_slot *slot)
{
    return slot->revisit == REVISIT_VIOLATION && slot->plan.plain_ept;
}

/* True if the rows hold that this processor alone changes, or those that any does; for exits of L2 alone, or also for
 * entries. */
enum changer { OWN, ANY };
enum way { BOTH, ENTRY };

static ALWAYS_INLINE bool rows_hold(const struct vcpu *vcpu, const struct nested *nested,
                                    const struct vmcs12_slot *slot, enum changer changer, enum way way)
{
#define QUIET(name, by, for_way, condition, who)                                                                       \
    if ((by) == changer && (for_way) <= way && !(condition) && options.quiet_fault != QUIET_FAULT_##name)              \
        return false;
#include "nested/quiet.def"
#undef QUIET
    return true;
}

/* Another vmcs12 is the current one. */
static NOINLINE void take_slot(const struct vcpu *vcpu, struct straight *straight, struct vmcs12_slot *slot)
{
    straight->plan = &slot->plan;
    straight->fields = slot->plan.fields;
    straight->vmcs01 = vcpu->vmcs01;
    if (!vcpu->nested->small) /* VMPTRLD by vmx/straight_l1.asm has L1 shown vmcs02 */
        straight->held[slot->vmptr / PAGE_SIZE % STRAIGHT_HELD] = &slot->plan;
    straight->current = (struct straight_current *)&vcpu->nested->current;
}

/* NULL if there is no plan for it. */
static inline struct vmcs12_slot *follow(const struct vcpu *vcpu, struct straight *straight)
{
    const struct nested *nested = vcpu->nested;
    struct vmcs12_slot *slot = nested ? nested->current : NULL;
    if (!slot || !slot->plan.made) {
        straight->fields = NULL;
        return NULL;
    }
    if (straight->plan != &slot->plan || straight->fields != slot->v->field)
        take_slot(vcpu, straight, slot);
    return slot;
}

void straight_follow(const struct vcpu *vcpu)
{
    (void)follow(vcpu, straight_of(vcpu->cpu));
}

/* `quiet` speaks of every vmcs12 that was looked at since it was set last, which `epoch` counts: while it stands,
 * nothing of any of them has changed, so L1 may turn to another and back (vmx/straight_l1.asm). So it is set anew only
 * where somebody has cleared it, or where it is to say that one vmcs12 has EPT02 to look at.
 *
 * Another processor changes a condition first and clears `quiet` then; here `quiet` is set first, and the conditions
 * that others change are looked at then. So whichever comes later sees what the other did: in no order is `quiet` left
 * set with a condition that does not hold. That takes sequentially consistent accesses on both sides: x86 alone would
 * let the load of a condition pass the store of `quiet`. */
static NOINLINE void look(const struct vcpu *vcpu, struct straight *straight, struct vmcs12_slot *slot)
{
    const struct nested *nested = vcpu->nested;
    if (!rows_hold(vcpu, nested, slot, OWN, ENTRY)) {
        straight->quiet = 0;
        return;
    }
    uint8_t quiet = slot->revisit && options.quiet_fault != QUIET_FAULT_REVISIT ? QUIET_BUT_REVISIT : QUIET_ALL;
    if (quiet == QUIET_BUT_REVISIT || __atomic_load_n(&straight->quiet, __ATOMIC_SEQ_CST) != QUIET_ALL) {
        straight->epoch += !MUTANT(EPOCH);
        __atomic_store_n(&straight->quiet, quiet,
                         __ATOMIC_SEQ_CST); /* before the look: others take it away after a change */
    }
    if (!rows_hold(vcpu, nested, slot, ANY, ENTRY)) {
        straight->quiet = 0;
        return;
    }
    slot->plan.epoch = straight->epoch;
    slot->plan.timer = slot->v->PREEMPTION_TIMER;
    slot->plan.msr_page = slot_bitmaps_merged_copy(&slot->bitmaps);
}

void straight_ready(struct vcpu *vcpu)
{
    struct straight *straight = straight_of(vcpu->cpu);
    struct vmcs12_slot *slot = follow(vcpu, straight);
    if (__builtin_expect(step_active(vcpu), 0))
        straight->stop = 1;
    if (slot && (slot->plan.valid || options.quiet_fault == QUIET_FAULT_PLAN))
        look(vcpu, straight, slot);
    else
        straight->quiet = 0;
}

/* L1's state is in the image, except for what vmx/straight.asm reads of L2 for it. */
bool straight_may_exit(struct vcpu *vcpu, const struct vmcs12_slot *slot)
{
    EXPECT_CURRENT(slot->vmcs02);
    const struct straight_plan *plan = &slot->plan;
    if (!slot->host.ready || slot->nmi_blocked || straight_of(vcpu->cpu)->plan != plan ||
        !rows_hold(vcpu, vcpu->nested, slot, OWN, BOTH) || !rows_hold(vcpu, vcpu->nested, slot, ANY, BOTH) ||
        !vcpu_is_prepared(vcpu) || (vmcs_read(GUEST_CR0) & plan->cr0_mask) != plan->cr0_kept)
        return false;
    if ((plan->shape & SHAPE_MODE) && !(vmcs_read(ENTRY_CONTROLS) & ENTRY_GUEST_64))
        return false;
    if (!(plan->shape & (SHAPE_NMI | SHAPE_EXIT_LISTS)))
        return true;
    if ((plan->shape & SHAPE_NMI) && (vmcs_read(GUEST_INTERRUPTIBILITY) & BLOCKING_BY_NMI))
        return false;
    return !(plan->shape & SHAPE_EXIT_LISTS) || straight_lists_exit(vcpu);
}

/* With that CS it is a 64-bit L1 at CPL 0. */
bool straight_left_as_loaded(uint64_t interruptibility)
{
    return !interruptibility && vmcs_read(GUEST_CS_AR_BYTES) == ACCESS_CODE64;
}

bool straight_may_enter(const struct vmcs12_slot *slot)
{
    const struct straight_plan *plan = &slot->plan;
    if ((slot->plan.dirty[0] | slot->plan.dirty[1] | slot->plan.dirty[2] | slot->plan.scope))
        return false;
    return straight_left_as_loaded(vmcs_read(GUEST_INTERRUPTIBILITY)) &&
           (!(plan->shape & SHAPE_READ_EFER) || vmcs_read(GUEST_EFER) == plan->l1_efer);
}

bool straight_is_quiet(struct vcpu *vcpu)
{
    struct straight *straight = straight_of(vcpu->cpu);
    straight_ready(vcpu);
    if (straight->quiet == QUIET_ALL && vcpu_is_prepared(vcpu))
        return true;
    straight->quiet = 0;
    return false;
}

#ifdef CHECKED
/* Rows that no other processor can have changed in between. */
static void check_own_rows(const struct vcpu *vcpu, const struct nested *nested, const struct vmcs12_slot *slot,
                           enum way way)
{
#define QUIET(name, by, for_way, condition, who)                                                                       \
    if ((by) == OWN && (for_way) <= way && !(condition))                                                               \
        panic("straight: " #name " of nested/quiet.def does not hold: " who);
#include "nested/quiet.def"
#undef QUIET
}

/* The long way's answer, of a reason that needs no more bitmaps than that of MSRs; NMIs are not L1's by this way.
 * Current: vmcs02. */
static bool is_l1s(const struct vcpu *vcpu, const struct vmcs12_slot *slot, uint32_t reason)
{
    const struct vmexit exit = {
        .reason = reason,
        .qualification = vmcs_read(EXIT_QUALIFICATION),
        .interruption_info = vmcs_read(EXIT_INTERRUPTION_INFO),
        .interruption_error_code = vmcs_read(EXIT_INTERRUPTION_ERROR_CODE),
    };
    const struct decide_input in = {
        .exit = &exit,
        .v = slot->v,
        .regs = vcpu->regs,
        .rsp = vmcs_read(GUEST_RSP),
        .msr_bitmap = slot_bitmaps_merged_copy(&slot->bitmaps),
        .l0_nmi = true,
        .narrow = !(vmcs_read(GUEST_CS_AR_BYTES) & AR_L),
    };
    return decide_exit(&in) == TO_L1;
}

/* Of an exit that went straight to L1: the decision, unless the long way made it, and L1's state. */
static void check_exit(struct vcpu *vcpu, struct vmcs12_slot *slot, bool decided)
{
    struct l1_registers l2;
    uint64_t cr0;
    uint32_t reason, interruptibility;
    vmcs_load(slot->vmcs02);
    l2 = (struct l1_registers){.pat = vmcs_read(GUEST_PAT), .efer = vmcs_read(GUEST_EFER)};
    cr0 = vmcs_read(GUEST_CR0);
    reason = vmcs_read(EXIT_REASON);
    interruptibility = vmcs_read(GUEST_INTERRUPTIBILITY);
    ASSERT(slot->plan.image[STRAIGHT_GUEST_RSP] == vmcs_read(HOST_RSP));
    ASSERT(slot->straight == decide_straight(slot->v) && (decided || reason < 64));
    ASSERT(decided                        ? reason == vcpu->exit.reason
           : reason == EXIT_EPT_VIOLATION ? slot->revisit & REVISIT_VIOLATION
                                          : is_l1s(vcpu, slot, reason));
    ASSERT(!(vmcs_read(ENTRY_INTERRUPTION_INFO) & INTR_VALID));
    ASSERT((slot->v->PIN_CONTROLS & PIN_VIRTUAL_NMIS) || !(interruptibility & BLOCKING_BY_NMI));
    ASSERT(insn_vmclear(slot->vmcs02)); /* L1 is about to reach it by the link pointer */
    vmcs_load(vcpu->vmcs01);
    ASSERT(vmcs_read(VMCS_LINK_POINTER) == slot->vmcs02);
    ASSERT(host_state_is(vcpu, slot, &l2, cr0));
}

/* True if vmcs02 has more of the row than vmcs12's value: keep_cr4_hidden() of nested/prepare. */
static bool is_mixed(const struct vcpu *vcpu, unsigned row)
{
    return vcpu->vm->cr4_hidden && (row == FIELD_INDEX_CR4_GUEST_HOST_MASK || row == FIELD_INDEX_CR4_READ_SHADOW);
}

/* Of an entry that went straight to L2: nothing to be brought to vmcs02 that is not there. */
static void check_entry_of_l2(struct vcpu *vcpu, struct vmcs12_slot *slot)
{
    struct nested *nested = vcpu->nested;
    const struct vmcs12 *v = slot->v;
    for (unsigned row = 0; row < FIELD_COUNT; row++)
        if (bits_test(nested->field_offered, row) && vmcs_fields[row].merge == VMCS_MERGE_COPIED &&
            !shadow_is_direct(row) && !slot_is_live(slot, row) && !is_mixed(vcpu, row) &&
            vmcs_read_encoding(vmcs_fields[row].encoding) != v->field[row])
            panic("straight: vmcs02 has %lx for %s, vmcs12 %lx", vmcs_read_encoding(vmcs_fields[row].encoding),
                  vmcs_fields[row].name, v->field[row]);
    ASSERT(prepare_controls_are(nested, slot));
    ASSERT(!slot->revisit);
}

void straight_checked(struct vcpu *vcpu)
{
    struct vmcs12_slot *slot = vcpu->nested->current;
    bool decided = vcpu->next == NEXT_STRAIGHT_TO_L1;
    vcpu->next = NEXT_ENTER;
    check_own_rows(vcpu, vcpu->nested, slot, decided ? BOTH : ENTRY);
    if (vcpu->in_l2)
        check_entry_of_l2(vcpu, slot);
    else
        check_exit(vcpu, slot, decided);
}
#else
void straight_checked(struct vcpu *vcpu)
{
    (void)vcpu;
}
#endif
