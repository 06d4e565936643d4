#include "nested/prepare.h"

#include "kernel/cmdline.h"
#include "kernel/layout.h"
#include "kernel/panic.h"
#include "kernel/x86.h"
#include "nested/apic_pages.h"
#include "nested/l2_spp.h"
#include "nested/lint.h"
#include "nested/rules/decide.h"
#include "nested/shadow.h"
#include "nested/slot.h"
#include "nested/small_shadow.h"
#include "nested/switched.h"
#include "nested/vpid12.h"
#include "vmx/cr.h"
#include "vmx/event.h"
#include "vmx/vmcs_exists.h"
#include "vmx/vmcs_setup.h"
#include "vmx/vmx_insn.h"
#include "vmx/vpid.h"

/* Rows by what is done with them, as bits and as lists. All processors compute the same. */
static uint64_t rows_copied[DIRTY_WORDS];   /* vmcs12 -> vmcs02 when dirty */
static uint64_t rows_computed[DIRTY_WORDS]; /* a change makes the controls be computed again */
static uint64_t rows_optional[DIRTY_WORDS]; /* registers that entries load only when a control says so */
static uint64_t rows_host[DIRTY_WORDS];     /* a change makes the host image be computed again */
static uint64_t rows_lazy[DIRTY_WORDS];     /* vmcs02 -> vmcs12 when somebody asks */
static uint64_t rows_direct[DIRTY_WORDS];   /* of these, what L1 writes to vmcs02 itself: asked for each time */
static uint64_t rows_both[DIRTY_WORDS];     /* the same where L1 has them by VMCS shadowing, except for few */
/* Rows that a straight exit leaves in vmcs02 and others read; of the registers, those that `optional` saves. */
static uint64_t rows_unread[DIRTY_WORDS];
/* Rows that an exit leaves in vmcs02: both and lazy, and what describes the exit if it was not read. */
static uint64_t rows_left[2][DIRTY_WORDS];
static uint64_t rows_listed[DIRTY_WORDS]; /* what a list of MSRs may write to vmcs02 */
static struct {
    uint16_t row, encoding;
} rows_saved[FIELD_COUNT]; /* vmcs02 -> vmcs12 at a reflected exit */
static unsigned rows_saved_count;

/* Rows that entries and exits look at in vmcs12: save_known() copies it. */
static const uint8_t rows_known[] = {
#define FIELD(name, enc, width, area, sync, merge, need, judged, view) VIEW_##view(ROW_IN_LIST(name), , , )
#include "vmx/vmcs_fields.def"
#undef FIELD
};

/* Rows that describe an exit; of error codes only that of an event whose delivery it interrupted: decide_straight(). */
static const uint8_t rows_exit[] = {
#define FIELD(name, enc, width, area, sync, merge, need, judged, view)                                                 \
    VIEW_##view(, , ROW_IN_LIST(name), ROW_IN_LIST(name))
#include "vmx/vmcs_fields.def"
#undef FIELD
};

static void find_listed(void)
{
#define VMCS_MSR(name, kind) bits_set(rows_listed, FIELD_INDEX_GUEST_##name);
#define LOADED_MSR(msr, field, control, bits) bits_set(rows_listed, FIELD_INDEX_##field);
#include "vmx/vmcs_msrs.def"
#undef VMCS_MSR
#undef LOADED_MSR
}

