/* Rows and widths of vmcs12. Every member is 64 bits wide, whatever the field: a field narrower than that is cut
 * when it is written, by VMWRITE with the mask of its row, or when an image arrives from L1's memory, where L1 may
 * have put anything. SDM 3C 25.2 "Format of the VMCS Region" */
#include "nested/rules/vmcs12.h"

/* By the width that an encoding names. Natural width is 64 bits: L1 has Intel 64. */
static const uint64_t width_masks[] = {
    [VMCS_WIDTH_16] = UINT16_MAX,
    [VMCS_WIDTH_32] = UINT32_MAX,
    [VMCS_WIDTH_64] = UINT64_MAX,
    [VMCS_WIDTH_NAT] = UINT64_MAX,
};

/* Filled by prepare_init(), from what the CPU has and what L1 is offered. */
uint8_t vmcs12_rows[VMCS12_ENCODINGS];
uint64_t vmcs12_write_masks[FIELD_COUNT];

uint64_t vmcs12_width_mask(unsigned index)
{
    return width_masks[vmcs_fields[index].width];
}

void vmcs12_trim(struct vmcs12 *v)
{
    for (unsigned i = 0; i < FIELD_COUNT; i++)
        v->field[i] &= vmcs12_width_mask(i);
}

bool vmcs12_blocks_nmis(const struct vmcs12 *v)
{
    uint64_t info = v->ENTRY_INTERRUPTION_INFO;
    return (v->GUEST_INTERRUPTIBILITY & BLOCKING_BY_NMI) ||
           ((info & INTR_VALID) && GET(info, INTR_TYPE) == INTR_TYPE_NMI);
}
