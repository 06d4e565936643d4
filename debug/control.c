/* Each entry is armed anew and each exit puts all back, so that no other code ever sees a debugger. An instruction that
 * accesses the debug registers themselves is let run alone, with the guest's own in them. */
#include "debug/control.h"

#include "debug/level.h"
#include "kernel/msr.h"
#include "kernel/x86.h"
#include "vmx/step.h"
#include "vmx/vmx_bits.h"

/* Ticks after which a guest that makes no exits comes back, so that gdb's Ctrl-C is seen. */
#define CALL_TICKS (1u << 24)

#define QUALIFICATION_DEBUG (DR6_BREAKPOINTS | DR6_BD | DR6_BS)

struct debug_control debug_control;

static bool moved;        /* an instruction has completed since gdb saw the guest last ... */
static uint64_t seen_rip; /* ... there ... */
static enum debug_level seen_level;
static bool accesses_registers; /* the next instruction is MOV DR */

/* All that the last entry changed, as it was. */
static struct {
    enum debug_way way;
    bool timer, shadowed;
    uint32_t proc, pin, exceptions, timer_value;
    uint64_t dr7, address[4];
} before;

bool control_can_step(const struct vcpu *vcpu)
{
    return vcpu->vm->caps.proc.may & PROC_MONITOR_TRAP;
}

void control_resume(const struct vcpu *vcpu)
{
    moved = false;
    seen_level = level_running(vcpu);
    seen_rip = level_next();
}

static bool concerns(enum debug_level level)
{
    return !debug_control.only || debug_control.only == level;
}

enum debug_stop control_look(const struct vcpu *vcpu)
{
    const struct breakpoints *list = &debug_control.breakpoints;
    enum debug_level level = level_running(vcpu);
    uint64_t at = level_next();
    bool here = !moved && level == seen_level && at == seen_rip;

    if (debug_control.step == level && !here)
        return STOP_STEP;
    unsigned i = breakpoints_find(list, at);
    if (here || i == list->count || !concerns(level))
        return STOP_NONE;
    return list->hard[i] ? STOP_HARD_BREAKPOINT : STOP_BREAKPOINT;
}

/* Interrupts wait for one instruction, as behind STI: else a step would end in a handler nearly always, since time goes
 * on while the guest stands. */
static void hold_interrupts(const struct vcpu *vcpu)
{
    before.shadowed = !(vmcs_read(ENTRY_INTERRUPTION_INFO) & INTR_VALID) && !vmcs_read(GUEST_INTERRUPTIBILITY) &&
                      !vmcs_read(GUEST_ACTIVITY_STATE) && (vmcs_read(GUEST_RFLAGS) & RFLAGS_IF) &&
                      debug_control.step == level_running(vcpu);
    if (before.shadowed)
        vmcs_write(GUEST_INTERRUPTIBILITY, (uint32_t)BLOCKING_BY_STI);
}

static void arm_registers(void)
{
    uint64_t address[4];
    unsigned count = debug_control.breakpoints.count;

    before.exceptions = vmcs_read(EXCEPTION_BITMAP);
    before.dr7 = vmcs_read(GUEST_DR7);
    read_breakpoints(before.address);
    for (unsigned i = 0; i < 4; i++)
        address[i] = i < count ? debug_control.breakpoints.address[i] : before.address[i];
    write_breakpoints(address);
    vmcs_write(GUEST_DR7, breakpoints_dr7(count));
    vmcs_write(EXCEPTION_BITMAP, (uint32_t)(before.exceptions | BIT(VECTOR_DB)));
}

/* The guest's own timer, or Nestor's, stays. */
static void arm_timer(const struct vcpu *vcpu)
{
    before.pin = vmcs_read(PIN_CONTROLS);
    before.timer = (vcpu->vm->caps.pin.may & PIN_PREEMPTION_TIMER) && !(before.pin & PIN_PREEMPTION_TIMER);
    if (!before.timer)
        return;
    before.timer_value = vmcs_read(PREEMPTION_TIMER);
    vmcs_write(PIN_CONTROLS, (uint32_t)(before.pin | PIN_PREEMPTION_TIMER));
    vmcs_write(PREEMPTION_TIMER, MAX(CALL_TICKS >> GET(vcpu->vm->caps.misc, VMX_MISC_TIMER_RATE), 1u));
}

