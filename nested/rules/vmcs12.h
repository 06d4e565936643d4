/* vmcs12: the VMCS that L1 keeps for its L2, as Nestor holds it while it is active or cached.
 * The struct is made from vmx/vmcs_fields.def: one 64-bit member per row, whatever its width; its image in L1's VMCS
 * region is the same bytes (SDM 3C 25.2: the format of the data is the processor's own business).
 * nested/ only. Everything in it came from L1: checked before use. */
#ifndef NESTED_RULES_VMCS12_H
#define NESTED_RULES_VMCS12_H

#include "kernel/x86_bits.h"
#include "vmx/caps.h"
#include "vmx/vmcs_table.h"

struct vmcs12 {
    uint32_t revision;
    uint32_t abort;
    uint32_t launched; /* launch state: 0 clear, 1 launched */
    uint32_t cleared;  /* nested/lint: written by VMCLEAR */
    uint32_t reserved[12];
    union {
        uint64_t field[FIELD_COUNT];
        struct {
#define FIELD(name, enc, width, area, sync, merge, ...) uint64_t name;
#include "vmx/vmcs_fields.def"
#undef FIELD
        };
    };
};
_Static_assert(sizeof(struct vmcs12) <= PAGE_SIZE, "vmcs12 must fit in one VMCS region");
_Static_assert(offsetof(struct vmcs12, HOST_RIP) == offsetof(struct vmcs12, field) + 8 * FIELD_INDEX_HOST_RIP,
               "members and rows are the same words");

/* The mask of a field's width; natural-width fields are 64 bits. */
uint64_t vmcs12_width_mask(unsigned index);
/* Cuts every field to its width: for an image that comes from L1's memory, which L1 may have written to. */
void vmcs12_trim(struct vmcs12 *v);

/* True if NMIs are blocked when L2 starts, be it by the NMI that L1 injects. Where NMIs exit and are not virtual, no
 * IRET ends that, so it is so for the whole stay in L2. SDM 3C 26.3 "Changes to Instruction Behavior" (IRET) */
bool vmcs12_blocks_nmis(const struct vmcs12 *v);

/* Encodings of the fields that L1 is offered, in their full form -> row + 1; 0: no such field. prepare_init() fills it;
 * all processors compute the same. */
#define VMCS12_ENCODINGS 0x8000u
extern uint8_t vmcs12_rows[VMCS12_ENCODINGS];
_Static_assert(FIELD_COUNT < UINT8_MAX, "row + 1 no longer fits vmcs12_rows[]");
/* vmcs12_width_mask() of each row, but 0 for read-only fields. */
extern uint64_t vmcs12_write_masks[FIELD_COUNT];

/* The secondary controls as they count: zero unless activated. */
static inline uint32_t vmcs12_proc2(const struct vmcs12 *v)
{
    return v->PROC_CONTROLS & PROC_SECONDARY ? (uint32_t)v->PROC2_CONTROLS : 0;
}

/* True if exits give L1 the IA32_SPEC_CTRL of its host-state area. */
static inline bool vmcs12_loads_spec_ctrl(const struct vmcs12 *v)
{
    return (v->EXIT_CONTROLS & EXITC_SECONDARY) && (v->EXIT2_CONTROLS & EXIT2_LOAD_SPEC_CTRL);
}

/* True if L2 pages by PAE when it starts. */
static inline bool vmcs12_uses_pae(const struct vmcs12 *v)
{
    return x86_uses_pae(v->GUEST_CR0, v->GUEST_CR4, v->ENTRY_CONTROLS & ENTRY_GUEST_64);
}

#endif
