/* One L2: a VMCS with a valid 64-bit guest that shares L1's address space, and the loop that runs it.
 * vmx_start() first. A VM is made by vm_create(), changed with vmx_set() (it is current then) and run by vm_run(). */
#ifndef GUESTS_LIB_VM_H
#define GUESTS_LIB_VM_H

#include "guests/lib/check.h"
#include "guests/lib/vmx.h"

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15 };

#define L2_DONE 0x600d /* in RAX of the VMCALL that ends L2's code; also in vm_enter.asm */

struct vm_exit {
    uint32_t reason; /* with bit 31 */
    uint32_t length, info;
    uint32_t intr_info, intr_error, idt_info, idt_error;
    uint64_t qualification, gla, gpa;
};

struct vm {
    uint64_t regs[16]; /* by register number; RSP is in the VMCS */
    uint64_t vmcs;
    bool launched;
    uint64_t *ept; /* NULL: L2 runs without EPT */
    uint8_t *msr_bitmap;
    struct vm_exit exit;
};

/* Options of vm_create(). */
#define VM_EPT BIT(0)
#define VM_NO_EPT BIT(1)
/* True if a VM made with neither of them gets EPT. */
extern bool vm_default_ept;
/* If set, vm_create() ends with it: the VMCS is current. */
extern void (*vm_also)(struct vm *);

void vm_create(struct vm *, void (*code)(void), unsigned options);
/* vmx_start(), and the first VM. */
static inline void vm_start(struct vm *vm, void (*code)(void), unsigned options)
{
    vmx_start();
    vm_create(vm, code, options);
}
/* Starts other code in an existing VM, with a fresh stack. */
void vm_set_code(struct vm *, void (*code)(void));
/* Makes its VMCS current. */
void vm_load(struct vm *);
/* VMCLEAR; the next entry is a VMLAUNCH again. */
void vm_clear(struct vm *);
/* One entry: 0 when an exit came back (also one that reports a failed entry), else as the VMX instructions. */
MUST_CHECK int vm_enter(struct vm *);
/* The same of one that was launched, with STI as the instruction before VMRESUME. One that fails leaves RFLAGS.IF
 * set. */
MUST_CHECK int vm_enter_after_sti(struct vm *);
/* The bare entry, with all general registers: 0 after an exit to vm_exit_point, the HOST_RIP that it needs;
 * 1 VMfailInvalid, 2 VMfailValid. */
int vm_enter_raw(uint64_t *regs, unsigned how);
extern uint8_t vm_exit_point[];
/* One entry that must not VMfail: the basic exit reason. */
uint16_t vm_run(struct vm *);
/* Steps over the instruction that exited. */
void vm_skip(struct vm *);
/* Adds or removes bits of a control field of the current VMCS. */
void vm_control_set(enum vmcs_field controls, uint32_t bits);
void vm_control_clear(enum vmcs_field controls, uint32_t bits);
bool vm_control_offered(enum vmcs_field controls, uint32_t bits);
/* Turns on secondary controls of the current VMCS. */
void vm_secondary_set(uint32_t bits);
/* True if code runs as L2 at the moment: for the trap handler. */
bool vm_in_l2(void);
/* From L2's trap handler: tells L1 that L2 took a fault that nobody expected. */
void vm_report_l2_fault(const struct trap_frame *) NORETURN;

void vm_expect(struct vm *, uint16_t reason, const char *file, int line);
/* Runs L2 and requires this exit. */
#define EXPECT_EXIT(vm, reason) vm_expect(vm, reason, __FILE__, __LINE__)
/* Requires this exit and steps over its instruction. */
#define EXPECT_EXIT_SKIP(vm, reason) (vm_expect(vm, reason, __FILE__, __LINE__), vm_skip(vm))
/* Requires that L2's code comes to its end without another exit. */
#define EXPECT_DONE(vm) vm_expect_done(vm, __FILE__, __LINE__)
void vm_expect_done(struct vm *, const char *file, int line);

#endif
