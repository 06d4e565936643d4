/* The VMX instructions: true is VMsucceed, false VMfailInvalid or VMfailValid (SDM 3C 31.2 "Conventions").
 * The processor must be in VMX operation (except for vmxon).
 * vmx/ and nested/ use them; every result is checked. */
#ifndef VMX_VMX_INSN_H
#define VMX_VMX_INSN_H

#include "kernel/base.h"
#include "kernel/ledger.h"
#include "vmx/count.h"
#include "vmx/vmx_bits.h"

/* VMXON, VMCLEAR and VMPTRLD: the operand is the address of a region, in memory. Success is CF = 0 and ZF = 0, which is
 * the condition "above" of one output. */
#define VMX_POINTER_INSN(name, counted)                                                                                \
    MUST_CHECK static inline bool insn_##name(hpa_t pointer)                                                           \
    {                                                                                                                  \
        bool succeeded;                                                                                                \
        counted;                                                                                                       \
        __asm__ volatile(#name " %1" : "=@cca"(succeeded) : "m"(pointer) : "memory");                                  \
        return succeeded;                                                                                              \
    }
VMX_POINTER_INSN(vmxon, (void)0)
VMX_POINTER_INSN(vmclear, COUNT_INSN(VMCLEARS))
VMX_POINTER_INSN(vmptrld, COUNT_INSN(VMPTRLDS))
#undef VMX_POINTER_INSN

MUST_CHECK static inline bool insn_vmxoff(void)
{
    bool succeeded;
    __asm__ volatile("vmxoff" : "=@cca"(succeeded) : : "memory");
    return succeeded;
}

/* Descriptor of INVEPT and INVVPID. */
struct invalidate_descriptor {
    uint64_t context; /* EPTP, or VPID */
    uint64_t address;
};

/* INVEPT and INVVPID. In the CHECKED build the ledger is told which debts the instruction paid; only those from before
 * it count, hence the time is taken first. */
#define VMX_INVALIDATE_INSN(name, counted, paid)                                                                       \
    MUST_CHECK static inline bool insn_##name(uint64_t type, struct invalidate_descriptor descriptor)                  \
    {                                                                                                                  \
        uint64_t now = ledger_now();                                                                                   \
        bool succeeded;                                                                                                \
        counted;                                                                                                       \
        __asm__ volatile(#name " %1, %2" : "=@cca"(succeeded) : "m"(descriptor), "r"(type) : "memory");                \
        (void)now;                                                                                                     \
        paid;                                                                                                          \
        return succeeded;                                                                                              \
    }
VMX_INVALIDATE_INSN(invept, COUNT_INSN(INVEPTS), ledger_pay_ept(now, type == INVEPT_ALL, descriptor.context))
VMX_INVALIDATE_INSN(invvpid, COUNT_INSN(INVVPIDS),
                    ledger_pay_vpid(now, type, (unsigned)descriptor.context, descriptor.address))
#undef VMX_INVALIDATE_INSN

#endif