void prepare_init(struct nested *nested)
{
    uint64_t ignored;
    rows_saved_count = 0;
    for (unsigned row = 0; row < FIELD_COUNT; row++) {
        const struct vmcs_field *field = &vmcs_fields[row];
        uint64_t bit = BIT(row % 64);
        if (!vmread_checked(field->encoding, &ignored) || !vmcs_field_exists(&nested->vcpu->vm->caps12, row))
            continue;
        nested->field_offered[row / 64] |= bit;
        vmcs12_rows[field->encoding] = (uint8_t)(row + 1);
        vmcs12_write_masks[row] = field->area == VMCS_AREA_INFO ? 0 : vmcs12_width_mask(row);
        if (field->merge == VMCS_MERGE_COPIED)
            rows_copied[row / 64] |= bit;
        else if (field->merge == VMCS_MERGE_COMPUTED)
            rows_computed[row / 64] |= bit;
        else if (field->merge == VMCS_MERGE_ENTRY && field->area == VMCS_AREA_GUEST)
            rows_optional[row / 64] |= bit;
        if ((field->area == VMCS_AREA_HOST && field->merge == VMCS_MERGE_L0) || row == FIELD_INDEX_EXIT_CONTROLS)
            rows_host[row / 64] |= bit;
        if (field->sync == VMCS_SYNC_BOTH) {
            rows_saved[rows_saved_count].row = (uint16_t)row;
            rows_saved[rows_saved_count++].encoding = field->encoding;
            rows_both[row / 64] |= bit;
        } else if (field->sync == VMCS_SYNC_LAZY) {
            rows_lazy[row / 64] |= bit;
            if (shadow_is_direct(row))
                rows_direct[row / 64] |= bit;
        }
    }
    find_listed();
    for (unsigned i = 0; i < ARRAY_SIZE(rows_known); i++) {
        rows_both[rows_known[i] / 64] &= ~BIT(rows_known[i] % 64);
        bits_set(rows_unread, rows_known[i]);
    }
    for (unsigned word = 0; word < DIRTY_WORDS; word++)
        rows_left[EXIT_RECORDED][word] = rows_left[EXIT_IN_VMCS02][word] = rows_both[word] | rows_lazy[word];
    for (unsigned i = 0; i < ARRAY_SIZE(rows_exit); i++)
        rows_left[EXIT_IN_VMCS02][rows_exit[i] / 64] |=
            BIT(rows_exit[i] % 64) & nested->field_offered[rows_exit[i] / 64];
}

static void write_vpid(struct nested *nested, struct vmcs12_slot *slot)
{
    const struct vmcs12 *v = slot->v;
    if (!(nested->vcpu->vm->caps.proc2.may & PROC2_VPID))
        return;
    uint16_t vpid = vmcs12_proc2(v) & PROC2_VPID ? nested_vpid(nested, (uint16_t)v->VPID) : VPID_L2_NONE;
    if (slot->vpid02 == vpid)
        return;
    slot->vpid02 = vpid;
    vmcs_write(VPID, vpid);
}

static struct merged_controls controls_of(const struct nested *nested, const struct vmcs12_slot *slot)
{
    struct merge_input in = {
        .v = slot->v,
        .cpu = &nested->vcpu->vm->caps,
        .msr_bitmap_merged = slot_bitmaps_has_msr(&slot->bitmaps),
        .io_bitmaps_merged = slot_bitmaps_has_io(&slot->bitmaps),
    };
    return merge_controls(&in);
}

