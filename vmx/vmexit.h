/* General registers by number, and what an exit said, as a snapshot that decisions read.
 * Pure. vmx/run fills it from the VMCS that exited.
 * vmx/ and nested/ read it. */
#ifndef VMX_VMEXIT_H
#define VMX_VMEXIT_H

#include "kernel/base.h"

/* General registers in the order in which instructions number them. */
enum gpr { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15, GPR_COUNT };

/* An exit's information fields, read once from the current VMCS (vmcs01 or vmcs02). SDM 3C 25.9 "VM-Exit Information
 * Fields". Members beyond rip are read when the reason's row asks for them; events that were not are 0. */
struct vmexit {
    uint32_t reason;    /* basic reason, bits 15:0 */
    bool entry_failure; /* bit 31 of the field */
    bool changed;       /* it is no longer what the hardware said: nested/ made another exit of it */
    uint64_t rip;       /* GUEST_RIP as the exit left it */
    uint32_t interruption_info, interruption_error_code;
    uint32_t idt_vectoring_info, idt_vectoring_error_code;
    uint32_t instruction_length, instruction_info;
    uint64_t qualification, guest_linear_address;
    gpa_t guest_physical_address; /* gpa1 of an exit of L1, gpa2 of one of L2 */
    /* Of the newer accesses to MSRs: which, and what WRMSRLIST would write. Of a list they are the next entry's, once
     * exit_list_find() has read it. */
    uint32_t msr;
    bool list_known;
    uint64_t msr_data;
};

#endif
