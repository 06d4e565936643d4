/* VMCS fields as typed handles and as a table, generated from vmcs_fields.def.
 * A handle's type carries the field's width, so a wrong width, or a number where a field belongs, does not compile.
 * Pure: vmx/vmcs.h has the access to the current VMCS. */
#ifndef VMX_VMCS_TABLE_H
#define VMX_VMCS_TABLE_H

#include "kernel/base.h"
#include "vmx/vmx_bits.h"

typedef struct {
    uint32_t encoding;
} vmcs16_t;
typedef struct {
    uint32_t encoding;
} vmcs32_t;
typedef struct {
    uint32_t encoding;
} vmcs64_t;
typedef struct {
    uint32_t encoding;
} vmcsNAT_t;

#define FIELD(name, enc, width, area, sync, merge, ...) static const vmcs##width##_t name = {enc};
#include "vmx/vmcs_fields.def"
#undef FIELD

/* Row numbers of vmcs_fields.def: FIELD_INDEX_GUEST_RIP ... */
enum vmcs_field_index {
#define FIELD(name, enc, width, area, sync, merge, ...) FIELD_INDEX_##name,
#include "vmx/vmcs_fields.def"
#undef FIELD
    FIELD_COUNT
};

enum vmcs_width { VMCS_WIDTH_16, VMCS_WIDTH_64, VMCS_WIDTH_32, VMCS_WIDTH_NAT };
enum vmcs_area { VMCS_AREA_CTRL, VMCS_AREA_INFO, VMCS_AREA_GUEST, VMCS_AREA_HOST };
enum vmcs_sync { VMCS_SYNC_NONE, VMCS_SYNC_IN, VMCS_SYNC_BOTH, VMCS_SYNC_LAZY };
enum vmcs_merge { VMCS_MERGE_COPIED, VMCS_MERGE_L0, VMCS_MERGE_COMPUTED, VMCS_MERGE_ENTRY };

struct vmcs_field {
    const char *name;
    uint16_t encoding;
    uint8_t width, area, sync, merge;
};
extern const struct vmcs_field vmcs_fields[FIELD_COUNT];

/* The words of the column `view`: each picks some of four arguments, so that a list is one inclusion of
 * vmcs_fields.def. */
#define VIEW_NONE(known, direct, exit, exit_rare)
#define VIEW_KNOWN(known, direct, exit, exit_rare) known
#define VIEW_DIRECT(known, direct, exit, exit_rare) direct
#define VIEW_KNOWN_DIRECT(known, direct, exit, exit_rare) known direct
#define VIEW_EXIT(known, direct, exit, exit_rare) exit
#define VIEW_EXIT_RARE(known, direct, exit, exit_rare) exit_rare
#define ROW_IN_LIST(name) FIELD_INDEX_##name,

#define ENCODING_HIGH BIT(0)
#define ENCODING_INDEX BITS(9, 1)
#define ENCODING_AREA BITS(11, 10)
#define ENCODING_WIDTH BITS(14, 13)

/* Name of an encoding for logs; "?" when unknown. */
const char *vmcs_field_name(uint32_t encoding);

#endif
