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
        slot->plan.dirty[word] = ~slot->live[word];
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

/* The order matters: first what is in vmcs02 alone, then the image to L1's memory, then whatever could still write
 * either of them. */
static void write_back(struct nested *nested, struct vmcs12_slot *slot)
{
    struct vcpu *vcpu = nested->vcpu;
    lint_released(nested, slot); /* the image may be written from here on */
    if (!slot->enlightened) {    /* of one that is, L1 has all already */
        prepare_fetch_rows(nested, slot);
        gmem_write(&vcpu->vm->gmem, slot->vmptr, slot->v, sizeof(*slot->v));
        count(COUNT_VMCS12_STORES);
    }
    slot_bitmaps_put(&slot->bitmaps, nested->bitmaps);
    ept_watch_bypass_remove(vcpu->vm->gmem.watch, &nested->virtual_apic[slot - nested->slot]);
    ept_watch_bypass_remove(vcpu->vm->gmem.watch, &nested->posted[slot - nested->slot]);
    ept_unpin(&vcpu->vm->ept01, &nested->apic_access[slot - nested->slot]);
    ASSERT(insn_vmclear(slot->vmcs02));
    small_free(slot);
    if (nested->current == slot)
        nested->current = NULL;
    nested->slots_taken--;
}

static void free_pages(struct vmcs12_slot *slot)
{
    page_free(hpa_to_va(slot->vmcs02));
    page_free(slot->v);
    *slot = (struct vmcs12_slot){.vmptr = VMPTR_NONE};
}

/* VMXOFF, or another VMCS that needs the slot. */
static void slot_release(struct nested *nested, struct vmcs12_slot *slot)
{
    write_back(nested, slot);
    free_pages(slot);
}

/* True if the slot has what VMCLEAR left in it. */
static inline bool is_kept(const struct vmcs12_slot *slot)
{
    return slot->vmptr == VMPTR_NONE && slot->v;
}

static void forget_kept(struct nested *nested, struct vmcs12_slot *slot)
{
    free_pages(slot);
    nested->slots_kept--;
}

static void forget_all_kept(struct nested *nested)
{
    for (unsigned i = 0; nested->slots_kept; i++)
        if (is_kept(&nested->slot[i]))
            forget_kept(nested, &nested->slot[i]);
}

/* The one that was current longest ago, of those that VMCLEAR left or of the others; not the current one, which must
 * stay: L1's next VMREAD has no operand that could bring it back. NULL: there is none. */
static struct vmcs12_slot *find_oldest(struct nested *nested, bool kept)
{
    struct vmcs12_slot *oldest = NULL;
    for (unsigned i = 0; i < NESTED_SLOTS; i++) {
        struct vmcs12_slot *slot = &nested->slot[i];
        if (slot->v && is_kept(slot) == kept && slot != nested->current &&
            (!oldest || slot->plan.used < oldest->plan.used))
            oldest = slot;
    }
    return oldest;
}

/* Some hypervisors execute VMCLEAR whenever they leave a virtual processor, and load it again soon. So what was made of
 * the image stays: rows of vmcs12 and of vmcs02 that L1 does not change in its memory meanwhile need not be checked and
 * written again (take_up()). All else is as in a new slot. */
void slot_clear(struct nested *nested, struct vmcs12_slot *slot)
{
    if (slot->enlightened) {
        slot_release(nested, slot);
        return;
    }
    write_back(nested, slot);
    struct vmcs12_slot kept = {
        .vmptr = VMPTR_NONE,
        .cleared = slot->vmptr,
        .v = slot->v,
        .vmcs02 = slot->vmcs02,
        .direct = slot->direct,
        .checked_long_mode = slot->checked_long_mode,
        .checked_cr3 = slot->checked_cr3,
        .life = slot->life == VMCS02_EMPTY || slot->life == VMCS02_SHADOW ? slot->life : VMCS02_CLEAR,
        .eptp02 = slot->eptp02,
        .vpid02 = slot->vpid02,
        .plan.used = slot->plan.used,
        .plan.scope = slot->plan.scope,
    };
    memcpy(kept.plan.dirty, slot->plan.dirty, sizeof(kept.plan.dirty));
    *slot = kept;
    if (++nested->slots_kept > KEPT_SLOTS)
        forget_kept(nested, find_oldest(nested, true));
}

void slot_release_all(struct nested *nested)
{
    for (unsigned i = 0; nested->slots_taken; i++)
        if (nested->slot[i].vmptr != VMPTR_NONE)
            slot_release(nested, &nested->slot[i]);
    forget_all_kept(nested);
    merged_cache_release(nested->bitmaps, &nested->bitmap_owner);
}

/* The one that was current longest ago goes. */
static struct vmcs12_slot *evict(struct nested *nested)
{
    struct vmcs12_slot *oldest = find_oldest(nested, false);
    nested->launch_state_lost |= oldest->enlightened;
    slot_clear(nested, oldest);
    return oldest;
}

