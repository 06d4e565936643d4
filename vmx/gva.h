/* L1's own paging: linear addresses of L1 to its memory, as its CR0, CR3, CR4, EFER and paging mode say.
 * Current: vmcs01 (of the processor that runs `vcpu`).
 * vmx/operand and the exit handlers use it. */
#ifndef VMX_GVA_H
#define VMX_GVA_H

#include "kernel/base.h"

struct vcpu;

#define GVA_READ 0u
#define GVA_WRITE BIT(1)    /* as PF_WRITE */
#define GVA_USER BIT(2)     /* as PF_USER: the access is made at CPL 3 */
#define GVA_FETCH BIT(4)    /* as PF_FETCH */
#define GVA_IMPLICIT BIT(8) /* supervisor access by the processor itself */

/* An exception that L1 must get; vector 0xff means none. */
struct fault {
    uint8_t vector;
    bool has_error_code;
    uint32_t error_code;
    gva_t address; /* CR2 of a #PF */
    uint16_t page; /* FAULT_NONE: the page's rights, as in bits 11:9 of an EPT violation's qualification */
};
#define FAULT_NONE 0xffu

/* Everything a walk depends on; taken from vmcs01 by paging_state_read(). */
struct paging_state {
    uint64_t cr0, cr3, cr4, efer, rflags;
    unsigned address_bits;
    bool pages_1g;
    uint64_t pdpte[4];
    uint32_t pkru;
    uint32_t pkrs; /* IA32_PKRS, with CR4.PKS */
};

/* The walk itself, pure except for the memory behind `read` (8 or 4 bytes at a gpa; false when not RAM: all-ones).
 * True and *gpa, or false and *fault (#PF with error code and address). `set_accessed` is told which entry must get
 * A (and D) set; NULL: none are set. */
struct gva_memory {
    bool (*read)(void *context, gpa_t gpa, void *value, unsigned size);
    bool (*cas)(void *context, gpa_t gpa, uint64_t old, uint64_t value, unsigned size);
    void *context;
};
bool gva_walk(const struct paging_state *state, const struct gva_memory *memory, gva_t gva, uint32_t access, gpa_t *gpa,
              struct fault *fault);

void paging_state_read(const struct vcpu *vcpu, struct paging_state *state);
/* Reads or writes len bytes of the guest's linear memory, page borders allowed; nothing is written when any page
 * faults. While L2 runs the addresses are L2's, under its paging and EPT12; vcpu->l2_unmapped then says whether false
 * means an EPT violation for L1 rather than *fault. False and *fault when the guest must get an exception. Memory that
 * is not RAM reads as all-ones, writes to it are dropped. */
bool gva_read(struct vcpu *vcpu, gva_t gva, void *buffer, unsigned len, struct fault *fault);
/* len bytes where they lie in L1's RAM, for a read by supervisor code of L1 under 4-level
 * paging, with all entries present and accessed, where neither SMAP nor a protection key can forbid it. NULL:
 * gva_read() must say. */
const void *gva_plain(struct vcpu *vcpu, gva_t gva, uint64_t len);
bool gva_write(struct vcpu *vcpu, gva_t gva, const void *buffer, unsigned len, struct fault *fault);
/* The same for accesses that are not the instruction's own: GVA_IMPLICIT for descriptor tables and TSSs, GVA_USER or
 * GVA_READ as code at CPL 3 or below makes them. */
bool gva_read_as(struct vcpu *vcpu, gva_t gva, void *buffer, unsigned len, uint32_t access, struct fault *fault);
bool gva_write_as(struct vcpu *vcpu, gva_t gva, const void *buffer, unsigned len, uint32_t access, struct fault *fault);

#endif