/* All that depends on a control or pointer of L1. */
static void write_controls(struct nested *nested, struct vmcs12_slot *slot)
{
    const struct vmcs12 *v = slot->v;
    struct merged_controls controls = controls_of(nested, slot);
    vmcs_write(PIN_CONTROLS, controls.pin);
    vmcs_write(PROC_CONTROLS, controls.proc);
    slot->plan.proc = controls.proc;
    slot->plan.shape &= ~(uint64_t)SHAPE_PROC;
    vmcs_write(PROC2_CONTROLS, controls.proc2);
    if (controls.proc & PROC_TERTIARY)
        vmcs_write(PROC3_CONTROLS, controls.proc3);
    if (controls.proc2 & PROC2_VMFUNC)
        vmcs_write(VM_FUNCTION_CONTROLS, 0); /* each VMFUNC exits: nested/l2_ept does it */
    vmcs_write(EXIT_CONTROLS, controls.exit);
    vmcs_write(ENTRY_CONTROLS, controls.entry);
    slot_bitmaps_write(&slot->bitmaps, nested->bitmaps, v);
    apic_pages_write(nested, slot);
    slot->tpr_shadow = (v->PROC_CONTROLS & PROC_TPR_SHADOW) != 0;
    bool keeps_timer = (v->PIN_CONTROLS & PIN_PREEMPTION_TIMER) && !(v->EXIT_CONTROLS & EXITC_SAVE_TIMER);
    slot->kept = (keeps_timer ? KEPT_TIMER : 0) | (v->EXIT_CONTROLS & EXITC_SAVE_PERF_GLOBAL ? KEPT_PERF : 0) |
                 (switched_exits_by_hand(v) ? KEPT_SWITCHED : 0) | (slot->enlightened ? KEPT_ENLIGHTENED : 0);
    slot->nmi_unvirtual = (v->PIN_CONTROLS & (PIN_NMI | PIN_VIRTUAL_NMIS)) == PIN_NMI;
    slot->nmi_blocked = false;
    slot->watches_svi = options.virtual_vectoring == VECTORING_SVI && (vmcs12_proc2(v) & PROC2_VIRTUAL_INTERRUPTS);
    slot->at_entry = switched_needs(v) | (slot->watches_svi ? AT_ENTRY_SVI : 0) | (options.lint ? AT_ENTRY_LINT : 0) |
                     (vmcs12_proc2(v) & PROC2_SPP ? AT_ENTRY_SPP : 0);
    slot->straight = nested->shows && !slot->watches_svi && !slot->enlightened ? decide_straight(v) : 0;
}

void prepare_eptp(struct nested *nested, struct vmcs12_slot *slot)
{
    EXPECT_CURRENT(slot->vmcs02);
    const struct vmcs12 *v = slot->v;
    uint64_t eptp = ept_pointer(&nested->vcpu->vm->ept01), eptp12 = l2_eptp12(v);
    slot->root = NULL;
    if (vmcs12_proc2(v) & PROC2_EPT) {
        slot->root = ept02_root(&nested->ept02s, eptp12);
        eptp = ept02_eptp(slot->root);
    }
    if (slot->eptp02 != eptp) {
        slot->eptp02 = eptp;
        vmcs_write(EPT_POINTER, eptp);
    }
    slot->eptp12 = eptp12;
    slot->roots_seen = nested->ept02s.roots_changed;
    prepare_sync_ept02(nested, slot);
}

void prepare_sync_ept02(struct nested *nested, const struct vmcs12_slot *slot)
{
    /* L1 has used EPT01 without APIC-access page since. */
    if (slot->root ? ept02_settle(&nested->ept02s, slot->root)
                   : slot->apic_access && options.fault != FAULT_SKIP_INVEPT)
        ASSERT(insn_invept(INVEPT_SINGLE, (struct invalidate_descriptor){.context = slot->eptp02}));
}

/* Registers that are vmcs12's or L1's own by control. Where L1 has them both saved and loaded, vmcs02 holds them
 * already unless L1 wrote one (`dirty`) since. */
static void write_optional_registers(const struct vmcs12 *v, const struct l1_registers *l1, bool dirty)
{
    uint64_t load = v->ENTRY_CONTROLS, save = v->EXIT_CONTROLS;
    if (dirty || !(load & ENTRY_LOAD_DEBUG) || !(save & EXITC_SAVE_DEBUG)) {
        vmcs_write(GUEST_DR7, load & ENTRY_LOAD_DEBUG ? v->GUEST_DR7 : l1->dr7);
        vmcs_write(GUEST_DEBUGCTL, load & ENTRY_LOAD_DEBUG ? v->GUEST_DEBUGCTL : l1->debugctl);
    }
    if (dirty || !(load & ENTRY_LOAD_PAT) || !(save & EXITC_SAVE_PAT))
        vmcs_write(GUEST_PAT, load & ENTRY_LOAD_PAT ? v->GUEST_PAT : l1->pat);
    if (dirty || !(load & ENTRY_LOAD_EFER) || !(save & EXITC_SAVE_EFER))
        vmcs_write(GUEST_EFER, merge_guest_efer(v, l1->efer));
}

