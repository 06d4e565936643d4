/* VMCS shadowing by vmcs02 itself. While L1 runs, vmcs01's link pointer names the current slot's vmcs02 as a shadow
 * VMCS, so L1's VMREADs and VMWRITEs of the rows opened here reach the very fields that L2 runs on: no exit, and
 * nothing is copied after an exit of L2 or before an entry. Before L2 runs, the region becomes an ordinary VMCS again.
 *
 * A row is opened for reading if what the CPU saved there at the exit is what L1 must see: L2's state, and the exit's
 * description. It is opened for writing if vmcs02 may take L1's value unlooked at, because the CPU checks it there as
 * it would in vmcs12, or because shadow_fetch() looks at it before the entry. Fields whose values differ between vmcs12
 * and vmcs02 (controls, addresses) stay closed. A CPU without the feature, or that cannot VMWRITE read-only fields,
 * exits for all. SDM 3C 25.10 "VMCS Types: Ordinary and Shadow" */
#include "nested/shadow.h"

#include "kernel/cmdline.h"
#include "kernel/layout.h"
#include "kernel/panic.h"
#include "kernel/string.h"
#include "mm/page.h"
#include "nested/slot.h"
#include "nested/small_shadow.h"
#include "vmx/run.h"
#include "vmx/vmcs_setup.h"
#include "vmx/vmx_insn.h"

/* Rows that L1 writes at most exits; shadow_fetch() names each. */
static const uint8_t direct_rows[] = {
#define FIELD(name, enc, width, area, sync, merge, need, judged, view) VIEW_##view(, ROW_IN_LIST(name), , )
#include "vmx/vmcs_fields.def"
#undef FIELD
};
/* The event that it injects, likewise. */
static const uint8_t event_rows[] = {FIELD_INDEX_ENTRY_INTERRUPTION_INFO, FIELD_INDEX_ENTRY_EXCEPTION_ERROR_CODE,
                                     FIELD_INDEX_ENTRY_INSTRUCTION_LENGTH};
/* Rows that describe the exit, beside L2's state. */
static const uint8_t exit_rows[] = {
#define FIELD(name, enc, width, area, sync, merge, need, judged, view) VIEW_##view(, , ROW_IN_LIST(name), )
#include "vmx/vmcs_fields.def"
#undef FIELD
};

bool shadow_is_direct(unsigned row)
{
    for (unsigned i = 0; i < ARRAY_SIZE(direct_rows); i++)
        if (direct_rows[i] == row)
            return true;
    return false;
}

static void open_row(uint8_t *bitmap, unsigned row)
{
    unsigned bit = vmcs_fields[row].encoding;
    bitmap[bit / 8] &= (uint8_t)~BIT(bit % 8);
}

/* True if L1's VMCS has the field at all. */
static bool is_offered(const struct nested *nested, unsigned row)
{
    return nested->field_offered[row / 64] & BIT(row % 64);
}

/* Opens a row for VMREAD; from then on vmcs02 must hold its value whenever the slot is mirrored. */
static void show_row(struct nested *nested, unsigned row)
{
    open_row(nested->vmread_bitmap, row);
    bits_set(nested->rows_shown, row);
}

/* L2's state is in vmcs02 anyhow, and all of it shown. To a small shadow VMCS it would be copied: only this is. */
static bool is_state_shown(const struct nested *nested, unsigned row)
{
    uint8_t sync = vmcs_fields[row].sync;
    if (!nested->small)
        return sync == VMCS_SYNC_BOTH || sync == VMCS_SYNC_LAZY;
    return shadow_is_direct(row) || row == FIELD_INDEX_GUEST_CR0 || row == FIELD_INDEX_GUEST_CR3 ||
           row == FIELD_INDEX_GUEST_CR4 || row == FIELD_INDEX_GUEST_CS_AR_BYTES || row == FIELD_INDEX_GUEST_SS_AR_BYTES;
}

static void open_rows(struct nested *nested)
{
    for (unsigned row = 0; row < FIELD_COUNT; row++)
        if (is_offered(nested, row) && is_state_shown(nested, row))
            show_row(nested, row);
    for (unsigned i = 0; i < ARRAY_SIZE(exit_rows); i++)
        if (is_offered(nested, exit_rows[i]))
            show_row(nested, exit_rows[i]);
    if (is_offered(nested, FIELD_INDEX_PML_INDEX)) /* Linux reads it after each exit */
        show_row(nested, FIELD_INDEX_PML_INDEX);
    for (unsigned i = 0; i < ARRAY_SIZE(direct_rows); i++)
        if (is_offered(nested, direct_rows[i]))
            open_row(nested->vmwrite_bitmap, direct_rows[i]);
    for (unsigned i = 0; i < ARRAY_SIZE(event_rows); i++) {
        show_row(nested, event_rows[i]);
        open_row(nested->vmwrite_bitmap, event_rows[i]);
    }
}

