/* RDMSR and WRMSR as the guest of the current VMCS means them.
 * An MSR that the VMCS switches is read and written there; one that Nestor keeps goes to its handler; every other is
 * the CPU's own, live while the guest is out.
 * vmx/exit_msr uses it for exits, nested/msr_area for L1's MSR lists. */
#ifndef VMX_MSR_GUEST_H
#define VMX_MSR_GUEST_H

#include "kernel/msr.h"
#include "vmx/vcpu.h"

/* True while L1 has its APIC off, and the CPU's is kept on. */
static inline bool vcpu_apic_is_off(const struct vcpu *vcpu)
{
    return vcpu->vm->apic_stays_on && !(vcpu->apic_base & APIC_BASE_EN);
}

/* Allocates vm->msr_bitmap and fills it from the policy. 0, or -1 when pages run out. */
MUST_CHECK int msr_policy_init(struct vm *vm);
/* On each processor before L1 runs there: what writes memory past Nestor's rules is off. After msr_policy_init(). */
void msr_prepare_processor(const struct vm *vm);
/* L0 keeps the accesses of `msr` that are true, beside those of the policy's table, and no longer others that it was
 * told to keep. L1's next access goes by it, and L2's after the next nested entry. */
void msr_policy_change(struct vm *vm, uint32_t msr, bool read, bool write);
/* False: the guest gets #GP(0). Current: the VMCS of the guest (vmcs01, or vmcs02 for L2). */
MUST_CHECK bool msr_guest_read(struct vcpu *vcpu, uint32_t msr, uint64_t *value);
MUST_CHECK bool msr_guest_write(struct vcpu *vcpu, uint32_t msr, uint64_t value);

/* MSRs whose value for the guest is the register's, whatever VMCS is current, that the CPU has, and of which WRMSR does
 * no more than to change it. Those that do nothing when it stays are counted from MSR_PLAIN_FIRST on, the others from 0
 * on. msr_policy_init() makes both of msr_policy.def. */
#define MSR_PLAIN_FIRST 0xc0000080u
#define MSR_PLAIN_COUNT 0x90u
#define MSR_ACTING_COUNT 0x80u
extern bool msr_plain[MSR_PLAIN_COUNT], msr_acting[MSR_ACTING_COUNT];
enum msr_plainness { MSR_NOT_PLAIN, MSR_PLAIN_NOTHING, MSR_PLAIN_ACTS };
/* `head`: the number, and above it 32 bits that must be 0. */
static ALWAYS_INLINE enum msr_plainness msr_is_plain(uint64_t head)
{
    uint64_t at = head - MSR_PLAIN_FIRST;
    if (__builtin_expect(at < MSR_PLAIN_COUNT, 1))
        return msr_plain[at] ? MSR_PLAIN_NOTHING : MSR_NOT_PLAIN;
    return head < MSR_ACTING_COUNT && msr_acting[head] ? MSR_PLAIN_ACTS : MSR_NOT_PLAIN;
}

#endif