/* Without EPT the processor would read the PDPTEs from memory; under EPT01 it takes the fields. SDM 3C 27.3.2.4 */
static void write_pdptes(struct vcpu *vcpu, const struct vmcs12 *v)
{
    if (vmcs12_uses_pae(v))
        (void)!cr_load_pdptes(vcpu, vmcs_read(GUEST_CR3)); /* checked with the guest state */
}

/* vmcs02 has L1's event already while it is shown to L1; else it may have an older one of L1's. */
static void queue_event(struct vcpu *vcpu, const struct vmcs12_slot *slot)
{
    const struct vmcs12 *v = slot->v;
    if (!(v->ENTRY_INTERRUPTION_INFO & INTR_VALID)) {
        if (!slot->mirrored)
            vmcs_write(ENTRY_INTERRUPTION_INFO, 0);
        return;
    }
    vcpu->inject_info = (uint32_t)v->ENTRY_INTERRUPTION_INFO;
    vcpu->inject_is_fault = false;
    vcpu->inject_error_code = (uint32_t)v->ENTRY_EXCEPTION_ERROR_CODE;
    vcpu->inject_length = (uint32_t)v->ENTRY_INSTRUCTION_LENGTH;
}

/* Further work that the rows which L1 wrote ask for. */
struct dirty_rows {
    bool computed, optional;
};

/* Copies the rows that L1 wrote. */
_Static_assert(DIRTY_WORDS == 3, "prepare_vmcs02() asks each word");
static NOINLINE struct dirty_rows write_dirty(struct vmcs12_slot *slot)
{
    struct dirty_rows found = {false, false};
    if (bits_test(slot->plan.dirty, FIELD_INDEX_GUEST_ACTIVITY_STATE)) /* the plan asks for it */
        slot->plan.made = slot->plan.valid = false;
    for (unsigned word = 0; word < DIRTY_WORDS; word++) {
        uint64_t copy = slot->plan.dirty[word] & rows_copied[word];
        if (slot->plan.dirty[word] != copy)
            slot->plan.made = slot->plan.valid = false;
        found.computed |= (slot->plan.dirty[word] & rows_computed[word]) != 0;
        if (slot->plan.dirty[word] & rows_host[word])
            slot->host.ready = false;
        found.optional |= (slot->plan.dirty[word] & rows_optional[word]) != 0;
        slot->plan.dirty[word] = 0;
        while (copy) {
            unsigned row = 64 * word + (unsigned)__builtin_ctzll(copy);
            vmcs_write_encoding(vmcs_fields[row].encoding, slot->v->field[row]);
            copy &= copy - 1;
        }
    }
    return found;
}

/* L2 cannot set what L1's CPU has not, and reads 0, unless L1 itself answers for the bit. */
static NOINLINE void keep_cr4_hidden(const struct vmcs12 *v, uint64_t hidden)
{
    vmcs_write(CR4_GUEST_HOST_MASK, v->CR4_GUEST_HOST_MASK | hidden);
    vmcs_write(CR4_READ_SHADOW, v->CR4_READ_SHADOW & ~(hidden & ~v->CR4_GUEST_HOST_MASK));
}

static NOINLINE void prepare_the_rest(struct nested *nested, struct vmcs12_slot *slot)
{
    if (slot->at_entry & AT_ENTRY_SVI)
        slot->svi_seen = (uint8_t)GET(vmcs_read(GUEST_INTERRUPT_STATUS), INTERRUPT_STATUS_SVI);
    if (slot->at_entry & AT_ENTRY_PERF)
        switched_prepare(slot->v);
    if (slot->at_entry & AT_ENTRY_SPP)
        l2_spp_enter(nested, slot->v);
    if (slot->at_entry & AT_ENTRY_LINT)
        lint_enter(nested, slot);
}

