/* L1's state after an exit of its L2: what the processor would load from the host-state area (SDM 3C 28.5). */
#include "nested/host_state.h"
#include "kernel/msr.h"
#include "kernel/x86.h"
#include "nested/rules/merge.h"
#include "nested/switched.h"
#include "vmx/cr.h"
#include "vmx/dump.h"
#include "vmx/vmcs_setup.h"

/* CR0 bits that a VM exit leaves alone. SDM 3C 28.5.1 "Loading Host Control Registers, Debug Registers, MSRs" */
#define CR0_KEPT (CR0_ET | CR0_CD | CR0_NW | BITS(28, 19) | BIT(17) | BITS(15, 6))

/* Access rights that an exit gives, in the format of the VMCS: present, accessed, type, G, D/B and L. */
#define ACCESS_CODE64 0xa09b
#define ACCESS_CODE32 0xc09b
#define ACCESS_DATA 0xc093
#define ACCESS_BUSY_TSS 0x8b

/* Fields that are loaded as they are: LOAD(L1's register, vmcs12's host field). Straight code: each exit to L1 runs
 * it. */
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

/* Access rights of a data segment after an exit: a null selector makes it unusable. SDM 3C 28.5.2 "Loading Host Segment
 * and Descriptor-Table Registers" */
static uint64_t data_access(uint64_t selector)
{
    return selector ? ACCESS_DATA : ACCESS_DATA | AR_UNUSABLE;
}

/* Computes what of the host-state area is no plain copy, and depends on nothing but vmcs12 and the CPU.
 * Current: vmcs01. */
static NOINLINE void make_image(const struct vcpu *vcpu, const struct vmcs12 *v, struct host_image *image)
{
    const struct vmx_caps *caps = &vcpu->vm->caps;
    bool host64 = (v->EXIT_CONTROLS & EXITC_HOST_64) != 0;
    uint64_t cr4 = host64 ? v->HOST_CR4 | CR4_PAE : v->HOST_CR4 & ~CR4_PCIDE;
    *image = (struct host_image){
        .ready = true,
        .host64 = host64,
        .cr0 = v->HOST_CR0 & ~CR0_KEPT,
        .cr0_forced = caps->cr0_fixed0,
        .cr4 = cr4 | caps->cr4_fixed0,
        .cr4_shadow = cr4,
        .entry_controls =
            (vmcs_read(ENTRY_CONTROLS) & ~(ENTRY_GUEST_64 | ENTRY_SWITCHED_ONCE)) | (host64 ? ENTRY_GUEST_64 : 0),
        .access_cs = host64 ? ACCESS_CODE64 : ACCESS_CODE32,
        .access_es = data_access(v->HOST_ES_SELECTOR),
        .access_ss = data_access(v->HOST_SS_SELECTOR),
        .access_ds = data_access(v->HOST_DS_SELECTOR),
        .access_fs = data_access(v->HOST_FS_SELECTOR),
        .access_gs = data_access(v->HOST_GS_SELECTOR),
    };
}

static NOINLINE void refresh_image(struct vcpu *vcpu, struct vmcs12_slot *slot)
{
    make_image(vcpu, slot->v, &slot->host);
    if (!vcpu->nested->switched_due)
        return;
    slot->host.entry_controls |= switched_load(vcpu->nested, slot->v);
    slot->host.ready = false;
}

/* Without the widths that the handles carry: vmcs12 has 64-bit members, and the CPU takes the low bits. */
#define WRITE(field, value) vmcs_write_encoding((field).encoding, value)

/* Bases, limits and access rights are fixed, whatever the descriptors in L1's tables say. SDM 3C 28.5.2 */
static void load_segments(const struct host_image *image)
{
    WRITE(GUEST_CS_BASE, 0);
    WRITE(GUEST_CS_LIMIT, 0xffffffff);
    WRITE(GUEST_CS_AR_BYTES, image->access_cs);
    WRITE(GUEST_ES_BASE, 0);
    WRITE(GUEST_ES_LIMIT, 0xffffffff);
    WRITE(GUEST_ES_AR_BYTES, image->access_es);
    WRITE(GUEST_SS_BASE, 0);
    WRITE(GUEST_SS_LIMIT, 0xffffffff);
    WRITE(GUEST_SS_AR_BYTES, image->access_ss);
    WRITE(GUEST_DS_BASE, 0);
    WRITE(GUEST_DS_LIMIT, 0xffffffff);
    WRITE(GUEST_DS_AR_BYTES, image->access_ds);
    WRITE(GUEST_FS_LIMIT, 0xffffffff);
    WRITE(GUEST_FS_AR_BYTES, image->access_fs);
    WRITE(GUEST_GS_LIMIT, 0xffffffff);
    WRITE(GUEST_GS_AR_BYTES, image->access_gs);
    WRITE(GUEST_TR_LIMIT, 0x67);
    WRITE(GUEST_TR_AR_BYTES, ACCESS_BUSY_TSS);
    WRITE(GUEST_LDTR_SELECTOR, 0);
    WRITE(GUEST_LDTR_AR_BYTES, AR_UNUSABLE);
    WRITE(GUEST_GDTR_LIMIT, 0xffff);
    WRITE(GUEST_IDTR_LIMIT, 0xffff);
}

/* L1 reads its own CR0 and CR4 from the read shadows; the real ones have the bits more that VMX operation wants. */
static void load_control_registers(const struct host_image *image, uint64_t l2_cr0)
{
    uint64_t cr0 = image->cr0 | (l2_cr0 & CR0_KEPT);
    WRITE(GUEST_CR0, cr0 | image->cr0_forced);
    WRITE(CR0_READ_SHADOW, cr0);
    WRITE(GUEST_CR4, image->cr4);
    WRITE(CR4_READ_SHADOW, image->cr4_shadow);
    WRITE(ENTRY_CONTROLS, image->entry_controls);
}

void host_state_load(struct vcpu *vcpu, struct vmcs12_slot *slot, uint64_t l2_efer, uint64_t l2_pat, uint64_t l2_cr0)
{
    EXPECT_CURRENT(vcpu->vmcs01);
    const struct vmcs12 *v = slot->v;
    /* What can be computed of the host-state area is kept until L1 writes one of its rows: most exits load the same. */
    if (__builtin_expect(!slot->host.ready, 0))
        refresh_image(vcpu, slot);
#define LOAD(to, from) WRITE(to, v->from);
    PAIRS(LOAD)
#undef LOAD
    load_segments(&slot->host);
    load_control_registers(&slot->host, l2_cr0);
    WRITE(GUEST_EFER, merge_host_efer(v, l2_efer));
    WRITE(GUEST_PAT, v->EXIT_CONTROLS & EXITC_LOAD_PAT ? v->HOST_PAT : l2_pat);
    WRITE(GUEST_RFLAGS, RFLAGS_FIXED1);
    WRITE(GUEST_DR7, 0x400);
    WRITE(GUEST_DEBUGCTL, 0);
    WRITE(GUEST_INTERRUPTIBILITY, 0);
    WRITE(GUEST_ACTIVITY_STATE, ACTIVITY_ACTIVE);
    WRITE(GUEST_PENDING_DEBUG, 0);
    if (!slot->host.host64 && (v->HOST_CR4 & CR4_PAE) && !cr_load_pdptes(vcpu, v->HOST_CR3))
        dump_and_end(vcpu, "VMX abort of L1: the PDPTEs of its host CR3 are not valid");
}
