/* L1's state after an exit of its L2: what the processor would load from the host-state area (SDM 3C 28.5). */
#include "nested/host_state.h"
#include "kernel/msr.h"
#include "kernel/panic.h"
#include "kernel/x86.h"
#include "nested/rules/merge.h"
#include "nested/switched.h"
#include "vmx/cr.h"
#include "vmx/dump.h"
#include "vmx/vmcs_setup.h"

/* Access rights that an exit gives, in the format of the VMCS: present, accessed, type, G, D/B and L. */
#define ACCESS_CODE32 0xc09b
#define ACCESS_DATA 0xc093
#define ACCESS_BUSY_TSS 0x8b

/* Access rights of a data segment after an exit: a null selector makes it unusable. SDM 3C 28.5.2 "Loading Host Segment
 * and Descriptor-Table Registers" */
static uint64_t data_access(uint64_t selector)
{
    return selector ? ACCESS_DATA : ACCESS_DATA | AR_UNUSABLE;
}

/* Computes the words of the image that depend on nothing but vmcs12 and the CPU, and what is no word of it.
 * Current: vmcs01. */
static NOINLINE void make_image(const struct vcpu *vcpu, const struct vmcs12 *v, struct host_image *image,
                                uint64_t *words)
{
    const struct vmx_caps *caps = &vcpu->vm->caps;
    bool host64 = (v->EXIT_CONTROLS & EXITC_HOST_64) != 0;
    uint64_t cr4 = host64 ? v->HOST_CR4 | CR4_PAE : v->HOST_CR4 & ~CR4_PCIDE;
    *image = (struct host_image){
        .ready = true,
        .host64 = host64,
        .cr0 = v->HOST_CR0 & ~CR0_KEPT,
        .cr4 = cr4 | caps->cr4_fixed0,
        .cr4_shadow = cr4,
        .entry_controls =
            (vmcs_read(ENTRY_CONTROLS) & ~(ENTRY_GUEST_64 | ENTRY_SWITCHED_ONCE)) | (host64 ? ENTRY_GUEST_64 : 0),
    };
#define ROW(field, value) words[STRAIGHT_##field] = value;
#include "vmx/straight_rows.def"
#undef ROW
}

/* With `switched_due` vmcs01 must load registers at its next entry, once: such an image serves that entry alone, and
 * the next exit computes it again. */
static NOINLINE void refresh_image(struct vcpu *vcpu, struct vmcs12_slot *slot)
{
    make_image(vcpu, slot->v, &slot->host, slot->plan.image);
    straight_of(vcpu->cpu)->sysenter_of = NULL;
    if (!vcpu->nested->switched_due)
        return;
    slot->host.entry_controls |= switched_load(vcpu->nested, slot->v);
    slot->host.ready = false;
}

/* Until L1 writes them, or this image is made anew. */
static NOINLINE void remember_sysenter(struct straight *straight, const struct straight_plan *plan)
{
    straight->sysenter[0] = plan->image[STRAIGHT_GUEST_SYSENTER_CS];
    straight->sysenter[1] = plan->image[STRAIGHT_GUEST_SYSENTER_ESP];
    straight->sysenter[2] = plan->image[STRAIGHT_GUEST_SYSENTER_EIP];
    straight->sysenter_of = plan;
}

/* Without the widths that the handles carry: vmcs12 has 64-bit members, and the CPU takes the low bits. */
#define WRITE(field, value) vmcs_write_encoding((field).encoding, value)

void host_state_load(struct vcpu *vcpu, struct vmcs12_slot *slot, uint64_t l2_efer, uint64_t l2_pat, uint64_t l2_cr0)
{
    EXPECT_CURRENT(vcpu->vmcs01);
    const struct vmcs12 *v = slot->v;
    uint64_t *words = slot->plan.image, cr0;
    /* The words of the image are kept until L1 writes a row of the host-state area: most exits load the same. */
    if (__builtin_expect(!slot->host.ready, 0))
        refresh_image(vcpu, slot);
    cr0 = slot->host.cr0 | (l2_cr0 & CR0_KEPT);
    words[STRAIGHT_GUEST_RSP] = v->HOST_RSP;
    words[STRAIGHT_GUEST_CR0] = cr0 | vcpu->vm->caps.cr0_fixed0;
    words[STRAIGHT_GUEST_EFER] = merge_host_efer(v, l2_efer);
    words[STRAIGHT_GUEST_PAT] = v->EXIT_CONTROLS & EXITC_LOAD_PAT ? v->HOST_PAT : l2_pat;
    /* Bases, limits and access rights are fixed, whatever the descriptors in L1's tables say. SDM 3C 28.5.2 */
#define ROW(field, value) WRITE(field, words[STRAIGHT_##field]);
#include "vmx/straight_rows.def"
#undef ROW
    if (straight_of(vcpu->cpu)->sysenter_of != &slot->plan)
        remember_sysenter(straight_of(vcpu->cpu), &slot->plan);
    WRITE(CR0_READ_SHADOW, cr0);
    WRITE(CR4_READ_SHADOW, slot->host.cr4_shadow);
    WRITE(ENTRY_CONTROLS, slot->host.entry_controls);
    vcpu->nested->loads_once = (slot->host.entry_controls & ENTRY_SWITCHED_ONCE) != 0;
    WRITE(GUEST_ACTIVITY_STATE, ACTIVITY_ACTIVE);
    if (!slot->host.host64 && (v->HOST_CR4 & CR4_PAE) && !cr_load_pdptes(vcpu, v->HOST_CR3))
        dump_and_end(vcpu, "VMX abort of L1: the PDPTEs of its host CR3 are not valid");
}

#ifdef CHECKED
bool host_state_is(struct vcpu *vcpu, const struct vmcs12_slot *slot, const struct l1_registers *l2, uint64_t l2_cr0)
{
    struct host_image image;
    uint64_t words[STRAIGHT_ROWS], cr0;
    make_image(vcpu, slot->v, &image, words);
    cr0 = image.cr0 | (l2_cr0 & CR0_KEPT);
    words[STRAIGHT_GUEST_RSP] = slot->plan.image[STRAIGHT_GUEST_RSP];
    words[STRAIGHT_GUEST_CR0] = cr0 | vcpu->vm->caps.cr0_fixed0;
    words[STRAIGHT_GUEST_EFER] = merge_host_efer(slot->v, l2->efer);
    words[STRAIGHT_GUEST_PAT] = slot->v->EXIT_CONTROLS & EXITC_LOAD_PAT ? slot->v->HOST_PAT : l2->pat;
#define ROW(field, value)                                                                                              \
    if (vmcs_read_wide(field) != words[STRAIGHT_##field])                                                              \
        panic("straight: vmcs01 has %lx for " #field ", not %lx", vmcs_read_wide(field), words[STRAIGHT_##field]);
#include "vmx/straight_rows.def"
#undef ROW
    return !((vmcs_read(CR0_READ_SHADOW) ^ cr0) & vmcs_read(CR0_GUEST_HOST_MASK)) &&
           !((vmcs_read(CR4_READ_SHADOW) ^ image.cr4_shadow) & vmcs_read(CR4_GUEST_HOST_MASK)) &&
           vmcs_read(ENTRY_CONTROLS) == image.entry_controls && vmcs_read(GUEST_ACTIVITY_STATE) == ACTIVITY_ACTIVE;
}
#endif