void prepare_constants(const struct vcpu *vcpu)
{
    vmcs_write_common(vcpu);
    if (!options.trace) /* which records each exit */
        vmcs_write(HOST_RIP, (uint64_t)straight_exit_l2);
}

void prepare_vmcs02(struct nested *nested, struct vmcs12_slot *slot, const struct l1_registers *l1)
{
    EXPECT_CURRENT(slot->vmcs02);
    struct vcpu *vcpu = nested->vcpu;
    const struct vmcs12 *v = slot->v;
    struct dirty_rows dirty = {false, false};
    if (slot->plan.dirty[0] | slot->plan.dirty[1] | slot->plan.dirty[2])
        dirty = write_dirty(slot);
    if (__builtin_expect(vcpu->vm->cr4_hidden != 0, 0))
        keep_cr4_hidden(v, vcpu->vm->cr4_hidden);
    if (dirty.computed)
        write_controls(nested, slot);
    if (slot->plan.shape & SHAPE_PROC) {
        vmcs_write(PROC_CONTROLS, (uint32_t)slot->plan.proc);
        slot->plan.shape &= ~(uint64_t)SHAPE_PROC;
    }
    write_vpid(nested, slot);
    if (dirty.computed || !l2_eptp_stands(slot) || slot->roots_seen != nested->ept02s.roots_changed) {
        prepare_eptp(nested, slot);
    } else if (slot->root) {
        ept02_touch(&nested->ept02s, slot->root);
        prepare_sync_ept02(nested, slot);
    } else if (slot->apic_access) {
        prepare_sync_ept02(nested, slot);
    }
    write_optional_registers(v, l1, dirty.optional || dirty.computed);
    if (slot->kept & KEPT_TIMER)
        slot->v->PREEMPTION_TIMER = vmcs_read(PREEMPTION_TIMER);
    if (!slot->root)
        write_pdptes(vcpu, v);
    if (slot->vpid02 == VPID_L2_NONE)
        vpid_flush_zero(vcpu, VPID_L2_NONE);
    queue_event(vcpu, slot);
    if (slot->nmi_unvirtual)
        slot->nmi_blocked = vmcs12_blocks_nmis(v);
    if (__builtin_expect(slot->at_entry, 0))
        prepare_the_rest(nested, slot);
    vcpu->l2_straight = slot->straight;
}

/* L2's mode is the one bit of this row that is L2's. */
static void fetch_mode(struct vmcs12 *v)
{
    if (vmcs12_proc2(v) & PROC2_UNRESTRICTED)
        v->ENTRY_CONTROLS = (v->ENTRY_CONTROLS & ~ENTRY_GUEST_64) | (vmcs_read(ENTRY_CONTROLS) & ENTRY_GUEST_64);
}

/* These rows of the 64 that begin with 64 * word. */
static inline void fetch_word(struct vmcs12_slot *slot, unsigned word, uint64_t rows)
{
    for (; rows; rows &= rows - 1) {
        unsigned row = 64 * word + (unsigned)__builtin_ctzll(rows);
        vmcs_read_to(&slot->v->field[row], vmcs_fields[row].encoding);
    }
}

/* Where an exit of the straight way left them. The rest is fetched as before. */
void prepare_fetch_unread(struct vmcs12_slot *slot)
{
    if (!slot->unread)
        return;
    slot->unread = false;
    slot->direct = CHECK_SCOPE_ALL; /* who wrote the direct rows last is not known */
    if (slot_is_live(slot, FIELD_INDEX_ENTRY_CONTROLS))
        fetch_mode(slot->v);
    bits_clear(slot->live, FIELD_INDEX_ENTRY_CONTROLS);
    for (unsigned word = 0; word < DIRTY_WORDS; word++) {
        fetch_word(slot, word, slot->live[word] & (rows_unread[word] | rows_optional[word]));
        slot->live[word] &= ~(rows_unread[word] | rows_optional[word]) | rows_direct[word];
    }
}

