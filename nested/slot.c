#include "nested/slot.h"

#include "kernel/layout.h"
#include "kernel/panic.h"
#include "kernel/string.h"
#include "mm/page.h"
#include "nested/lint.h"
#include "nested/prepare.h"
#include "vmx/vmcs_setup.h"
#include "vmx/vmx_insn.h"

check_scope_t slot_row_scope[FIELD_COUNT];

/* What the merged bitmaps of a slot follow. */
static bool is_bitmap_row(unsigned row)
{
    return row == FIELD_INDEX_PROC_CONTROLS || row == FIELD_INDEX_MSR_BITMAP || row == FIELD_INDEX_IO_BITMAP_A ||
           row == FIELD_INDEX_IO_BITMAP_B;
}

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

struct vmcs12_slot *slot_find(struct nested *nested, gpa_t vmptr)
{
    for (unsigned i = 0; i < NESTED_SLOTS; i++)
        if (nested->slot[i].vmptr == vmptr)
            return &nested->slot[i];
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
    if (slot_bitmaps_suspend(&slot->bitmaps, &nested->bitmaps))
        slot_set_dirty(slot, FIELD_INDEX_MSR_BITMAP); /* the next entry writes the merged ones again */
}

void slot_release(struct nested *nested, struct vmcs12_slot *slot)
{
    lint_released(nested, slot); /* the image may be written from here on */
    /* The order matters: first what is in vmcs02 alone, then the image to L1's memory, then whatever could still write
     * either of them. */
    prepare_fetch_rows(nested, slot);
    gmem_write(&nested->vcpu->vm->gmem, slot->vmptr, slot->v, sizeof(*slot->v));
    count(COUNT_VMCS12_STORES);
    slot_bitmaps_put(&slot->bitmaps, &nested->bitmaps);
    ept_watch_bypass_remove(nested->vcpu->vm->gmem.watch, &nested->virtual_apic[slot - nested->slot]);
    ept_unpin(&nested->vcpu->vm->ept01, &nested->apic_access[slot - nested->slot]);
    ASSERT(insn_vmclear(slot->vmcs02));
    page_free(hpa_to_va(slot->vmcs02));
    page_free(slot->v);
    if (nested->current == slot)
        nested->current = NULL;
    *slot = (struct vmcs12_slot){.vmptr = VMPTR_NONE};
}

void slot_release_all(struct nested *nested)
{
    for (unsigned i = 0; i < NESTED_SLOTS; i++)
        if (nested->slot[i].vmptr != VMPTR_NONE)
            slot_release(nested, &nested->slot[i]);
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
        if (slot != nested->current && (!oldest || slot->last_used < oldest->last_used))
            oldest = slot;
    }
    slot_release(nested, oldest);
    return oldest;
}

struct vmcs12_slot *slot_load(struct nested *nested, gpa_t vmptr)
{
    struct vmcs12_slot *slot = slot_find(nested, vmptr);
    if (!slot) {
        slot = slot_take(nested);
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
        /* Nothing in the region is trusted: L1 may have written anything there. Every row is dirty, every check due,
         * and fields are cut to their widths. */
        slot->vmptr = vmptr;
        gmem_read(&nested->vcpu->vm->gmem, vmptr, slot->v, sizeof(*slot->v));
        slot_set_all_dirty(slot);
        slot->scope = CHECK_SCOPE_ALL;
        vmcs12_trim(slot->v);
        lint_loaded(nested, slot);
        count(COUNT_VMCS12_LOADS);
    }
    slot->last_used = ++nested->clock;
    slot_bitmaps_touch(&slot->bitmaps, &nested->bitmaps);
    return slot;
}
