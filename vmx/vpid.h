/* Which VPID the hardware uses for whom, and flushing by VPID.
 * The processor is in VMX operation; without VPID support the flushes have nothing to do, as each entry and exit
 * flushes (SDM 3C 29.4.3.1 "Operations that Invalidate Cached Mappings").
 * vmx/ uses L1's, nested/vpid12 hands out L2's. */
#ifndef VMX_VPID_H
#define VMX_VPID_H

#include "kernel/cmdline.h"
#include "kernel/panic.h"
#include "vmx/vcpu.h"
#include "vmx/vmx_insn.h"

#define VPID_L1 1u        /* L1 */
#define VPID_L2_NONE 2u   /* L2 of a vmcs12 that uses no VPID */
#define VPID_L2_FIRST 16u /* L2 of vmcs12s that use one: nested/vpid12 */

/* Drops all translations of a VPID. */
static inline void vpid_flush(const struct vcpu *vcpu, uint16_t vpid)
{
    struct invalidate_descriptor descriptor = {.context = vpid};
    uint8_t type = vcpu->vm->caps.vpid_flush;
    if (type)
        ASSERT(insn_invvpid(type, descriptor));
}

/* True if L1 knows the VPID as VPID 0000H. */
static inline bool vpid_is_zero(unsigned vpid)
{
    return vpid == VPID_L1 || vpid == VPID_L2_NONE;
}

/* An entry into or exit from an L2 without VPID flushes VPID 0000H, before the guest with `vpid`, one of those that L1
 * knows as that, goes on. SDM 3C 29.4.3.1 "Operations that Invalidate Cached Mappings" */
static inline void vpid_flush_zero(const struct vcpu *vcpu, uint16_t vpid)
{
    if (options.fault != FAULT_SKIP_INVVPID)
        vpid_flush(vcpu, vpid);
}

#endif
