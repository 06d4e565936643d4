#include "vmx/vmcs.h"

/* Each row's number says its width and area once more (SDM 3D B, "Field Encoding in VMCS"): they must agree, and be the
 * full form of a field. */
#define FIELD(name, enc, width, area, sync, merge)                                                                     \
    _Static_assert(GET(enc, ENCODING_WIDTH) == VMCS_WIDTH_##width, #name ": width and encoding disagree");             \
    _Static_assert(GET(enc, ENCODING_AREA) == VMCS_AREA_##area, #name ": area and encoding disagree");                 \
    _Static_assert(((enc) & ~(ENCODING_WIDTH | ENCODING_AREA | ENCODING_INDEX)) == 0, #name ": stray encoding bits");
#include "vmx/vmcs_fields.def"
#undef FIELD

const struct vmcs_field vmcs_fields[FIELD_COUNT] = {
#define FIELD(name, enc, width, area, sync, merge)                                                                     \
    {#name, enc, VMCS_WIDTH_##width, VMCS_AREA_##area, VMCS_SYNC_##sync, VMCS_MERGE_##merge},
#include "vmx/vmcs_fields.def"
#undef FIELD
};

/* Encoding -> row: 4 widths x 4 areas, each with room for the highest index of the list. */
#define GROUP_SIZE 32
#define SLOT(enc) ((GET(enc, ENCODING_WIDTH) * 4 + GET(enc, ENCODING_AREA)) * GROUP_SIZE + GET(enc, ENCODING_INDEX))

#define FIELD(name, enc, width, area, sync, merge)                                                                     \
    _Static_assert(GET(enc, ENCODING_INDEX) < GROUP_SIZE, #name ": a larger GROUP_SIZE is needed");
#include "vmx/vmcs_fields.def"
#undef FIELD
_Static_assert(FIELD_COUNT < UINT8_MAX, "row numbers no longer fit slot_rows[]");

/* Row number + 1; 0: no field. */
static const uint8_t slot_rows[16 * GROUP_SIZE] = {
#define FIELD(name, enc, width, area, sync, merge) [SLOT(enc)] = FIELD_INDEX_##name + 1,
#include "vmx/vmcs_fields.def"
#undef FIELD
};

int vmcs_field_find(uint64_t encoding)
{
    if (encoding & ~(ENCODING_WIDTH | ENCODING_AREA | ENCODING_INDEX) || GET(encoding, ENCODING_INDEX) >= GROUP_SIZE)
        return -1;
    return slot_rows[SLOT(encoding)] - 1;
}

const char *vmcs_field_name(uint32_t encoding)
{
    int row = vmcs_field_find(encoding & ~ENCODING_HIGH);

    return row < 0 ? "?" : vmcs_fields[row].name;
}
