/* The VMX features of the CPU: its capability MSRs, read once; and settling control words against them.
 * caps_read() on each processor at start, caps_meet() for what they share; the rest is pure over struct vmx_caps.
 * vmx/ and nested/ read it; nested/rules/caps12 computes from it what L1 is offered. */
#ifndef VMX_CAPS_H
#define VMX_CAPS_H

#include "kernel/base.h"

/* allowed-0 settings in the low half (bits that must be 1), allowed-1 settings in the high half. SDM 3D A.2 */
struct ctl_caps {
    uint32_t must; /* bits that must be 1 */
    uint32_t may;  /* bits that may be 1 */
};

#define CAPS_LINEAR_BITS_4_LEVEL 48u

struct vmx_caps {
    uint64_t basic, misc, ept_vpid, vmfunc, vmcs_enum;
    uint64_t proc3;     /* tertiary controls that may be 1; none must be */
    uint64_t exit2;     /* secondary VM-exit controls; the same */
    uint64_t spec_ctrl; /* bits of IA32_SPEC_CTRL that may be 1, where an exit can load it */
    uint64_t cr0_fixed0, cr0_fixed1, cr4_fixed0, cr4_fixed1;
    struct ctl_caps pin, proc, proc2, exit, entry;          /* the true controls where the CPU has them */
    struct ctl_caps old_pin, old_proc, old_exit, old_entry; /* IA32_VMX_PINBASED_CTLS etc., as read */
    uint64_t pending_debug; /* kinds of pending debug exceptions that not all CPUs have */
    unsigned address_bits;  /* MAXPHYADDR */
    unsigned usable_bits; /* the same less the KeyID bits of memory encryption, by which memory has several addresses */
    uint64_t address_mask; /* of page frames: bits MAXPHYADDR-1:12 */
    unsigned linear_bits;  /* without 5-level paging CAPS_LINEAR_BITS_4_LEVEL */
    uint64_t cr3_flags;    /* of bits 63:52 of CR3, those that the CPU takes: linear-address masking */
    uint8_t vpid_flush;    /* INVVPID type that drops all of a VPID, maybe more; 0: no INVVPID */
};

void caps_read(struct vmx_caps *caps);
/* The name of the first feature that Nestor needs and the CPU lacks, or NULL. Pure. */
const char *caps_missing(const struct vmx_caps *caps);
/* MAXPHYADDR less the KeyID bits that IA32_TME_ACTIVATE, as read, gives to multi-key memory encryption. Pure.
 * SDM 3C 29.3.2 "EPT Translation Mechanism" counts them as part of the address. */
unsigned caps_usable_bits(unsigned address_bits, uint64_t tme_activate);
/* Chooses caps->vpid_flush, by which all processors flush: by VPID if they can, else all. A CPU whose INVVPID drops no
 * VPID as a whole is used as one without VPIDs: each entry and exit flushes. Pure. */
void caps_choose_invvpid(struct vmx_caps *caps);
/* Makes *common what it and another processor's have in common. The name of what Nestor needs and they do not share, or
 * NULL. Pure. */
MUST_CHECK const char *caps_meet(struct vmx_caps *common, const struct vmx_caps *other);
/* `want` with the bits that must be 1 added; those that may not be 1 dropped. */
static inline uint32_t caps_settle(struct ctl_caps caps, uint64_t want)
{
    return ((uint32_t)want | caps.must) & caps.may;
}
/* True if a value is one that the CPU accepts. */
static inline bool caps_accepts(struct ctl_caps caps, uint64_t value)
{
    return (value & caps.must) == caps.must && (value & ~(uint64_t)caps.may) == 0;
}

#endif
