/* Making VMCSs: VMX operation on a processor, fresh regions, the host state that every VMCS of Nestor's has, and
 * vmcs01 for an L1 that starts.
 * The page allocator works; struct vm is filled.
 * start/ for vmcs01, nested/ for vmcs02. */
#ifndef VMX_VMCS_SETUP_H
#define VMX_VMCS_SETUP_H

#include "l1/l1_image.h"
#include "vmx/vcpu.h"

/* Puts this processor into VMX operation. 0; -1 when a page is missing or VMXON fails, logged. */
MUST_CHECK int vmx_enable(const struct vmx_caps *caps);
/* Leaves it again. No VMCS of this processor is active. */
void vmx_disable(void);
/* The same whatever was begun, and whether it is in VMX operation at all: the current VMCS is cleared first. */
void vmx_give_up(void);
/* A VMCS region with the CPU's revision, VMCLEARed; 0 when there is no page. */
hpa_t vmcs_alloc(const struct vmx_caps *caps);
/* VMCLEARs and frees it. */
void vmcs_free(hpa_t vmcs);
/* Makes it current; asserts success. */
void vmcs_load(hpa_t vmcs);
/* EXPECT_CURRENT(vmcs): the CHECKED build stops the run unless that VMCS is current (VMPTRST says which), as the
 * contract of the function demands. EXPECT_GUEST(vcpu): the same of the VMCS of the guest that vcpu->in_l2 names, which
 * is vmcs01 or is not. Elsewhere both are nothing. */
#ifdef CHECKED
void vmcs_expect_current(hpa_t vmcs, const char *function);
void vmcs_expect_guest(const struct vcpu *vcpu, const char *function);
#define EXPECT_CURRENT(vmcs) vmcs_expect_current(vmcs, __func__)
#define EXPECT_GUEST(vcpu) vmcs_expect_guest(vcpu, __func__)
#else
#define EXPECT_CURRENT(vmcs) ((void)0)
#define EXPECT_GUEST(vcpu) ((void)0)
#endif
#define LINK_POINTER_NONE (~0ull)

/* The fields of the eight segment registers lie 2 apart in each group, ES first. */
enum { SEGMENT_ES, SEGMENT_CS, SEGMENT_SS, SEGMENT_DS, SEGMENT_FS, SEGMENT_GS, SEGMENT_LDTR, SEGMENT_TR, SEGMENTS };
/* A guest's segment register, with base 0. Current: its VMCS. */
void vmcs_write_segment(unsigned segment, uint16_t selector, uint32_t limit, uint32_t access);
/* The host state of a processor of Nestor's: an exit goes to vmx/entry.asm. Current: the new VMCS. */
void vmcs_write_host_area(const struct cpu *cpu);
/* Host area, EPT and the other fields that have one value in every VMCS that `vcpu` runs. Current: the new VMCS. */
void vmcs_write_common(const struct vcpu *vcpu);
/* Makes vmcs01 of `vcpu`, current afterwards, ready to start L1. 0, or -1 when pages run out. */
MUST_CHECK int vmcs01_create(struct vcpu *vcpu, const struct l1_start *entry);
/* L1's registers as after INIT; and as a start-up IPI with `vector` sets them. Current: vmcs01. */
void vmcs01_reset(struct vcpu *vcpu);
void vmcs01_start(uint8_t vector);

#endif