int shadow_init(struct nested *nested)
{
    EXPECT_CURRENT(nested->vcpu->vmcs01);
    const struct vmx_caps *caps = &nested->vcpu->vm->caps;
    if (!(caps->proc2.may & PROC2_VMCS_SHADOWING) || !(caps->misc & VMX_MISC_VMWRITE_ANY) || !options.vmcs_shadowing)
        return 0;
    nested->vmread_bitmap = page_alloc();
    nested->vmwrite_bitmap = page_alloc();
    if (!nested->vmread_bitmap || !nested->vmwrite_bitmap)
        return -1;
    memset(nested->vmread_bitmap, 0xff, PAGE_SIZE);
    memset(nested->vmwrite_bitmap, 0xff, PAGE_SIZE);
    nested->shows = true;
    nested->small = options.vmcs_shadowing == SHADOWING_SMALL;
    open_rows(nested);
    vmcs_write(VMREAD_BITMAP, va_to_hpa(nested->vmread_bitmap));
    vmcs_write(VMWRITE_BITMAP, va_to_hpa(nested->vmwrite_bitmap));
    if (nested->small) { /* all but these two files works as without VMCS shadowing */
        small_init(nested);
        nested->vmread_bitmap = nested->vmwrite_bitmap = NULL;
    }
    return 0;
}

/* Turns the region into a shadow VMCS or back by bit 31 of its first word. */
static void set_type(const struct vmcs12_slot *slot, bool shadow)
{
    uint32_t *revision = hpa_to_va(slot->vmcs02);
    *revision = (uint32_t)(shadow ? *revision | VMCS_SHADOW_INDICATOR : *revision & ~VMCS_SHADOW_INDICATOR);
}

/* The CHECKED build alone asks whether the drawing of enum vmcs02_life has this way. */
static void expect_life(const struct vmcs12_slot *slot, bool active)
{
#ifdef CHECKED
    ASSERT(slot->life != VMCS02_FREE && (slot->life == VMCS02_ACTIVE) == active);
#else
    (void)slot, (void)active;
#endif
}

/* shadow_open() and shadow_close() where copies are shown. */
static NOINLINE void open_by_copies(struct vmcs12_slot *slot)
{
    small_fetch(slot);
    slot->life = VMCS02_ACTIVE;
    vmcs_load(slot->vmcs02);
}

static NOINLINE void close_by_copies(const struct nested *nested, struct vmcs12_slot *slot)
{
    small_show(nested, slot);
    vmcs_load(nested->vcpu->vmcs01);
}

/* The type may only be changed while the VMCS is not active. SDM 3C 25.2 "Format of the VMCS Region" */
void shadow_open(struct vmcs12_slot *slot)
{
    expect_life(slot, false);
    if (slot->life == VMCS02_SHADOW) {
        ASSERT(insn_vmclear(slot->vmcs02));
        set_type(slot, false);
    } else if (slot->small_shown) {
        open_by_copies(slot);
        return;
    }
    slot->life = VMCS02_ACTIVE;
    vmcs_load(slot->vmcs02);
}

void shadow_close(struct nested *nested, struct vmcs12_slot *slot)
{
    EXPECT_CURRENT(slot->vmcs02);
    expect_life(slot, true);
    if (nested->vmread_bitmap && !slot->enlightened) {
        ASSERT(insn_vmclear(slot->vmcs02));
        set_type(slot, true);
        slot->life = VMCS02_SHADOW;
    } else {
        slot->life = nested->vcpu->launched ? VMCS02_LAUNCHED : VMCS02_CLEAR;
        if (nested->small) {
            close_by_copies(nested, slot);
            return;
        }
    }
    vmcs_load(nested->vcpu->vmcs01);
}

/* Of the rows that L1 may have written, the one that only some L2s have. */
static NOINLINE void fetch_tpr_threshold(struct vmcs12_slot *slot)
{
    uint32_t threshold = vmcs_read(TPR_THRESHOLD);
    if (threshold != slot->v->TPR_THRESHOLD)
        slot->plan.scope |= check_scope_of(FIELD_INDEX_TPR_THRESHOLD);
    slot->v->TPR_THRESHOLD = threshold;
}

void shadow_fetch_event(const struct vmcs12_slot *slot)
{
    struct vmcs12 *v = slot->v;
    vmcs_read_to(&v->ENTRY_INTERRUPTION_INFO, ENTRY_INTERRUPTION_INFO.encoding);
    vmcs_read_to(&v->ENTRY_EXCEPTION_ERROR_CODE, ENTRY_EXCEPTION_ERROR_CODE.encoding);
    vmcs_read_to(&v->ENTRY_INSTRUCTION_LENGTH, ENTRY_INSTRUCTION_LENGTH.encoding);
}

/* A value that an exit saved passes the checks, so one that L1 has not written since needs none. */
static inline void fetch_direct(struct vmcs12_slot *slot, unsigned row, uint64_t value)
{
    if (slot->v->field[row] != value)
        slot->direct |= check_scope_of(row);
    slot->v->field[row] = value;
}