bool prepare_may_leave(unsigned row)
{
    return row == FIELD_INDEX_ENTRY_CONTROLS || bits_test(rows_left[EXIT_IN_VMCS02], row) ||
           bits_test(rows_unread, row) || bits_test(rows_optional, row);
}

void prepare_leave_unread(struct vmcs12_slot *slot)
{
    uint64_t save = slot->v->EXIT_CONTROLS;
    slot->unread = true;
    for (unsigned word = 0; word < DIRTY_WORDS; word++)
        slot->live[word] = rows_left[EXIT_IN_VMCS02][word] | rows_unread[word];
    bits_set(slot->live, FIELD_INDEX_ENTRY_CONTROLS);
    if (save & EXITC_SAVE_DEBUG) {
        bits_set(slot->live, FIELD_INDEX_GUEST_DR7);
        bits_set(slot->live, FIELD_INDEX_GUEST_DEBUGCTL);
    }
    if (save & EXITC_SAVE_PAT)
        bits_set(slot->live, FIELD_INDEX_GUEST_PAT);
    if (save & EXITC_SAVE_EFER)
        bits_set(slot->live, FIELD_INDEX_GUEST_EFER);
}

static void fetch_live(struct vmcs12_slot *slot, bool lazy)
{
    for (unsigned word = 0; word < DIRTY_WORDS; word++) {
        uint64_t fetched = slot->live[word] & (lazy ? ~0ull : rows_both[word]);
        fetch_word(slot, word, fetched);
        slot->live[word] &= ~fetched | rows_direct[word];
    }
}

void prepare_fetch_listed(struct vmcs12_slot *slot)
{
    EXPECT_CURRENT(slot->vmcs02);
    for (unsigned word = 0; word < DIRTY_WORDS; word++) {
        fetch_word(slot, word, slot->live[word] & rows_listed[word]);
        slot->live[word] &= ~rows_listed[word];
    }
}

void prepare_fetch_checked(struct vmcs12_slot *slot, check_scope_t scope)
{
    EXPECT_CURRENT(slot->vmcs02);
    fetch_live(slot, scope & check_scope_lazy());
}

void prepare_fetch_rows(struct nested *nested, struct vmcs12_slot *slot)
{
    const struct vcpu *vcpu = nested->vcpu;
    hpa_t current = vcpu->in_l2 ? nested->current->vmcs02 : vcpu->vmcs01;
    uint64_t any = 0;
    for (unsigned word = 0; word < DIRTY_WORDS; word++)
        any |= slot->live[word];
    if (!slot->mirrored && !any && !slot->small_shown)
        return;
    if (small_was_fetched(slot) || current != slot->vmcs02)
        vmcs_load(slot->vmcs02);
    prepare_fetch_unread(slot);
    fetch_live(slot, true);
    shadow_fetch(slot);
    if (current == slot->vmcs02)
        return;
    if (slot->life == VMCS02_SHADOW) /* it must not be active while L1 reaches it by the link pointer */
        ASSERT(insn_vmclear(slot->vmcs02));
    vmcs_load(current);
}

static void save_known(struct vmcs12 *v)
{
#define FIELD(name, enc, width, area, sync, merge, need, judged, view)                                                 \
    VIEW_##view(vmcs_read_to(&v->name, name.encoding);, , , )
#include "vmx/vmcs_fields.def"
#undef FIELD
}

/* Where vmcs02 is not shown to L1. */
static NOINLINE void save_copies(const struct nested *nested, struct vmcs12_slot *slot, enum save_exit exit)
{
    if (small_save(nested, slot, rows_left[EXIT_RECORDED], exit == EXIT_IN_VMCS02))
        return;
    for (unsigned i = 0; i < rows_saved_count; i++)
        vmcs_read_to(&slot->v->field[rows_saved[i].row], rows_saved[i].encoding);
    for (unsigned word = 0; word < DIRTY_WORDS; word++)
        slot->live[word] = rows_lazy[word];
}

