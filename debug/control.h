/* How a guest runs under gdb: until a breakpoint, for one instruction, or until gdb calls.
 * On the one processor that Nestor runs with the option gdb=. What an entry changes in the VMCS and the debug
 * registers, the exit puts back before anybody looks.
 * vmx/run calls its hooks; debug/stub says what gdb wants. */
#ifndef DEBUG_CONTROL_H
#define DEBUG_CONTROL_H

#include "debug/breakpoints.h"
#include "debug/commands.h"
#include "vmx/vcpu.h"

enum debug_stop { STOP_NONE, STOP_STEP, STOP_BREAKPOINT, STOP_HARD_BREAKPOINT };

/* The wishes of gdb, for all levels; debug/stub writes it while the guest stands. */
struct debug_control {
    struct breakpoints breakpoints;
    enum debug_level only; /* the level that breakpoints are about; 0: L1 and L2 */
    enum debug_level step; /* the level whose next instruction is the last; 0: none */
};
extern struct debug_control debug_control;

/* True if the CPU can come back after an instruction; without it there are no breakpoints and no steps. */
bool control_can_step(const struct vcpu *vcpu);
/* The guest is about to go on from where gdb saw it. Current: the VMCS to enter. */
void control_resume(const struct vcpu *vcpu);
/* True if it stops instead of entering. Current: the same. */
enum debug_stop control_look(const struct vcpu *vcpu);
/* Makes the entry such that it comes back. `calls`: gdb may call meanwhile. Current: the same. */
void control_arm(struct vcpu *vcpu, bool calls);
/* The hooks debug_disarm and debug_exit of vmx/hooks.h. */
void control_disarm(struct vcpu *vcpu);
bool control_exit(struct vcpu *vcpu);

#endif
