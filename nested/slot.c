/* A slot is what Nestor keeps of one VMCS of L1: the fields (vmcs12), read from L1's memory at the first VMPTRLD,
 * and a vmcs02 of its own, which runs its L2. Keeping both while other VMCSs are current is what makes VMPTRLD
 * cheap: an L1 with two virtual processors switches between two slots and copies nothing. The region in L1's memory
 * is stale meanwhile, as it may be on a CPU, and is written when the slot is released. SDM 3C 25.11.1 "Software Use
 * of Virtual-Machine Control Structures" */
#include "nested/slot.h"

#include "kernel/layout.h"
#include "kernel/panic.h"
#include "kernel/string.h"
#include "mm/page.h"
#include "nested/lint.h"
#include "nested/prepare.h"
#include "nested/small_shadow.h"
#include "vmx/vmcs_setup.h"
#include "vmx/vmx_insn.h"

check_scope_t slot_row_scope[FIELD_COUNT];

/* The rows that decide which merged bitmaps a slot has. */
static bool is_bitmap_row(unsigned row)
{
    return row == FIELD_INDEX_PROC_CONTROLS || row == FIELD_INDEX_MSR_BITMAP || row == FIELD_INDEX_IO_BITMAP_A ||
           row == FIELD_INDEX_IO_BITMAP_B;
}

/* One look-up for each row at the start, so that a VMWRITE of L1 costs an OR and no decision. */
void slot_init(void)
{
    for (unsigned row = 0; row < FIELD_COUNT; row++)
        slot_row_scope[row] = check_scope_of(row) | (is_bitmap_row(row) ? SLOT_SCOPE_BITMAPS : 0);
}

/* Live rows are left out: their newest value is in vmcs02, and `v` has an old one that must not go there. */
void slot_set_all_dirty(struct vmcs12_slot *slot)
{
    for (unsigned word = 0; word < DIRTY_WORDS; word++)
        slot->dirty[word] = ~slot->live[word];
}

/* 64 compares at most; L1 looks VMCSs up by VMPTRLD and VMCLEAR, not at entries. */
struct vmcs12_slot *slot_find(struct nested *nested, gpa_t vmptr)
{
    struct vmcs12_slot *slot = nested->slot;
    for (unsigned left = nested->slots_taken; left; slot++) {
        if (slot->vmptr == vmptr)
            return slot;
        left -= slot->vmptr != VMPTR_NONE;
    }
    return NULL;
}

/* The next entry of each such slot finds a bitmap anew and writes its address to vmcs02. */
void slot_forget_bitmap(void *context, struct merged *m)
{
    struct nested *nested = context;
    for (unsigned i = 0; i < NESTED_SLOTS; i++)
        if (slot_bitmaps_forget(&nested->slot[i].bitmaps, m))
            slot_set_dirty(&nested->slot[i], FIELD_INDEX_MSR_BITMAP);
}

void slot_suspend_bitmaps(const struct nested *nested, struct vmcs12_slot *slot)
{
    EXPECT_CURRENT(slot->vmcs02);
    if (slot_bitmaps_suspend(&slot->bitmaps, nested->bitmaps))
        slot_set_dirty(slot, FIELD_INDEX_MSR_BITMAP); /* the next entry writes the merged ones again */
}

/* VMCLEAR, VMXOFF, or another VMCS that needs the slot. L1 sees no difference between the three except for its
 * memory. */
void slot_release(struct nested *nested, struct vmcs12_slot *slot)
{
    lint_released(nested, slot); /* the image may be written from here on */
    /* The order matters: first what is in vmcs02 alone, then the image to L1's memory, then whatever could still write
     * either of them. */
    if (!slot->enlightened) { /* of one that is, L1 has all already */
        prepare_fetch_rows(nested, slot);
        gmem_write(&nested->vcpu->vm->gmem, slot->vmptr, slot->v, sizeof(*slot->v));
        count(COUNT_VMCS12_STORES);
    }
    slot_bitmaps_put(&slot->bitmaps, nested->bitmaps);
    ept_watch_bypass_remove(nested->vcpu->vm->gmem.watch, &nested->virtual_apic[slot - nested->slot]);
    ept_watch_bypass_remove(nested->vcpu->vm->gmem.watch, &nested->posted[slot - nested->slot]);
    ept_unpin(&nested->vcpu->vm->ept01, &nested->apic_access[slot - nested->slot]);
    ASSERT(insn_vmclear(slot->vmcs02));
    page_free(hpa_to_va(slot->vmcs02));
    page_free(slot->v);
    small_free(slot);
    if (nested->current == slot)
        nested->current = NULL;
    *slot = (struct vmcs12_slot){.vmptr = VMPTR_NONE};
    nested->slots_taken--;
}