void shadow_fetch(struct vmcs12_slot *slot)
{
    EXPECT_CURRENT(slot->vmcs02);
    if (!slot->mirrored)
        return;
    struct vmcs12 *v = slot->v;
    /* The CPU checks these four in vmcs02 as in vmcs12, and nested/enter finds the rule when it refuses one. */
    fetch_direct(slot, FIELD_INDEX_GUEST_RIP, vmcs_read(GUEST_RIP));
    fetch_direct(slot, FIELD_INDEX_GUEST_RFLAGS, vmcs_read(GUEST_RFLAGS));
    fetch_direct(slot, FIELD_INDEX_GUEST_INTERRUPTIBILITY, vmcs_read(GUEST_INTERRUPTIBILITY));
    v->GUEST_RSP = vmcs_read(GUEST_RSP); /* no rule names it */
    shadow_fetch_event(slot);
    if (v->ENTRY_INTERRUPTION_INFO & INTR_VALID)
        slot->plan.scope |= check_scope_of(FIELD_INDEX_ENTRY_INTERRUPTION_INFO);
    if (slot->tpr_shadow)
        fetch_tpr_threshold(slot);
}

void shadow_write_event(const struct vmcs12_slot *slot)
{
    for (unsigned i = 0; i < ARRAY_SIZE(event_rows); i++)
        vmcs_write_encoding(vmcs_fields[event_rows[i]].encoding, slot->v->field[event_rows[i]]);
}

void shadow_record_exit(const struct vmexit *exit, struct vmcs12 *v)
{
    v->EXIT_REASON = exit->reason;
    v->EXIT_QUALIFICATION = exit->qualification;
    v->EXIT_INTERRUPTION_INFO = exit->interruption_info;
    v->IDT_VECTORING_INFO = exit->idt_vectoring_info;
    v->EXIT_INSTRUCTION_LENGTH = exit->instruction_length;
    v->EXIT_INSTRUCTION_INFO = exit->instruction_info;
    if (vcpu_exit_has_addresses(exit->reason)) {
        v->GUEST_LINEAR_ADDRESS = exit->guest_linear_address;
        v->GUEST_PHYSICAL_ADDRESS = exit->guest_physical_address;
    }
    if (exit->reason == EXIT_RDMSRLIST || exit->reason == EXIT_WRMSRLIST)
        v->MSR_DATA = exit->msr_data;
    if (exit->interruption_info & INTR_ERROR_CODE)
        v->EXIT_INTERRUPTION_ERROR_CODE = exit->interruption_error_code;
    if (exit->idt_vectoring_info & INTR_ERROR_CODE)
        v->IDT_VECTORING_ERROR_CODE = exit->idt_vectoring_error_code;
}

/* An exit that Nestor makes by hand, or has changed: the CPU did not describe it in vmcs02, and L1 reads it there. */
void shadow_write_exit(const struct nested *nested, struct vmcs12_slot *slot)
{
    for (unsigned i = 0; nested->vmread_bitmap && i < ARRAY_SIZE(exit_rows); i++)
        vmcs_write_encoding(vmcs_fields[exit_rows[i]].encoding, slot->v->field[exit_rows[i]]);
}

static NOINLINE void put_small(const struct nested *nested, struct vmcs12_slot *slot, unsigned row)
{
    if (nested->vcpu->in_l2)
        small_hide(slot);
    else
        small_put(nested, slot, row);
}

/* Vmcs12 has a new value for a row that L1 is shown: the VMWRITE exited, as the row is closed for writing. */
void shadow_put(struct nested *nested, struct vmcs12_slot *slot, unsigned row)
{
    if (!bits_test(nested->rows_shown, row))
        return;
    if (!slot->mirrored) {
        put_small(nested, slot, row);
        return;
    }
    if (nested->vcpu->in_l2) { /* L2's VMWRITE: it is not the current slot, which alone is shown */
        slot_unmirror(slot);
        return;
    }
    vmcs_load(slot->vmcs02);
    vmcs_write_encoding(vmcs_fields[row].encoding, slot->v->field[row]);
    ASSERT(insn_vmclear(slot->vmcs02));
    vmcs_load(nested->vcpu->vmcs01);
}

void shadow_select(struct nested *nested)
{
    EXPECT_CURRENT(nested->vcpu->vmcs01);
    const struct vmcs12_slot *slot = nested->current;
    hpa_t shown = 0;
    if (slot)
        shown = slot->mirrored ? slot->vmcs02 : slot->small_shown;
    if (shown == nested->shown)
        return;
    /* The control and the link pointer change together: with the control on the pointer must name a shadow VMCS. From
     * one to another the control stays: to write it costs more than all else here. */
    if (!shown != !nested->shown) {
        uint32_t proc2 = vmcs_read(PROC2_CONTROLS) & ~(uint32_t)PROC2_VMCS_SHADOWING;
        vmcs_write(PROC2_CONTROLS, (uint32_t)(shown ? proc2 | PROC2_VMCS_SHADOWING : proc2));
    }
    vmcs_write(VMCS_LINK_POINTER, shown ? shown : ~0ull);
    nested->shown = shown;
}
