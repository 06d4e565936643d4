/* A field comes with the feature that uses it: on a CPU without TSC scaling VMREAD of the TSC multiplier is VMfail
 * 12, as there is no such field. The column `need` of vmx/vmcs_fields.def names the control that brings each, and
 * this file turns the column into a question about capabilities. Asked with the CPU's own, it says which fields
 * Nestor may touch; asked with those that L1 is offered, which fields L1's VMREAD and VMWRITE find. SDM 3D B "Field
 * Encoding in VMCS" */
#include "vmx/vmcs_exists.h"

#include "vmx/vmcs_table.h"

enum control_word { WORD_NONE, WORD_PIN, WORD_PROC, WORD_PROC2, WORD_PROC3, WORD_EXITC, WORD_EXIT2, WORD_ENTRY };

/* The column `need` of each row. */
static const struct field_need {
    uint8_t word; /* enum control_word */
    uint32_t bit;
} field_needs[FIELD_COUNT] = {
#define ALWAYS                                                                                                         \
    {                                                                                                                  \
        WORD_NONE, 0                                                                                                   \
    }
#define IF(word, bit)                                                                                                  \
    {                                                                                                                  \
        WORD_##word, (uint32_t)word##_##bit                                                                            \
    }
#define FIELD(name, enc, width, area, sync, merge, need, ...) need,
#include "vmx/vmcs_fields.def"
#undef FIELD
#undef IF
#undef ALWAYS
};

/* A control that may be 1 is enough: whether the guest at hand has it on does not matter to VMREAD. */
bool vmcs_field_exists(const struct vmx_caps *caps, unsigned row)
{
    const uint32_t may[] = {
        [WORD_PIN] = caps->pin.may,           [WORD_PROC] = caps->proc.may,  [WORD_PROC2] = caps->proc2.may,
        [WORD_PROC3] = (uint32_t)caps->proc3, [WORD_EXITC] = caps->exit.may, [WORD_ENTRY] = caps->entry.may,
        [WORD_EXIT2] = (uint32_t)caps->exit2,
    };

    if (row >= FIELD_COUNT)
        return false;
    return field_needs[row].word == WORD_NONE || (may[field_needs[row].word] & field_needs[row].bit);
}

/* The older capability MSRs say the same of the control. */
void vmcs_field_withdraw(struct vmx_caps *caps, unsigned row)
{
    uint32_t *const may[][2] = {
        [WORD_PIN] = {&caps->pin.may, &caps->old_pin.may},       [WORD_PROC] = {&caps->proc.may, &caps->old_proc.may},
        [WORD_PROC2] = {&caps->proc2.may, &caps->proc2.may},     [WORD_EXITC] = {&caps->exit.may, &caps->old_exit.may},
        [WORD_ENTRY] = {&caps->entry.may, &caps->old_entry.may},
    };
    const struct field_need *need = &field_needs[row];

    if (need->word == WORD_PROC3) {
        caps->proc3 &= ~(uint64_t)need->bit;
    } else if (need->word == WORD_EXIT2) {
        caps->exit2 &= ~(uint64_t)need->bit;
    } else if (need->word != WORD_NONE) {
        *may[need->word][0] &= ~need->bit;
        *may[need->word][1] &= ~need->bit;
    }
}
