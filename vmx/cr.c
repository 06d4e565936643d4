/* A bit of CR0 or CR4 is L1's own unless VMX operation fixes it. Fixed bits are set in the register whatever L1
 * wants, so they are Nestor's by the guest/host mask: L1 reads them from the read shadow, and a MOV that would
 * change one exits. SDM 3C 24.8 "Restrictions on VMX Operation" */
#include "vmx/cr.h"

#include "kernel/x86_bits.h"
#include "vmx/vmcs_setup.h"

/* Of a PDPTE that is present; the upper ones depend on the physical-address width. */
#define PDPTE_RESERVED_LOW (BITS(8, 5) | BITS(2, 1))

/* Bits that Nestor owns read as the shadow says, all others as they are. */
uint64_t cr_read_cr0(void)
{
    uint64_t mask = vmcs_read(CR0_GUEST_HOST_MASK);
    return (vmcs_read(GUEST_CR0) & ~mask) | (vmcs_read(CR0_READ_SHADOW) & mask);
}

uint64_t cr_read_cr4(void)
{
    uint64_t mask = vmcs_read(CR4_GUEST_HOST_MASK);
    return (vmcs_read(GUEST_CR4) & ~mask) | (vmcs_read(CR4_READ_SHADOW) & mask);
}

void cr_update_masks(struct vcpu *vcpu)
{
    EXPECT_CURRENT(vcpu->vmcs01);
    const struct vmx_caps *caps = &vcpu->vm->caps;
    uint64_t fixed0 = caps->cr0_fixed0;
    if (!vcpu->l1_in_vmx)
        fixed0 &= ~(CR0_PE | CR0_PG); /* an unrestricted guest may clear them */
    /* The shadows first, by the old masks: a bit that changes its owner keeps the value that L1 sees. */
    vmcs_write(CR0_READ_SHADOW, cr_read_cr0());
    vmcs_write(CR4_READ_SHADOW, cr_read_cr4());
    vmcs_write(CR0_GUEST_HOST_MASK, fixed0);
    vmcs_write(CR4_GUEST_HOST_MASK, caps->cr4_fixed0 | vcpu->vm->cr4_hidden);
}

bool cr_load_pdptes(struct vcpu *vcpu, uint64_t cr3)
{
    EXPECT_GUEST(vcpu);
    const vmcs64_t fields[] = {GUEST_PDPTE0, GUEST_PDPTE1, GUEST_PDPTE2, GUEST_PDPTE3};
    uint64_t pdpte[ARRAY_SIZE(fields)];
    uint64_t reserved = PDPTE_RESERVED_LOW | BITS(63, vcpu->vm->caps.address_bits);
    /* The table is 32 bytes below 4 GiB, whatever the upper bits of CR3 say. SDM 3A 4.4.1 "PDPTE Registers" */
    gmem_read(&vcpu->vm->gmem, cr3 & BITS(31, 5), pdpte, sizeof(pdpte));
    for (unsigned i = 0; i < ARRAY_SIZE(fields); i++)
        if ((pdpte[i] & PTE_P) && (pdpte[i] & reserved))
            return false;
    for (unsigned i = 0; i < ARRAY_SIZE(fields); i++)
        vmcs_write(fields[i], pdpte[i]);
    return true;
}
