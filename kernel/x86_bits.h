/* The bits of the control registers, RFLAGS, page-fault error codes and paging entries, and the vectors, in
 * the SDM's names.
 * Pure: no instruction, no state; the rules here are those that more than one folder needs.
 * Anyone may include it. */
#ifndef KERNEL_X86_BITS_H
#define KERNEL_X86_BITS_H

#include "kernel/base.h"

#define CR0_PE BIT(0)
#define CR0_MP BIT(1)
#define CR0_EM BIT(2)
#define CR0_TS BIT(3)
#define CR0_ET BIT(4)
#define CR0_NE BIT(5)
#define CR0_WP BIT(16)
#define CR0_AM BIT(18)
#define CR0_NW BIT(29)
#define CR0_CD BIT(30)
#define CR0_PG BIT(31)

#define CR4_DE BIT(3)
#define CR4_PSE BIT(4)
#define CR4_PAE BIT(5)
#define CR4_MCE BIT(6)
#define CR4_PGE BIT(7)
#define CR4_OSFXSR BIT(9)
#define CR4_UMIP BIT(11)
#define CR4_LA57 BIT(12)
#define CR4_VMXE BIT(13)
#define CR4_SMXE BIT(14)
#define CR4_PCIDE BIT(17)
#define CR4_OSXSAVE BIT(18)
#define CR4_KL BIT(19)
#define CR4_SMEP BIT(20)
#define CR4_SMAP BIT(21)
#define CR4_PKE BIT(22)
#define CR4_CET BIT(23)
#define CR4_PKS BIT(24)
#define CR4_LASS BIT(27)
#define CR4_LAM_SUP BIT(28)
#define CR4_FRED BIT(32)
#define CR3_LAM_U57 BIT(61)
#define CR3_LAM_U48 BIT(62)

/* SDM 3B 18.2.3 "Debug Status Register (DR6)", 18.2.4 "Debug Control Register (DR7)" */
#define DR6_BREAKPOINTS BITS(3, 0)
#define DR6_BD BIT(13)
#define DR6_BS BIT(14)
#define DR7_ENABLED BITS(7, 0) /* L0, G0 .. L3, G3 */
#define DR7_GD BIT(13)

#define RFLAGS_CF BIT(0)
#define RFLAGS_FIXED1 BIT(1)
#define RFLAGS_PF BIT(2)
#define RFLAGS_AF BIT(4)
#define RFLAGS_ZF BIT(6)
#define RFLAGS_SF BIT(7)
#define RFLAGS_TF BIT(8)
#define RFLAGS_IF BIT(9)
#define RFLAGS_OF BIT(11)
#define RFLAGS_NT BIT(14)
#define RFLAGS_RF BIT(16)
#define RFLAGS_VM BIT(17)
#define RFLAGS_AC BIT(18)
#define RFLAGS_ARITHMETIC (RFLAGS_CF | RFLAGS_PF | RFLAGS_AF | RFLAGS_ZF | RFLAGS_SF | RFLAGS_OF)

#define VECTOR_DE 0
#define VECTOR_DB 1
#define VECTOR_NMI 2
#define VECTOR_BP 3
#define VECTOR_OF 4
#define VECTOR_UD 6
#define VECTOR_NM 7
#define VECTOR_DF 8
#define VECTOR_TS 10
#define VECTOR_NP 11
#define VECTOR_SS 12
#define VECTOR_GP 13
#define VECTOR_PF 14
#define VECTOR_AC 17
#define VECTOR_MC 18
#define VECTOR_VE 20
#define VECTOR_CP 21

#define PF_PRESENT BIT(0)
#define PF_WRITE BIT(1)
#define PF_USER BIT(2)
#define PF_RESERVED BIT(3)
#define PF_FETCH BIT(4)

#define PTE_P BIT(0)
#define PTE_W BIT(1)
#define PTE_U BIT(2)
#define PTE_A BIT(5)
#define PTE_D BIT(6)
#define PTE_PS BIT(7)
#define PTE_NX BIT(63)

/* True if all bits above the linear-address width (48, or 57 with CR4.LA57) equal the highest below it. SDM 1 3.3.7.1
 * "Canonical Addressing" */
static inline bool x86_is_canonical(uint64_t address, unsigned linear_bits)
{
    unsigned unused = 64 - linear_bits;
    return (uint64_t)((int64_t)(address << unused) >> unused) == address;
}

/* True if IA32_PAT takes the value: each byte is a memory type, 0, 1 or 4 to 7. SDM 3A 12.12.2 "IA32_PAT MSR" */
static inline bool x86_is_pat(uint64_t value)
{
    for (unsigned i = 0; i < 8; i++, value >>= 8)
        if ((value & 0xff) > 7 || (value & 0xff) == 2 || (value & 0xff) == 3)
            return false;
    return true;
}

/* True if a guest pages by PAE: by four PDPTEs that the processor holds. SDM 3A 4.4.2
 * "Linear-Address Translation with PAE Paging" */
static inline bool x86_uses_pae(uint64_t cr0, uint64_t cr4, bool ia32e_mode)
{
    return (cr0 & CR0_PG) && (cr4 & CR4_PAE) && !ia32e_mode;
}

#endif
