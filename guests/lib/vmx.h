/* The VMX instructions with their three outcomes, VMX operation as a whole, and the VMCS fields by name.
 * Each instruction gives 0 for VMsucceed, VMFAIL_INVALID, or the error number of VMfailValid.
 * Pointers to operands may be made to fault: wrap the call in FAULT_OF(). Anyone may call. */
#ifndef GUESTS_LIB_VMX_H
#define GUESTS_LIB_VMX_H

#include "kernel/base.h"
#include "kernel/msr.h"
#include "vmx/vmx_bits.h"

#define VMFAIL_INVALID (-1)

enum vmcs_field {
#define FIELD(name, encoding, width, area, sync, merge, ...) name = (encoding),
#include "vmx/vmcs_fields.def"
#undef FIELD
};

struct inv_descriptor {
    uint64_t low, high;
};

int vmx_vmxon(const uint64_t *region);
int vmx_vmxoff(void);
int vmx_vmclear(const uint64_t *region);
int vmx_vmptrld(const uint64_t *region);
int vmx_vmptrst(uint64_t *region);
int vmx_vmread(uint64_t field, uint64_t *value);
int vmx_vmread_memory(uint64_t field, uint64_t *value);
int vmx_vmwrite(uint64_t field, uint64_t value);
int vmx_vmwrite_memory(uint64_t field, const uint64_t *value);
int vmx_invept(uint64_t type, const struct inv_descriptor *descriptor);
int vmx_invvpid(uint64_t type, const struct inv_descriptor *descriptor);

/* For fields that are known to exist: aborts the scenario when the instruction fails. */
uint64_t vmx_get(uint64_t field);
void vmx_set(uint64_t field, uint64_t value);

/* The region that is current, or all-ones. */
uint64_t vmx_current(void);
/* Makes the region current; nothing is executed when this function did so last. A VMPTRST at each entry would exit, and
 * hide races between processors behind Nestor's locks. */
void vmx_load(uint64_t region);
/* Which processor runs, below VMX_PROCESSORS: 0, unless a guest with several defines it. */
#define VMX_PROCESSORS 2
unsigned vmx_processor(void);

/* CR4.VMXE and the fixed bits of CR0 and CR4; then VMXON with a region of its own. */
void vmx_prepare_control_registers(void);
void vmx_start(void);
/* Leaves VMX operation if in it, and clears CR4.VMXE. */
void vmx_stop(void);
/* A zeroed page with the revision in front. */
uint64_t vmx_region_alloc(void);
uint64_t vmx_on_region(void);

/* Capability MSRs: the "true" one where there is one. */
struct vmx_control_caps {
    uint32_t must; /* bits that have to be 1 */
    uint32_t may;  /* bits that are allowed to be 1 */
};
struct vmx_control_caps vmx_control_caps(enum vmcs_field controls);
uint32_t vmx_revision(void);
uint64_t vmx_ept_vpid_cap(void);
/* More bits of an EPT violation's qualification, where the CPU tells of L2's own paging: of a page that is
 * writable and the user's. SDM 3C table "Exit Qualification for EPT Violations", bits 11:9 */
uint64_t vmx_ept_advanced(void);

#endif