void slot_release_all(struct nested *nested)
{
    for (unsigned i = 0; nested->slots_taken; i++)
        if (nested->slot[i].vmptr != VMPTR_NONE)
            slot_release(nested, &nested->slot[i]);
    merged_cache_release(nested->bitmaps, &nested->bitmap_owner);
}

/* A free slot, or the one that was current longest ago, emptied. */
static struct vmcs12_slot *slot_take(struct nested *nested)
{
    struct vmcs12_slot *oldest = NULL;
    for (unsigned i = 0; i < NESTED_SLOTS; i++) {
        struct vmcs12_slot *slot = &nested->slot[i];
        if (slot->vmptr == VMPTR_NONE)
            return slot;
        /* The current VMCS must stay: L1's next VMREAD has no operand that could bring it back. */
        if (slot != nested->current && (!oldest || slot->plan.used < oldest->plan.used))
            oldest = slot;
    }
    nested->launch_state_lost |= oldest->enlightened;
    slot_release(nested, oldest);
    return oldest;
}

/* A slot with its pages, for vmptr, which has none. Nothing in the region is trusted: L1 may have written anything
 * there. Every row is dirty, every check due. */
static struct vmcs12_slot *slot_make(struct nested *nested, gpa_t vmptr)
{
    struct vmcs12_slot *slot = slot_take(nested);
    slot->v = page_alloc();
    slot->vmcs02 = vmcs_alloc(&nested->vcpu->vm->caps);
    /* Half a slot is none. */
    if (!slot->v || !slot->vmcs02) {
        if (slot->v)
            page_free(slot->v);
        if (slot->vmcs02)
            page_free(hpa_to_va(slot->vmcs02));
        *slot = (struct vmcs12_slot){.vmptr = VMPTR_NONE};
        return NULL;
    }
    slot->vmptr = vmptr;
    nested->slots_taken++;
    slot->life = VMCS02_EMPTY;
    slot->bitmaps.owner = &nested->bitmap_owner;
    slot_set_all_dirty(slot);
    slot->scope = CHECK_SCOPE_ALL;
    count(COUNT_VMCS12_LOADS);
    return slot;
}

/* The slot of vmptr, if it is of the kind asked for; one of the other kind goes. */
static struct vmcs12_slot *find_kind(struct nested *nested, gpa_t vmptr, bool enlightened)
{
    struct vmcs12_slot *slot = slot_find(nested, vmptr);
    if (!slot || slot->enlightened == enlightened)
        return slot;
    slot_release(nested, slot);
    return NULL;
}

/* The part of a plan that is the same as long as the slot is this vmcs12's. VMPTRLD of an enlightened VMCS is to load
 * another one from memory. */
static void slot_place_plan(const struct nested *nested, struct vmcs12_slot *slot)
{
    static const uint32_t nowhere = ~0u; /* a plan's vmcs12 is no shadow VMCS */
    const struct gmem *gmem = &nested->vcpu->vm->gmem;
    bool reached = slot->vmptr - gmem->main_base < gmem->main_size && !slot->enlightened;
    struct straight_plan *plan = &slot->plan;
    plan->vmptr = slot->vmptr;
    plan->region = reached ? hpa_to_va(slot->vmptr) : &nowhere;
    plan->identifier = (uint32_t)slot->v->revision;
    plan->slot = slot;
    plan->fields = slot->v->field;
    plan->dirty = slot->dirty;
    plan->scope = &slot->scope;
}

struct vmcs12_slot *slot_load(struct nested *nested, gpa_t vmptr)
{
    struct vmcs12_slot *slot = find_kind(nested, vmptr, false);
    if (!slot) {
        slot = slot_make(nested, vmptr);
        if (!slot)
            return NULL;
        gmem_read(&nested->vcpu->vm->gmem, vmptr, slot->v, sizeof(*slot->v));
        vmcs12_trim(slot->v);
        slot_place_plan(nested, slot);
        lint_loaded(nested, slot);
    }
    slot_touch(nested, slot);
    return slot;
}

/* An enlightened VMCS has no launch state in L1's memory. Once one had to make room for another, L1's own instruction
 * is taken for what it should be. */
struct vmcs12_slot *slot_load_enlightened(struct nested *nested, gpa_t vmptr, bool launch)
{
    struct vmcs12_slot *slot = find_kind(nested, vmptr, true);
    if (!slot) {
        slot = slot_make(nested, vmptr);
        if (!slot)
            return NULL;
        slot->enlightened = true;
        slot->v->revision = (uint32_t)GET(nested->vcpu->vm->caps12.basic, VMX_BASIC_REVISION);
        slot->v->launched = nested->launch_state_lost && !launch;
        slot_place_plan(nested, slot);
    }
    slot_touch(nested, slot);
    return slot;
}
