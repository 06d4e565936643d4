/* The handlers of the exits that L0 answers itself, by basic exit reason (vmx/exit_handlers.c has the table).
 * Current: the VMCS that exited: vmcs01, or vmcs02 for an exit of L2 that is L0's.
 * vmx/run.c calls them through the table; nested/ replaces the rows of the VMX instructions. */
#ifndef VMX_EXIT_HANDLERS_H
#define VMX_EXIT_HANDLERS_H

#include "vmx/run.h"

typedef void (*exit_handler_fn)(struct vcpu *vcpu);
/* By basic exit reason; exits of L1, and those of L2 that are L0's. nested/ registers the VMX instructions. */
extern exit_handler_fn exit_handlers[EXIT_REASON_COUNT];

void exit_cpuid_filtered(struct vcpu *vcpu); /* exit.c; right for every leaf */
void exit_cr_access(struct vcpu *vcpu);      /* exit_cr.c */
void exit_io(struct vcpu *vcpu);             /* exit_io.c */
void exit_rdmsr(struct vcpu *vcpu);          /* exit_msr.c */
void exit_wrmsr(struct vcpu *vcpu);          /* exit_msr.c */
void exit_rdmsr_immediate(struct vcpu *vcpu);
void exit_wrmsrns_immediate(struct vcpu *vcpu);
void exit_rdmsrlist(struct vcpu *vcpu); /* one entry */
void exit_wrmsrlist(struct vcpu *vcpu);
void exit_ept_violation(struct vcpu *vcpu); /* exit_ept.c; of EPT01 */
void exit_ept_misconfig(struct vcpu *vcpu); /* exit_ept.c */
void exit_task_switch(struct vcpu *vcpu);   /* task_switch_exit.c */

/* After an exit was read: of an immediate form vcpu->exit says what the SDM prescribes, whatever the CPU did. */
void exit_settle_msr(struct vcpu *vcpu);
/* Reads the next entry of the list of RDMSRLIST or WRMSRLIST into vcpu->exit.msr and msr_data, once an exit: who
 * decides and who acts see the same. False: the guest gets the fault that is queued, or vcpu->l2_unmapped is set. */
MUST_CHECK bool exit_list_find(struct vcpu *vcpu);

/* The cause of an exit: an instruction, which did nothing yet, or something else; of a reason that the list does not
 * have, an instruction is assumed. Pure. */
enum exit_cause { EXIT_CAUSE_INSTRUCTION, EXIT_CAUSE_EVENT };
enum exit_cause exit_cause(uint32_t reason);
/* An exit that nobody asked for: #UD for an instruction, nothing for an event; and a line in the log, once a reason. */
void exit_unasked(struct vcpu *vcpu);
/* The handler of a basic exit reason; exit_unasked() when there is none. */
exit_handler_fn exit_handler_of(uint32_t reason);

#endif