/* The CPU took it for virtual, and an IRET of L2 has ended it. */
static NOINLINE void keep_nmi_blocked(struct vmcs12 *v)
{
    v->GUEST_INTERRUPTIBILITY |= BLOCKING_BY_NMI;
    vmcs_write(GUEST_INTERRUPTIBILITY, (uint32_t)v->GUEST_INTERRUPTIBILITY);
}

/* The CPU has saved the timer's rest, see merge_controls(). */
static NOINLINE void keep_rows(struct vmcs12_slot *slot)
{
    if (slot->kept & KEPT_TIMER)
        vmcs_write(PREEMPTION_TIMER, (uint32_t)slot->v->PREEMPTION_TIMER);
    if (slot->kept & KEPT_PERF)
        slot->v->GUEST_PERF_GLOBAL_CTRL = vmcs_read(GUEST_PERF_GLOBAL_CTRL);
}

struct l1_registers save_vmcs02(const struct nested *nested, struct vmcs12_slot *slot, enum save_exit exit)
{
    EXPECT_CURRENT(slot->vmcs02);
    struct vmcs12 *v = slot->v;
    struct l1_registers l2 = {0};
    if (nested->vmread_bitmap) {
        save_known(v);
        for (unsigned word = 0; word < DIRTY_WORDS; word++)
            slot->live[word] = rows_left[exit][word];
    } else {
        save_copies(nested, slot, exit);
    }
    if (slot->nmi_blocked)
        keep_nmi_blocked(v);
    /* L1 goes on with L2's where no control loads its own. */
    if ((v->EXIT_CONTROLS & EXITC_SAVE_PAT) || !(v->EXIT_CONTROLS & EXITC_LOAD_PAT))
        l2.pat = vmcs_read(GUEST_PAT);
    if ((v->EXIT_CONTROLS & EXITC_SAVE_EFER) || !(v->EXIT_CONTROLS & EXITC_LOAD_EFER))
        l2.efer = vmcs_read(GUEST_EFER);
    if (v->EXIT_CONTROLS & EXITC_SAVE_DEBUG) {
        v->GUEST_DR7 = vmcs_read(GUEST_DR7);
        v->GUEST_DEBUGCTL = vmcs_read(GUEST_DEBUGCTL);
    }
    if (v->EXIT_CONTROLS & EXITC_SAVE_PAT)
        v->GUEST_PAT = l2.pat;
    if (v->EXIT_CONTROLS & EXITC_SAVE_EFER)
        v->GUEST_EFER = l2.efer;
    if (slot->kept)
        keep_rows(slot);
    fetch_mode(v);
    return l2;
}

#ifdef CHECKED
bool prepare_controls_are(const struct nested *nested, const struct vmcs12_slot *slot)
{
    const struct merged_controls controls = controls_of(nested, slot);
    uint64_t eptp = slot->root ? ept02_eptp(slot->root) : ept_pointer(&nested->vcpu->vm->ept01);
    return vmcs_read(PIN_CONTROLS) == controls.pin && vmcs_read(PROC_CONTROLS) == controls.proc &&
           vmcs_read(PROC2_CONTROLS) == controls.proc2 && vmcs_read(EXIT_CONTROLS) == controls.exit &&
           (!(controls.proc & PROC_TERTIARY) || vmcs_read(PROC3_CONTROLS) == controls.proc3) &&
           !((vmcs_read(ENTRY_CONTROLS) ^ controls.entry) & ~ENTRY_GUEST_64) && vmcs_read(EPT_POINTER) == eptp &&
           slot_bitmaps_are_in(&slot->bitmaps, nested->bitmaps);
}
#endif
