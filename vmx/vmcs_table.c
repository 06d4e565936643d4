/* The table of all fields, made of vmx/vmcs_fields.def, and what the compiler can find wrong in it: width and area
 * are columns there and bits of the encoding as well. */
#include "vmx/vmcs_table.h"

/* Each row's number says its width and area once more (SDM 3D B, "Field Encoding in VMCS"): they must agree, and be the
 * full form of a field. */
#define FIELD(name, enc, width, area, sync, merge, ...)                                                                \
    _Static_assert(GET(enc, ENCODING_WIDTH) == VMCS_WIDTH_##width, #name ": width and encoding disagree");             \
    _Static_assert(GET(enc, ENCODING_AREA) == VMCS_AREA_##area, #name ": area and encoding disagree");                 \
    _Static_assert(((enc) & ~(ENCODING_WIDTH | ENCODING_AREA | ENCODING_INDEX)) == 0, #name ": stray encoding bits");
#include "vmx/vmcs_fields.def"
#undef FIELD

const struct vmcs_field vmcs_fields[FIELD_COUNT] = {
#define FIELD(name, enc, width, area, sync, merge, ...)                                                                \
    {#name, enc, VMCS_WIDTH_##width, VMCS_AREA_##area, VMCS_SYNC_##sync, VMCS_MERGE_##merge},
#include "vmx/vmcs_fields.def"
#undef FIELD
};

/* A search from row to row: only the log asks for names. */
const char *vmcs_field_name(uint32_t encoding)
{
    for (unsigned row = 0; row < FIELD_COUNT; row++)
        if (vmcs_fields[row].encoding == (encoding & ~ENCODING_HIGH))
            return vmcs_fields[row].name;
    return "?";
}
