#include "nested/enlightened.h"

#include "nested/evmcs/evmcs.h"
#include "nested/quiet.h"
#include "nested/shadow.h"
#include "nested/slot.h"
#include "vmx/refusal.h"
#include "vmx/vmcs_setup.h"

/* The address that the VP assist page names. False: none, entries are not enlightened. */
static bool named_vmcs(const struct vcpu *vcpu, gpa_t *gpa)
{
    const struct gmem *gmem = &vcpu->vm->gmem;
    gpa_t page = ALIGN_DOWN(vcpu->vp_assist, PAGE_SIZE);
    uint8_t enlightened;
    gmem_read(gmem, page + VP_ASSIST_ENLIGHTEN_ENTRY, &enlightened, sizeof enlightened);
    (void)gmem_read64(gmem, page + VP_ASSIST_CURRENT_VMCS, gpa);
    return enlightened;
}

/* NULL: no VMCS can be there. */
static const uint8_t *find_page(const struct vcpu *vcpu, gpa_t gpa)
{
    if (!IS_ALIGNED(gpa, PAGE_SIZE) || gpa >> vcpu->vm->caps12.address_bits || gpa == vcpu->nested->vmxon_pointer)
        return NULL;
    return gmem_page(&vcpu->vm->gmem, gpa);
}

/* The fields that L1 changed, by its word, go to vmcs12; of a slot that no entry has filled yet, all. */
static void take_over(const struct nested *nested, struct vmcs12_slot *slot, const uint8_t *page)
{
    uint32_t clean = slot->life == VMCS02_EMPTY ? 0 : evmcs_word(page, EVMCS_AT_CLEAN_FIELDS);
    uint64_t changed[EVMCS_WORDS];
    evmcs_read(page, clean, nested->field_offered, slot->v, changed);
    slot_bitmaps_tell(&slot->bitmaps, evmcs_word(page, EVMCS_AT_ENLIGHTENMENTS) & EVMCS_ENLIGHTENED_MSR_BITMAP,
                      !(clean & BIT(EVMCS_MSR_BITMAP)));
    for (unsigned word = 0; word < EVMCS_WORDS; word++)
        for (uint64_t left = changed[word]; left; left &= left - 1)
            slot_set_dirty(slot, 64 * word + (unsigned)__builtin_ctzll(left));
}
_Static_assert(EVMCS_WORDS == DIRTY_WORDS, "the same rows");

bool enlightened_select(struct vcpu *vcpu, bool launch)
{
    EXPECT_CURRENT(vcpu->vmcs01);
    struct nested *nested = vcpu->nested;
    struct vmcs12_slot *slot = nested->current;
    gpa_t gpa;
    if (!named_vmcs(vcpu, &gpa)) {
        if (slot && slot->enlightened)
            nested->current = NULL; /* VMPTRLD made none current since */
        return true;
    }
    const uint8_t *page = find_page(vcpu, gpa);
    if (!page) {
        refusal_log(vcpu, REFUSAL_EVMCS_ADDRESS, gpa, 0);
        return false;
    }
    if (evmcs_word(page, EVMCS_AT_VERSION) != EVMCS_VERSION) {
        refusal_log(vcpu, REFUSAL_EVMCS_VERSION, gpa, evmcs_word(page, EVMCS_AT_VERSION));
        return false;
    }
    if (!slot || !slot->enlightened || slot->vmptr != gpa) {
        slot = slot_load_enlightened(nested, gpa, launch);
        nested->current = slot;
        shadow_select(nested);
        straight_follow(vcpu);
        if (!slot) {
            refusal_log(vcpu, REFUSAL_VMPTRLD_NO_PAGES, 0, 0);
            return false;
        }
    }
    take_over(nested, slot, page);
    return true;
}

void enlightened_write_exit(const struct nested *nested, const struct vmcs12_slot *slot)
{
    const struct gmem *gmem = &nested->vcpu->vm->gmem;
    uint8_t *page = gmem_write_begin(gmem, slot->vmptr);
    evmcs_write_exit(page, nested->field_offered, slot->v);
    gmem_write_end(gmem, slot->vmptr);
}

void enlightened_write_failure(const struct nested *nested, const struct vmcs12_slot *slot)
{
    const struct gmem *gmem = &nested->vcpu->vm->gmem;
    uint8_t *page = gmem_write_begin(gmem, slot->vmptr);
    evmcs_write_failure(page, nested->field_offered, slot->v);
    gmem_write_end(gmem, slot->vmptr);
}

bool enlightened_is_at(const struct vcpu *vcpu, gpa_t gpa)
{
    return vcpu->vm->cpuid.hyperv && gmem_read32(&vcpu->vm->gmem, gpa) == EVMCS_VERSION &&
           GET(vcpu->vm->caps12.basic, VMX_BASIC_REVISION) != EVMCS_VERSION;
}

/* An entry must ask the page which VMCS it takes, and so takes the long way; the plans are made without it. */
void enlightened_vp_assist_changed(struct vcpu *vcpu)
{
    struct nested *nested = vcpu->nested;
    for (unsigned i = 0; i < NESTED_SLOTS; i++)
        nested->slot[i].plan.made = nested->slot[i].plan.valid = false;
    straight_follow(vcpu);
}
