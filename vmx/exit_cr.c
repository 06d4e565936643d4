/* L1's control registers. Only the bits that VMX operation fixes are Nestor's: CR0.NE and CR4.VMXE always, CR0.PE and
 * CR0.PG too once L1 is in VMX operation (SDM 3C 24.8 "Restrictions on VMX Operation"). L1 reads them from the
 * shadows. */
#include "kernel/ledger.h"
#include "kernel/msr.h"
#include "kernel/x86.h"
#include "vmx/breakpoint.h"
#include "vmx/cr.h"
#include "vmx/event.h"
#include "vmx/exit_handlers.h"
#include "vmx/operand.h"
#include "vmx/refusal.h"
#include "vmx/run.h"
#include "vmx/skip.h"
#include "vmx/vmcs_setup.h"
#include "vmx/vmx_insn.h"
#include "vmx/vpid.h"

#define CR0_DEFINED (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG)
#define TYPE_TSS16_BUSY 3u
/* SDM 3A 4.10.4.1 "Operations that Invalidate TLBs and Paging-Structure Caches" */
#define CR4_FLUSHING (CR4_PGE | CR4_PAE | CR4_PCIDE | CR4_SMEP)

/* Busy, of 16 bits: IA-32e mode has no such TSS, and no VM entry takes one into it. */
static bool cr_tss_is_16bit(void)
{
    return GET(vmcs_read(GUEST_TR_AR_BYTES), AR_TYPE) == TYPE_TSS16_BUSY;
}

/* Paging goes on or off: IA-32e mode follows (SDM 3A 10.8.5 "Initializing IA-32e Mode"). False: #GP. */
static bool cr_switch_paging(bool on)
{
    uint64_t efer = vmcs_read(GUEST_EFER);
    bool code64 = (vmcs_read(GUEST_CS_AR_BYTES) & AR_L) != 0;
    if (on && (efer & EFER_LME)) {
        if (!(cr_read_cr4() & CR4_PAE) || code64 || cr_tss_is_16bit())
            return false;
        efer |= EFER_LMA;
    } else if (!on && (efer & EFER_LMA)) {
        if (code64 || (cr_read_cr4() & CR4_PCIDE))
            return false;
        efer &= ~EFER_LMA;
    }
    vmcs_write(GUEST_EFER, efer);
    uint32_t controls = vmcs_read(ENTRY_CONTROLS) & ~(uint32_t)ENTRY_GUEST_64;
    vmcs_write(ENTRY_CONTROLS, (uint32_t)(controls | (efer & EFER_LMA ? ENTRY_GUEST_64 : 0)));
    return true;
}

/* MOV to CR0 with L1's value. Other than REFUSAL_NONE: #GP(0). SDM 2B "MOV—Move to/from Control Registers" */
static enum refusal cr_write_cr0(struct vcpu *vcpu, uint64_t value)
{
    uint64_t old = cr_read_cr0();
    const uint64_t fixed0 = vcpu->vm->caps.cr0_fixed0;
    if ((value >> 32) || ((value & CR0_PG) && !(value & CR0_PE)) || ((value & CR0_NW) && !(value & CR0_CD)))
        return REFUSAL_CR0_RESERVED;
    if (vcpu->l1_in_vmx && (value & fixed0) != fixed0)
        return REFUSAL_CR0_FIXED;
    if (!(value & CR0_WP) && (cr_read_cr4() & CR4_CET))
        return REFUSAL_CR0_WP;
    value = (value & CR0_DEFINED) | CR0_ET;
    if (((value ^ old) & CR0_PG) && !cr_switch_paging((value & CR0_PG) != 0))
        return REFUSAL_CR0_PAGING;
    if (((value ^ old) & (CR0_PG | CR0_CD | CR0_NW)) &&
        x86_uses_pae(value, cr_read_cr4(), vmcs_read(GUEST_EFER) & EFER_LMA) &&
        !cr_load_pdptes(vcpu, vmcs_read(GUEST_CR3)))
        return REFUSAL_CR_PDPTE;
    /* No VM entry loads CD and NW: L1's are the processor's. SDM 3C 27.3.2.1 "Loading Guest Control Registers, Debug
     * Registers, and MSRs" */
    write_cr0((read_cr0() & ~(CR0_CD | CR0_NW)) | (value & (CR0_CD | CR0_NW)));
    if (old & ~value & CR0_PG)
        ledger_owe_vpid(VPID_L1, "MOV to CR0 that ends paging");
    vmcs_write(GUEST_CR0, value | (fixed0 & ~(CR0_PE | CR0_PG)));
    vmcs_write(CR0_READ_SHADOW, value);
    return REFUSAL_NONE;
}

/* MOV to CR4 with L1's value. Other than REFUSAL_NONE: #GP(0): reserved or hidden bits, bits that VMX operation fixes,
 * and changes that IA-32e mode forbids. */
