/* L1's state after an exit of its L2: what the processor would load from the host-state area (SDM 3C 28.5). */
#include "kernel/msr.h"
#include "kernel/x86.h"
#include "nested/enter.h"
#include "nested/merge.h"
#include "vmx/dump.h"
#include "vmx/exit.h"

/* CR0 bits that a VM exit leaves alone. SDM 3C 28.5.1 "Loading Host Control Registers, Debug Registers, MSRs" */
#define CR0_KEPT (CR0_ET | CR0_CD | CR0_NW | BITS(28, 19) | BIT(17) | BITS(15, 6))

#define ACCESS_CODE64 0xa09b
#define ACCESS_CODE32 0xc09b
#define ACCESS_DATA 0xc093
#define ACCESS_BUSY_TSS 0x8b

/* Fields that are loaded as they are: LOAD(L1's register, vmcs12's host field). Straight code: each exit to L1 runs it. */
#define PAIRS(LOAD)                                                                                                    \
    LOAD(GUEST_CR3, HOST_CR3)                                                                                          \
    LOAD(GUEST_RSP, HOST_RSP)                                                                                          \
    LOAD(GUEST_RIP, HOST_RIP)                                                                                          \
    LOAD(GUEST_ES_SELECTOR, HOST_ES_SELECTOR)                                                                          \
    LOAD(GUEST_CS_SELECTOR, HOST_CS_SELECTOR)                                                                          \
    LOAD(GUEST_SS_SELECTOR, HOST_SS_SELECTOR)                                                                          \
    LOAD(GUEST_DS_SELECTOR, HOST_DS_SELECTOR)                                                                          \
    LOAD(GUEST_FS_SELECTOR, HOST_FS_SELECTOR)                                                                          \
    LOAD(GUEST_GS_SELECTOR, HOST_GS_SELECTOR)                                                                          \
    LOAD(GUEST_TR_SELECTOR, HOST_TR_SELECTOR)                                                                          \
    LOAD(GUEST_FS_BASE, HOST_FS_BASE)                                                                                  \
    LOAD(GUEST_GS_BASE, HOST_GS_BASE)                                                                                  \
    LOAD(GUEST_TR_BASE, HOST_TR_BASE)                                                                                  \
    LOAD(GUEST_GDTR_BASE, HOST_GDTR_BASE)                                                                              \
    LOAD(GUEST_IDTR_BASE, HOST_IDTR_BASE)                                                                              \
    LOAD(GUEST_SYSENTER_CS, HOST_SYSENTER_CS)                                                                          \
    LOAD(GUEST_SYSENTER_ESP, HOST_SYSENTER_ESP)                                                                        \
    LOAD(GUEST_SYSENTER_EIP, HOST_SYSENTER_EIP)

static uint32_t data_access(uint64_t selector)
{
    return selector ? ACCESS_DATA : (uint32_t)(ACCESS_DATA | AR_UNUSABLE);
}

/* Bases, limits and access rights are fixed, whatever the descriptors in L1's tables say. SDM 3C 28.5.2 */
static void load_segments(const struct vmcs12 *v, bool host64)
{
    vmcs_write(GUEST_CS_BASE, 0);
    vmcs_write(GUEST_CS_LIMIT, 0xffffffff);
    vmcs_write(GUEST_CS_AR_BYTES, host64 ? ACCESS_CODE64 : ACCESS_CODE32);
    vmcs_write(GUEST_ES_BASE, 0);
    vmcs_write(GUEST_ES_LIMIT, 0xffffffff);
    vmcs_write(GUEST_ES_AR_BYTES, data_access(v->HOST_ES_SELECTOR));
    vmcs_write(GUEST_SS_BASE, 0);
    vmcs_write(GUEST_SS_LIMIT, 0xffffffff);
    vmcs_write(GUEST_SS_AR_BYTES, data_access(v->HOST_SS_SELECTOR));
    vmcs_write(GUEST_DS_BASE, 0);
    vmcs_write(GUEST_DS_LIMIT, 0xffffffff);
    vmcs_write(GUEST_DS_AR_BYTES, data_access(v->HOST_DS_SELECTOR));
    vmcs_write(GUEST_FS_LIMIT, 0xffffffff);
    vmcs_write(GUEST_FS_AR_BYTES, data_access(v->HOST_FS_SELECTOR));
    vmcs_write(GUEST_GS_LIMIT, 0xffffffff);
    vmcs_write(GUEST_GS_AR_BYTES, data_access(v->HOST_GS_SELECTOR));
    vmcs_write(GUEST_TR_LIMIT, 0x67);
    vmcs_write(GUEST_TR_AR_BYTES, ACCESS_BUSY_TSS);
    vmcs_write(GUEST_LDTR_SELECTOR, 0);
    vmcs_write(GUEST_LDTR_AR_BYTES, AR_UNUSABLE);
    vmcs_write(GUEST_GDTR_LIMIT, 0xffff);
    vmcs_write(GUEST_IDTR_LIMIT, 0xffff);
}

static void load_control_registers(const struct vcpu *vcpu, const struct vmcs12 *v, uint64_t l2_cr0, bool host64)
{
    const struct vmx_caps *caps = &vcpu->vm->caps;
    uint64_t cr0 = (v->HOST_CR0 & ~CR0_KEPT) | (l2_cr0 & CR0_KEPT);
    uint64_t cr4 = v->HOST_CR4;
    cr4 = host64 ? cr4 | CR4_PAE : cr4 & ~CR4_PCIDE;
    vmcs_write(GUEST_CR0, cr0 | caps->cr0_fixed0);
    vmcs_write(CR0_READ_SHADOW, cr0);
    vmcs_write(GUEST_CR4, cr4 | caps->cr4_fixed0);
    vmcs_write(CR4_READ_SHADOW, cr4);
}

void host_state_load(struct vcpu *vcpu, const struct vmcs12 *v, uint64_t l2_efer, uint64_t l2_pat, uint64_t l2_cr0)
{
    bool host64 = (v->EXIT_CONTROLS & EXITC_HOST_64) != 0;
#define LOAD(to, from) vmcs_write_encoding((to).encoding, v->from);
    PAIRS(LOAD)
#undef LOAD
    load_segments(v, host64);
    load_control_registers(vcpu, v, l2_cr0, host64);
    vmcs_write(GUEST_EFER, merge_host_efer(v, l2_efer));
    vmcs_write(GUEST_PAT, v->EXIT_CONTROLS & EXITC_LOAD_PAT ? v->HOST_PAT : l2_pat);
    uint32_t entry = vmcs_read(ENTRY_CONTROLS) & ~(uint32_t)ENTRY_GUEST_64;
    vmcs_write(ENTRY_CONTROLS, (uint32_t)(entry | (host64 ? ENTRY_GUEST_64 : 0)));
    vmcs_write(GUEST_RFLAGS, RFLAGS_FIXED1);
    vmcs_write(GUEST_DR7, 0x400);
    vmcs_write(GUEST_DEBUGCTL, 0);
    vmcs_write(GUEST_INTERRUPTIBILITY, 0);
    vmcs_write(GUEST_ACTIVITY_STATE, ACTIVITY_ACTIVE);
    vmcs_write(GUEST_PENDING_DEBUG, 0);
    if (!host64 && (v->HOST_CR4 & CR4_PAE) && !cr_load_pdptes(vcpu, v->HOST_CR3))
        dump_and_end(vcpu, "VMX abort of L1: the PDPTEs of its host CR3 are not valid");
}
