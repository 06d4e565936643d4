/* The registers are read from the current VMCS, so that a dump must come before another VMCS is made current. The
 * order of the lines is fixed: dumps of two runs can be compared by diff. */
#include "vmx/dump.h"

#include "kernel/log.h"
#include "kernel/panic.h"
#include "kernel/trace.h"
#include "vmx/exit_names.h"

/* One line of a segment register. */
static void dump_segment(const char *name, uint64_t selector, uint64_t base, uint64_t limit, uint64_t access)
{
    log_raw("  %s selector=%04lx base=%016lx limit=%08lx access=%05lx", name, selector, base, limit, access);
}

/* Four general registers a line; RSP is in the VMCS. */
static void dump_registers(const struct vcpu *vcpu)
{
    static const char *const names[GPR_COUNT] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                                 "r8 ", "r9 ", "r10", "r11", "r12", "r13", "r14", "r15"};
    for (unsigned i = 0; i < GPR_COUNT; i += 4)
        log_raw("  %s=%016lx %s=%016lx %s=%016lx %s=%016lx", names[i], i == RSP ? vmcs_read(GUEST_RSP) : vcpu->regs[i],
                names[i + 1], vcpu->regs[i + 1], names[i + 2], vcpu->regs[i + 2], names[i + 3], vcpu->regs[i + 3]);
}

void dump_exit(const struct vcpu *vcpu)
{
    const struct vmexit *exit = &vcpu->exit;
    /* One screen in a fixed order: what the CPU said of the exit, registers, segments, and the last events. */
    log_raw("%s exit %u (%s)%s qualification=%lx length=%u info=%x", vcpu->in_l2 ? "L2" : "L1", exit->reason,
            exit_reason_name(exit->reason), exit->entry_failure ? " ENTRY FAILED" : "", exit->qualification,
            exit->instruction_length, exit->instruction_info);
    log_raw("  gpa=%lx gla=%lx interruption=%x:%x idt-vectoring=%x:%x", exit->guest_physical_address,
            exit->guest_linear_address, exit->interruption_info, exit->interruption_error_code,
            exit->idt_vectoring_info, exit->idt_vectoring_error_code);
    log_raw("  rip=%016lx rflags=%lx interruptibility=%x activity=%u", vmcs_read(GUEST_RIP), vmcs_read(GUEST_RFLAGS),
            vmcs_read(GUEST_INTERRUPTIBILITY), vmcs_read(GUEST_ACTIVITY_STATE));
    dump_registers(vcpu);
    log_raw("  cr0=%lx cr3=%lx cr4=%lx efer=%lx", vmcs_read(GUEST_CR0), vmcs_read(GUEST_CR3), vmcs_read(GUEST_CR4),
            vmcs_read(GUEST_EFER));
    dump_segment("cs", vmcs_read(GUEST_CS_SELECTOR), vmcs_read(GUEST_CS_BASE), vmcs_read(GUEST_CS_LIMIT),
                 vmcs_read(GUEST_CS_AR_BYTES));
    dump_segment("ss", vmcs_read(GUEST_SS_SELECTOR), vmcs_read(GUEST_SS_BASE), vmcs_read(GUEST_SS_LIMIT),
                 vmcs_read(GUEST_SS_AR_BYTES));
    dump_segment("tr", vmcs_read(GUEST_TR_SELECTOR), vmcs_read(GUEST_TR_BASE), vmcs_read(GUEST_TR_LIMIT),
                 vmcs_read(GUEST_TR_AR_BYTES));
    log_raw("  gdt base=%lx limit=%x idt base=%lx limit=%x", vmcs_read(GUEST_GDTR_BASE), vmcs_read(GUEST_GDTR_LIMIT),
            vmcs_read(GUEST_IDTR_BASE), vmcs_read(GUEST_IDTR_LIMIT));
    trace_dump(16);
}

/* The reason comes first and last: it is what a reader looks for in a long log. */
void dump_and_end(const struct vcpu *vcpu, const char *what)
{
    log_err("vmx", "%s", what);
    dump_exit(vcpu);
    machine_end(STATUS_PANIC, "%s", what);
}
