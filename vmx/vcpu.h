/* One virtual processor of L1: its registers, the snapshot of its last exit, what it waits for.
 * vcpu_init() first. All of it belongs to the processor that runs it; no lock.
 * vmx/ and nested/ work on it. */
#ifndef VMX_VCPU_H
#define VMX_VCPU_H

#include "kernel/base.h"
#include "kernel/percpu.h"
#include "mm/ept.h"
#include "mm/ept_watch.h"
#include "mm/gmem.h"
#include "mm/memmap.h"
#include "vmx/caps.h"
#include "vmx/vmcs.h"

/* General registers in the order in which instructions number them. */
enum gpr { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15, GPR_COUNT };

/* What an exit said, read once from the current VMCS (vmcs01 or vmcs02). SDM 3C 25.9 "VM-Exit Information Fields".
 * Members beyond reason are read when the reason's row asks for them. */
struct vmexit {
    uint32_t reason; /* basic reason, bits 15:0 */
    bool entry_failure; /* bit 31 of the field */
    uint32_t interruption_info, interruption_error_code;
    uint32_t idt_vectoring_info, idt_vectoring_error_code;
    uint32_t instruction_length, instruction_info;
    uint64_t qualification, guest_linear_address;
    gpa_t guest_physical_address; /* gpa1 of an exit of L1, gpa2 of one of L2 */
};

/* What all virtual processors of L1 share. */
struct vm {
    struct memmap map; /* L1's view of physical memory */
    struct ept ept01;
    struct ept_watch watch;
    struct gmem gmem;
    struct vmx_caps caps;
    uint8_t *msr_bitmap;  /* L0's policy as a page; vmx/msr.c */
    uint64_t msr_policy_generation;
    uint8_t *io_bitmap_a, *io_bitmap_b; /* L0's own ports, for vmcs01; vmx/io.c */
    uint16_t pm1a_control, pm1b_control; /* ports by which L1 turns the machine off; 0: none */
};

struct nested; /* nested/nested.h */

struct vcpu {
    uint64_t regs[GPR_COUNT]; /* regs[RSP] is unused: GUEST_RSP holds it. First: entry.asm addresses it. */
    struct vm *vm;
    struct cpu *cpu;
    hpa_t vmcs01;
    struct vmexit exit;
    bool launched;     /* of the current VMCS: VMRESUME, else VMLAUNCH */
    bool in_l2;        /* vmcs02 is current and L2 runs */
    bool nmi_pending;  /* for the guest */
    uint64_t cr2_shadow; /* unused by hardware switching; kept by entry.asm only where needed */
    uint64_t ept01_generation; /* of ept01 when this processor last passed INVEPT */
    uint64_t feature_control;
    struct nested *nested;
    /* Event that the next entry of the current VMCS delivers, 0 when none: interruption-information format. */
    uint32_t inject_info, inject_error_code, inject_length;
};

#endif