static enum refusal cr_write_cr4(struct vcpu *vcpu, uint64_t value)
{
    const struct vmx_caps *caps = &vcpu->vm->caps;
    uint64_t old = cr_read_cr4(), cr0 = cr_read_cr0(), efer = vmcs_read(GUEST_EFER), cr3 = vmcs_read(GUEST_CR3);
    /* PCIDs may be turned on in IA-32e mode alone, and with PCID 0 in CR3. */
    bool pcide_rises = (value & ~old & CR4_PCIDE) != 0;
    if (value & ~(caps->cr4_fixed1 & ~vcpu->vm->cr4_hidden))
        return REFUSAL_CR4_RESERVED;
    if (vcpu->l1_in_vmx && (value & caps->cr4_fixed0) != caps->cr4_fixed0)
        return REFUSAL_CR4_FIXED;
    if ((efer & EFER_LMA) && (!(value & CR4_PAE) || ((value ^ old) & CR4_LA57)))
        return REFUSAL_CR4_LONG_MODE;
    if (pcide_rises && (!(efer & EFER_LMA) || (cr3 & BITS(11, 0))))
        return REFUSAL_CR4_PCIDE;
    if ((value & CR4_CET) && !(cr0 & CR0_WP))
        return REFUSAL_CR4_CET;
    if (((value ^ old) & (CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP)) && x86_uses_pae(cr0, value, efer & EFER_LMA) &&
        !cr_load_pdptes(vcpu, cr3))
        return REFUSAL_CR_PDPTE;
    if ((value ^ old) & CR4_FLUSHING)
        ledger_owe_vpid(VPID_L1, "MOV to CR4");
    vmcs_write(GUEST_CR4, value | caps->cr4_fixed0);
    vmcs_write(CR4_READ_SHADOW, value);
    return REFUSAL_NONE;
}

/* The second value of the row's text. */
static uint64_t refused_with(const struct vcpu *vcpu, enum refusal refusal, uint64_t value)
{
    const struct vmx_caps *caps = &vcpu->vm->caps;
    switch (refusal) {
    case REFUSAL_CR0_FIXED:
        return caps->cr0_fixed0;
    case REFUSAL_CR0_PAGING:
        return vmcs_read(GUEST_EFER);
    case REFUSAL_CR4_RESERVED:
        return value & ~(caps->cr4_fixed1 & ~vcpu->vm->cr4_hidden);
    case REFUSAL_CR4_FIXED:
        return caps->cr4_fixed0;
    default:
        return vmcs_read(GUEST_CR3);
    }
}

/* LMSW sets the low four bits of CR0 but cannot clear PE. */
static uint64_t cr_lmsw_value(uint64_t qualification)
{
    uint64_t source = GET(qualification, CR_QUAL_LMSW_SOURCE) & BITS(3, 0);
    uint64_t cr0 = cr_read_cr0();
    return (cr0 & ~BITS(3, 1)) | source;
}

/* Reads of CR0 and CR4 never exit: the read shadows answer them. So each exit is a write, and each of the three forms
 * (MOV, LMSW, CLTS) becomes one value for the whole register. Of an L2's those come here that would set a bit of CR4
 * which L1's CPU has not: #GP. */
void exit_cr_access(struct vcpu *vcpu)
{
    EXPECT_GUEST(vcpu);
    uint64_t qualification = vcpu->exit.qualification;
    unsigned number = (unsigned)GET(qualification, CR_QUAL_NUMBER);
    unsigned type = (unsigned)GET(qualification, CR_QUAL_TYPE);
    uint64_t value = 0;
    enum refusal refusal = REFUSAL_NOT_IN_CPU;
    /* Each form becomes a value for the whole register. */
    if (type == CR_QUAL_TYPE_MOV_TO)
        value = operand_register_read(vcpu, (unsigned)GET(qualification, CR_QUAL_REGISTER), operand_long_mode());
    else if (type == CR_QUAL_TYPE_LMSW)
        value = cr_lmsw_value(qualification);
    if (type == CR_QUAL_TYPE_LMSW && (qualification & CR_QUAL_LMSW_MEMORY))
        breakpoint_memory(vcpu, false, vcpu->exit.guest_linear_address, sizeof(uint16_t));
    else if (type == CR_QUAL_TYPE_CLTS)
        value = cr_read_cr0() & ~CR0_TS;
    if (number == 0)
        refusal = cr_write_cr0(vcpu, value);
    else if (number == 4)
        refusal = cr_write_cr4(vcpu, value);
    if (refusal != REFUSAL_NONE) {
        refusal_log(vcpu, refusal, value, refused_with(vcpu, refusal, value));
        event_inject_gp(vcpu, 0);
        return;
    }
    vpid_flush(vcpu, VPID_L1); /* the changes that flush the TLB do so here; the others may */
    vcpu_skip_instruction(vcpu);
}
