/* The first word of an area brings what waits in vmcs02 to vmcs12; the words behind it are read as they are then. */
#include "nested/window.h"

#include "kernel/inspect_abi.h"
#include "kernel/string.h"
#include "nested/prepare.h"

/* The word at byte `at` of a block; ones beyond its end, so that a reader of another version sees no junk. */
static uint32_t word_of(const void *block, size_t size, size_t at)
{
    uint32_t word = ~0u;
    if (at + sizeof word <= size)
        memcpy(&word, (const uint8_t *)block + at, sizeof word);
    return word;
}

/* The vmcs12 that is current on the processor that reads: its head, then a 64-bit word for each row. Rows that L2
 * changed may wait in vmcs02; byte 0 fetches them, so a reader begins there. */
static uint32_t vmcs_word(struct vcpu *vcpu, size_t byte)
{
    struct vmcs12_slot *slot = vcpu->nested->vmxon ? vcpu->nested->current : NULL;
    struct inspect_vmcs head = {.vmptr = VMPTR_NONE, .fields = FIELD_COUNT};

    if (slot && !byte)
        prepare_fetch_rows(vcpu->nested, slot);
    if (slot) {
        head.vmptr = slot->vmptr;
        head.launched = slot->v->launched;
    }
    if (byte < sizeof head)
        return word_of(&head, sizeof head, byte);
    return slot ? word_of(slot->v->field, sizeof slot->v->field, byte - sizeof head) : ~0u;
}

/* Without a bitmap of L1's every access exits: ones. Likewise of an address of no page, which no entry takes. */
static uint32_t bitmap_word(const struct vcpu *vcpu, size_t byte)
{
    const struct nested *nested = vcpu->nested;
    const struct vmcs12_slot *slot = nested->vmxon ? nested->current : NULL;
    bool used = slot && (slot->v->PROC_CONTROLS & PROC_USE_MSR_BITMAPS);
    bool is_page = used && IS_ALIGNED(slot->v->MSR_BITMAP, PAGE_SIZE);
    struct inspect_bitmap head = {
        .vmptr = slot ? slot->vmptr : VMPTR_NONE,
        .page = used ? slot->v->MSR_BITMAP : VMPTR_NONE,
    };

    if (byte < sizeof head)
        return word_of(&head, sizeof head, byte);
    const uint8_t *page =
        is_page ? slot_bitmaps_l1_page(&slot->bitmaps, nested->bitmaps, MERGED_MSR, slot->v->MSR_BITMAP) : NULL;
    return page ? word_of(page, PAGE_SIZE, byte - sizeof head) : ~0u;
}

uint32_t window_word(struct vcpu *vcpu, uint32_t area, size_t byte)
{
    return area == INSPECT_VMCS ? vmcs_word(vcpu, byte) : bitmap_word(vcpu, byte);
}