void control_arm(struct vcpu *vcpu, bool calls)
{
    enum debug_level level = level_running(vcpu);
    const struct debug_start start = {
        .at = level_next(),
        .dr7 = vmcs_read(GUEST_DR7),
        .rflags = vmcs_read(GUEST_RFLAGS),
        .pending = vmcs_read(GUEST_PENDING_DEBUG),
        .steps = debug_control.step == level,
        .concerned = concerns(level),
        .accesses_registers = accesses_registers,
    };

    accesses_registers = false;
    before.way = control_can_step(vcpu) ? debug_way(&debug_control.breakpoints, &start) : WAY_FREE;
    before.proc = vmcs_read(PROC_CONTROLS);
    before.timer = before.shadowed = false;
    if (before.way == WAY_TRAP) {
        vmcs_write(PROC_CONTROLS, (uint32_t)(before.proc | PROC_MONITOR_TRAP));
        hold_interrupts(vcpu);
    } else if (before.way == WAY_REGISTERS) {
        vmcs_write(PROC_CONTROLS, (uint32_t)(before.proc | PROC_MOV_DR));
        arm_registers();
    }
    if (calls && before.way != WAY_TRAP)
        arm_timer(vcpu);
    if (before.way != WAY_FREE || before.timer)
        vcpu->step.active |= STEP_DEBUG;
}

void control_disarm(struct vcpu *vcpu)
{
    vcpu->step.active &= (uint8_t)~STEP_DEBUG;
    if (before.way != WAY_FREE)
        vmcs_write(PROC_CONTROLS, before.proc);
    if (before.way == WAY_REGISTERS) {
        vmcs_write(EXCEPTION_BITMAP, before.exceptions);
        vmcs_write(GUEST_DR7, before.dr7);
        write_breakpoints(before.address);
    }
    if (before.timer) {
        vmcs_write(PIN_CONTROLS, before.pin);
        vmcs_write(PREEMPTION_TIMER, before.timer_value);
    }
    /* An instruction that did not complete leaves the blocking that was made for it. */
    if (before.shadowed)
        vmcs_write(GUEST_INTERRUPTIBILITY, (uint32_t)(vmcs_read(GUEST_INTERRUPTIBILITY) & ~BLOCKING_BY_STI));
}

/* A debug exception of the guest's own, which nobody else intercepts. The exit has not changed the registers as the
 * exception does. SDM 3C 28.1 "Architectural State Before a VM Exit" */
static void give_back(struct vcpu *vcpu)
{
    write_dr6((read_dr6() & ~DR6_BREAKPOINTS) | (vcpu->exit.qualification & QUALIFICATION_DEBUG));
    vmcs_write(GUEST_DEBUGCTL, vmcs_read(GUEST_DEBUGCTL) & ~(uint64_t)DEBUGCTL_LBR);
    vcpu->inject_info = vcpu->exit.interruption_info & ~(uint32_t)INTR_NMI_UNBLOCKING;
    vcpu->inject_length = vcpu->exit.instruction_length;
    vcpu->inject_is_fault = false;
}

static bool exception_is_own(struct vcpu *vcpu)
{
    uint32_t info = vcpu->exit.interruption_info;

    if (before.way != WAY_REGISTERS || GET(info, INTR_VECTOR) != VECTOR_DB || GET(info, INTR_TYPE) == INTR_TYPE_NMI)
        return false;
    if (GET(info, INTR_TYPE) == INTR_TYPE_HARD_EXCEPTION && (vcpu->exit.qualification & DR6_BREAKPOINTS))
        return true;
    if (before.exceptions & BIT(VECTOR_DB))
        return false; /* L1 wants it of its L2 */
    give_back(vcpu);
    return true;
}

bool control_exit(struct vcpu *vcpu)
{
    control_disarm(vcpu);
    switch (vcpu->exit.reason) {
    case EXIT_MONITOR_TRAP:
        moved = true;
        return before.way == WAY_TRAP && !(before.proc & PROC_MONITOR_TRAP);
    case EXIT_EXCEPTION_NMI:
        return exception_is_own(vcpu);
    case EXIT_MOV_DR:
        accesses_registers = before.way == WAY_REGISTERS && !(before.proc & PROC_MOV_DR);
        return accesses_registers;
    case EXIT_PREEMPTION_TIMER:
        return before.timer;
    default:
        return false;
    }
}
