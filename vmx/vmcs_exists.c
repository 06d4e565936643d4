#include "vmx/caps.h"
#include "vmx/vmcs_table.h"

/* Fields that exist only on processors that support the 1-setting of a control (SDM 3D B, the notes under each table).
 * Runs of rows of vmcs_fields.def; bits: any of them brings the field. */
enum control_word { WORD_PIN, WORD_PROC, WORD_PROC2, WORD_PROC3, WORD_EXIT, WORD_ENTRY };
static const struct field_need {
    uint16_t first, last;
    uint8_t word;
    uint32_t bits;
} field_needs[] = {
#define ONE(name, word, bits)                                                                                          \
    {                                                                                                                  \
        FIELD_INDEX_##name, FIELD_INDEX_##name, WORD_##word, bits                                                      \
    }
#define RUN(first, last, word, bits)                                                                                   \
    {                                                                                                                  \
        FIELD_INDEX_##first, FIELD_INDEX_##last, WORD_##word, bits                                                     \
    }
    ONE(VPID, PROC2, PROC2_VPID),
    ONE(EPTP_INDEX, PROC2, PROC2_EPT_VE),
    ONE(GUEST_INTERRUPT_STATUS, PROC2, PROC2_VIRTUAL_INTERRUPTS),
    ONE(PML_INDEX, PROC2, PROC2_PML),
    ONE(MSR_BITMAP, PROC, PROC_USE_MSR_BITMAPS),
    ONE(PML_ADDRESS, PROC2, PROC2_PML),
    ONE(VIRTUAL_APIC_ADDR, PROC, PROC_TPR_SHADOW),
    ONE(APIC_ACCESS_ADDR, PROC2, PROC2_APIC_ACCESS),
    ONE(VM_FUNCTION_CONTROLS, PROC2, PROC2_VMFUNC),
    ONE(EPT_POINTER, PROC2, PROC2_EPT),
    RUN(EOI_EXIT_BITMAP0, EOI_EXIT_BITMAP3, PROC2, PROC2_VIRTUAL_INTERRUPTS),
    ONE(EPTP_LIST_ADDRESS, PROC2, PROC2_VMFUNC),
    RUN(VMREAD_BITMAP, VMWRITE_BITMAP, PROC2, PROC2_VMCS_SHADOWING),
    ONE(VE_INFO_ADDRESS, PROC2, PROC2_EPT_VE),
    ONE(XSS_EXITING_BITMAP, PROC2, PROC2_XSAVES),
    ONE(TSC_MULTIPLIER, PROC2, PROC2_TSC_SCALING),
    ONE(PROC3_CONTROLS, PROC, PROC_TERTIARY),
    ONE(GUEST_PHYSICAL_ADDRESS, PROC2, PROC2_EPT),
    ONE(MSR_DATA, PROC3, PROC3_MSR_LIST),
    ONE(GUEST_PAT, ENTRY, ENTRY_LOAD_PAT),
    ONE(GUEST_EFER, ENTRY, ENTRY_LOAD_EFER),
    ONE(GUEST_PERF_GLOBAL_CTRL, ENTRY, ENTRY_LOAD_PERF_GLOBAL),
    RUN(GUEST_PDPTE0, GUEST_PDPTE3, PROC2, PROC2_EPT),
    ONE(HOST_PAT, EXIT, EXITC_LOAD_PAT),
    ONE(HOST_EFER, EXIT, EXITC_LOAD_EFER),
    ONE(HOST_PERF_GLOBAL_CTRL, EXIT, EXITC_LOAD_PERF_GLOBAL),
    ONE(TPR_THRESHOLD, PROC, PROC_TPR_SHADOW),
    ONE(PROC2_CONTROLS, PROC, PROC_SECONDARY),
    RUN(PLE_GAP, PLE_WINDOW, PROC2, PROC2_PAUSE_LOOP),
    ONE(PREEMPTION_TIMER, PIN, PIN_PREEMPTION_TIMER),
#undef ONE
#undef RUN
};

bool vmcs_field_exists(const struct vmx_caps *caps, unsigned row)
{
    const uint32_t may[] = {
        [WORD_PIN] = caps->pin.may,           [WORD_PROC] = caps->proc.may, [WORD_PROC2] = caps->proc2.may,
        [WORD_PROC3] = (uint32_t)caps->proc3, [WORD_EXIT] = caps->exit.may, [WORD_ENTRY] = caps->entry.may,
    };

    if (row >= FIELD_COUNT)
        return false;
    for (unsigned i = 0; i < ARRAY_SIZE(field_needs); i++)
        if (row >= field_needs[i].first && row <= field_needs[i].last)
            return may[field_needs[i].word] & field_needs[i].bits;
    return true;
}
