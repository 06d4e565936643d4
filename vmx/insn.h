/* The VMX instructions, with VMsucceed / VMfailInvalid / VMfailValid as a value (SDM 3C 31.2 "Conventions").
 * The processor must be in VMX operation (but for vmxon).
 * vmx/ and nested/ use them; every result is checked. */
#ifndef VMX_INSN_H
#define VMX_INSN_H

#include "kernel/base.h"

enum vmx_result { VMX_OK, VMX_FAIL_INVALID, VMX_FAIL_VALID };

#define VMX_POINTER_INSN(name)                                                                                         \
    MUST_CHECK static inline enum vmx_result insn_##name(hpa_t pointer)                                                \
    {                                                                                                                  \
        bool carry, zero;                                                                                              \
        __asm__ volatile(#name " %2" : "=@ccc"(carry), "=@ccz"(zero) : "m"(pointer) : "memory");                       \
        return carry ? VMX_FAIL_INVALID : zero ? VMX_FAIL_VALID : VMX_OK;                                              \
    }
VMX_POINTER_INSN(vmxon)
VMX_POINTER_INSN(vmclear)
VMX_POINTER_INSN(vmptrld)
#undef VMX_POINTER_INSN

/* Descriptor of INVEPT and INVVPID. */
struct invalidate_descriptor {
    uint64_t context; /* EPTP, or VPID */
    uint64_t address;
};

#define INVEPT_SINGLE 1u
#define INVEPT_ALL 2u
#define INVVPID_ADDRESS 0u
#define INVVPID_SINGLE 1u
#define INVVPID_ALL 2u
#define INVVPID_SINGLE_NONGLOBAL 3u

#define VMX_INVALIDATE_INSN(name)                                                                                      \
    MUST_CHECK static inline enum vmx_result insn_##name(uint64_t type, struct invalidate_descriptor descriptor)       \
    {                                                                                                                  \
        bool carry, zero;                                                                                              \
        __asm__ volatile(#name " %2, %3" : "=@ccc"(carry), "=@ccz"(zero) : "m"(descriptor), "r"(type) : "memory");     \
        return carry ? VMX_FAIL_INVALID : zero ? VMX_FAIL_VALID : VMX_OK;                                              \
    }
VMX_INVALIDATE_INSN(invept)
VMX_INVALIDATE_INSN(invvpid)
#undef VMX_INVALIDATE_INSN

#endif
