/* The table of exits that L0 handles itself, and the handlers too short for a file of their own. */
#include "vmx/exit_handlers.h"

#include "kernel/msr.h"
#include "kernel/panic.h"
#include "kernel/safe.h"
#include "kernel/x86.h"
#include "vmx/cpuid_policy.h"
#include "vmx/cr.h"
#include "vmx/dump.h"
#include "vmx/event.h"
#include "vmx/msr_guest.h"
#include "vmx/operand.h"
#include "vmx/refusal.h"
#include "vmx/run.h"
#include "vmx/shutdown.h"
#include "vmx/skip.h"
#include "vmx/startup.h"
#include "vmx/vmcs_setup.h"

/* CPUID as the CPU answers it, less what L1 shall not see. Two inputs that change are read now: CR4 and whether L1 has
 * its APIC on. */
void exit_cpuid_filtered(struct vcpu *vcpu)
{
    EXPECT_GUEST(vcpu);
    uint32_t leaf = (uint32_t)vcpu->regs[RAX], subleaf = (uint32_t)vcpu->regs[RCX];
    struct cpuid_result result = cpuid(leaf, subleaf);
    struct cpuid_context context = vcpu->vm->cpuid;
    context.cr4 = cr_read_cr4();
    context.apic_off = vcpu_apic_is_off(vcpu);
    cpuid_filter(leaf, subleaf, &context, &result);
    vcpu->regs[RAX] = result.eax;
    vcpu->regs[RBX] = result.ebx;
    vcpu->regs[RCX] = result.ecx;
    vcpu->regs[RDX] = result.edx;
    vcpu_skip_instruction(vcpu);
}

/* XSETBV exits unconditionally. The CPU itself judges the value, as Nestor executes the instruction for the guest: XCR0
 * is not switched by entries and exits. SDM 2C "XSETBV" */
static void exit_xsetbv(struct vcpu *vcpu)
{
    uint64_t value = vcpu->regs[RDX] << 32 | (uint32_t)vcpu->regs[RAX];
    /* The fault should come before the exit; Bochs has it the other way round. */
    if (operand_cpl() || !xsetbv_safe((uint32_t)vcpu->regs[RCX], value)) {
        refusal_log(vcpu, REFUSAL_XSETBV, (uint32_t)vcpu->regs[RCX], value);
        event_inject_gp(vcpu, 0);
        return;
    }
    vcpu_skip_instruction(vcpu);
}

/* INVD would throw away what Nestor wrote; writing back first is the behaviour that no program can tell from a cache
 * that had written back just before. SDM 2A "INVD" */
static void exit_invd(struct vcpu *vcpu)
{
    cpu_wbinvd();
    vcpu_skip_instruction(vcpu);
}

/* Instructions that the CPU of L1 does not have, and VMX instructions while nested/ has not registered its own
 * handlers. */
static void exit_undefined(struct vcpu *vcpu)
{
    refusal_log(vcpu, REFUSAL_NOT_IN_CPU, 0, 0);
    event_inject_ud(vcpu);
}

/* Nestor asks for no exceptions: one that exits all the same is the guest's, as it came. */
static void give_back_exception(struct vcpu *vcpu)
{
    exit_unasked(vcpu);
    vcpu->inject_info = vcpu->exit.interruption_info & ~(uint32_t)INTR_NMI_UNBLOCKING;
    vcpu->inject_error_code = vcpu->exit.interruption_error_code;
    vcpu->inject_length = vcpu->exit.instruction_length;
    vcpu->inject_is_fault = GET(vcpu->inject_info, INTR_VECTOR) == VECTOR_PF;
    vcpu->inject_address = vcpu->exit.qualification; /* of a #PF */
}

/* The NMI is for the guest, like one that meets Nestor itself. NMIs are blocked now until an IRET. SDM 3C 28.5.5
 * "Updating Non-Register State" */
static void exit_exception_nmi(struct vcpu *vcpu)
{
    if (GET(vcpu->exit.interruption_info, INTR_TYPE) != INTR_TYPE_NMI) {
        give_back_exception(vcpu);
        return;
    }
    vcpu->cpu->nmi_seen = true;
    vmx_unblock_nmi();
}

static void exit_nmi_window(struct vcpu *vcpu)
{
    (void)vcpu; /* event_prepare() injects the NMI now that nothing blocks it */
}

/* A CPU would shut down, and most machines reset then. The end of the run says more. */
static void exit_triple_fault(struct vcpu *vcpu)
{
    shutdown_explain(vcpu);
    dump_and_end(vcpu, "L1 shut down by a triple fault");
}

/* A reason without a row is one that nobody asked for. nested/nested.c puts its handlers in at its start. */
exit_handler_fn exit_handlers[EXIT_REASON_COUNT] = {
    [EXIT_EXCEPTION_NMI] = exit_exception_nmi,
    [EXIT_TRIPLE_FAULT] = exit_triple_fault,
    [EXIT_INIT] = exit_init,
    [EXIT_SIPI] = exit_sipi,
    [EXIT_NMI_WINDOW] = exit_nmi_window,
    [EXIT_TASK_SWITCH] = exit_task_switch,
    [EXIT_CPUID] = exit_cpuid_filtered,
    [EXIT_GETSEC] = exit_undefined,
    [EXIT_INVD] = exit_invd,
    [EXIT_VMCALL] = exit_undefined,
    [EXIT_VMCLEAR] = exit_undefined,
    [EXIT_VMLAUNCH] = exit_undefined,
    [EXIT_VMPTRLD] = exit_undefined,
    [EXIT_VMPTRST] = exit_undefined,
    [EXIT_VMREAD] = exit_undefined,
    [EXIT_VMRESUME] = exit_undefined,
    [EXIT_VMWRITE] = exit_undefined,
    [EXIT_VMXOFF] = exit_undefined,
    [EXIT_VMXON] = exit_undefined,
    [EXIT_INVEPT] = exit_undefined,
    [EXIT_INVVPID] = exit_undefined,
    [EXIT_VMFUNC] = exit_undefined,
    [EXIT_CR_ACCESS] = exit_cr_access,
    [EXIT_IO] = exit_io,
    [EXIT_RDMSR] = exit_rdmsr,
    [EXIT_WRMSR] = exit_wrmsr,
    [EXIT_RDMSRLIST] = exit_rdmsrlist,
    [EXIT_WRMSRLIST] = exit_wrmsrlist,
    [EXIT_RDMSR_IMMEDIATE] = exit_rdmsr_immediate,
    [EXIT_WRMSRNS_IMMEDIATE] = exit_wrmsrns_immediate,
    [EXIT_EPT_VIOLATION] = exit_ept_violation,
    [EXIT_EPT_MISCONFIG] = exit_ept_misconfig,
    [EXIT_XSETBV] = exit_xsetbv,
};

exit_handler_fn exit_handler_of(uint32_t reason)
{
    return reason < EXIT_REASON_COUNT && exit_handlers[reason] ? exit_handlers[reason] : exit_unasked;
}