/* A free slot. */
static struct vmcs12_slot *slot_take(struct nested *nested)
{
    for (unsigned i = 0; i < NESTED_SLOTS; i++)
        if (!nested->slot[i].v)
            return &nested->slot[i];
    struct vmcs12_slot *oldest = nested->slots_kept ? find_oldest(nested, true) : evict(nested);
    if (is_kept(oldest))
        forget_kept(nested, oldest);
    return oldest;
}

/* A slot with its pages, for vmptr, which has none. Nothing in the region is trusted: L1 may have written anything
 * there. Every row is dirty, every check due. */
static struct vmcs12_slot *slot_make(struct nested *nested, gpa_t vmptr)
{
    struct vmcs12_slot *slot = slot_take(nested);
    if (page_count_free() < KEPT_SLOTS)
        forget_all_kept(nested);
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
    slot->plan.scope = CHECK_SCOPE_ALL;
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
}

/* The slot in which VMCLEAR left vmptr; NULL: there is none. */
static struct vmcs12_slot *find_kept(struct nested *nested, gpa_t vmptr)
{
    struct vmcs12_slot *slot = nested->slot;
    for (unsigned left = nested->slots_kept; left; slot++) {
        if (!is_kept(slot))
            continue;
        if (slot->cleared == vmptr)
            return slot;
        left--;
    }
    return NULL;
}

/* A slot that is kept, to be vmptr's: the one that was, or where it is time for one to go, the oldest of another. The
 * VMCSs of one hypervisor are alike in most rows. NULL: a new one is to be made. */
static struct vmcs12_slot *find_like(struct nested *nested, gpa_t vmptr)
{
    struct vmcs12_slot *slot = find_kept(nested, vmptr);
    if (slot)
        return slot;
    bool full = nested->slots_taken + nested->slots_kept == NESTED_SLOTS;
    if (!full && nested->slots_kept < KEPT_SLOTS)
        return NULL;
    slot = nested->slots_kept ? find_oldest(nested, true) : evict(nested);
    return is_kept(slot) ? slot : NULL;
}

#define ROWS_AT_ONCE 8
static inline bool are_same(const struct vmcs12 *image, const struct vmcs12 *v, unsigned row)
{
    uint64_t other = 0;
#pragma GCC unroll 8
    for (unsigned i = 0; i < ROWS_AT_ONCE; i++)
        other |= image->field[row + i] ^ v->field[row + i];
    return !other;
}

/* Rows that are others in L1's memory are as if L1 had written them by VMWRITE. L1 may store to it meanwhile: what is
 * compared is what counts. */
static void take_rows(struct vmcs12_slot *slot, const struct vmcs12 *image)
{
    for (unsigned row = 0; row < FIELD_COUNT; row++) {
        while (row + ROWS_AT_ONCE <= FIELD_COUNT && are_same(image, slot->v, row))
            row += ROWS_AT_ONCE;
        if (row == FIELD_COUNT)
            return;
        uint64_t value = __atomic_load_n(&image->field[row], __ATOMIC_RELAXED) & vmcs12_width_mask(row);
        if (value == slot->v->field[row])
            continue;
        slot->v->field[row] = value;
        slot_set_dirty(slot, row);
    }
}

/* A slot that is kept becomes vmptr's, with the rows that are others in L1's memory. The pages and merged bitmaps that
 * controls ask for are looked for again. NULL: there is none. */
static struct vmcs12_slot *take_up(struct nested *nested, gpa_t vmptr)
{
    const struct vmcs12 *image = gmem_page(&nested->vcpu->vm->gmem, vmptr);
    struct vmcs12_slot *slot = image ? find_like(nested, vmptr) : NULL;
    if (!slot)
        return NULL;
    slot->vmptr = vmptr;
    nested->slots_kept--;
    nested->slots_taken++;
    slot->bitmaps.owner = &nested->bitmap_owner;
    memcpy(slot->v, image, offsetof(struct vmcs12, field));
    take_rows(slot, image);
    bits_set(slot->plan.dirty, FIELD_INDEX_MSR_BITMAP); /* one of those by which the controls are computed anew */
    count(COUNT_VMCS12_LOADS);
    return slot;
}

static struct vmcs12_slot *read_image(struct nested *nested, gpa_t vmptr)
{
    struct vmcs12_slot *slot = slot_make(nested, vmptr);
    if (!slot)
        return NULL;
    gmem_read(&nested->vcpu->vm->gmem, vmptr, slot->v, sizeof(*slot->v));
    vmcs12_trim(slot->v);
    return slot;
}

struct vmcs12_slot *slot_load(struct nested *nested, gpa_t vmptr)
{
    struct vmcs12_slot *slot = find_kind(nested, vmptr, false);
    if (!slot) {
        slot = take_up(nested, vmptr);
        if (!slot)
            slot = read_image(nested, vmptr);
        if (!slot)
            return NULL;
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
