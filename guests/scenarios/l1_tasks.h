/* The tasks that scenarios of task switches use: a main task (what legacy_run() calls), one to switch to, one that
 * handles an event, and a 16-bit one; what they saw is recorded.
 * tasks_reset() first; scenarios of task switches only. */
#ifndef GUESTS_SCENARIOS_L1_TASKS_H
#define GUESTS_SCENARIOS_L1_TASKS_H

#include "guests/scenarios/l1_legacy.h"
#include "guests/scenarios/scenario.h"

/* The act of a task once it has recorded what it found; numbered as in l1_tasks.asm. */
enum { ACTION_END, ACTION_IRET, ACTION_JMP, ACTION_NMI_IRET };

#define GATE_TASK 0x85
#define GATE_TASK_DPL3 0xe5
#define EFLAGS_NT BIT(14)
#define EFLAGS_RF BIT(16)
#define EFLAGS_VM BIT(17)
#define EFLAGS_TASK 0x46 /* of a new task: ZF, PF and the fixed bit */
#define TASK_STACK_SIZE 1024

struct task_registers {
    uint32_t eax, ecx, edx, ebx, esp, ebp, esi, edi, eflags;
    uint32_t es, cs, ss, ds, fs, gs, ldt, tr;
    uint32_t cr0, cr3, dr7;
    uint32_t count;       /* how often it came here */
    uint32_t window;      /* the word at task_window */
    uint32_t nmi_blocked; /* ACTION_NMI_IRET: the NMI did not come before the IRET */
};
struct far_pointer {
    uint32_t offset; /* means nothing for a task */
    uint16_t selector;
} PACKED;

/* The findings of a task, and those of the main task when it went on. */
extern struct task_registers task_seen, task_after;
extern uint32_t task_action;
extern uint32_t task_skip;                     /* added to the EIP in the main TSS: steps over what faulted */
extern uint32_t task_window;                   /* where a task reads a word; 0: nowhere */
extern struct far_pointer task_far, task_back; /* of the main task's switch, and of ACTION_JMP */

extern struct tss32 task_tss, handler_tss;
extern struct tss16 task_tss16;
extern uint8_t task_stack[TASK_STACK_SIZE], handler_stack[TASK_STACK_SIZE];

void task_entry(void);
void task_user(void);      /* INT of L_VECTOR_USER */
void task_user_call(void); /* a far call to task_far before it */
extern const uint8_t task_v86[], task_v86_end[];
/* Code of the main task, for legacy_run(): known registers, then a switch. main_X_at is the switching instruction,
 * main_X_back the one behind it. */
#define SWITCHER(name)                                                                                                 \
    void main_##name(void);                                                                                            \
    extern const uint8_t main_##name##_at[], main_##name##_back[];
SWITCHER(jmp)
SWITCHER(jmp_user)
SWITCHER(call)
SWITCHER(int80)
SWITCHER(int3)
SWITCHER(int1)
SWITCHER(into)
SWITCHER(ud)
SWITCHER(gp)
SWITCHER(pf)
SWITCHER(ipi)
SWITCHER(nmi)
SWITCHER(debug)

static inline uint32_t address_of(const void *p)
{
    return (uint32_t)(uint64_t)p;
}

void tasks_reset(void);
/* Makes the TSSs anew, with the environment's CR3: once its paging is set. */
void tasks_make(void);
void task_add_tss(unsigned selector, const void *tss, uint32_t size, unsigned access);
bool task_is_busy(unsigned selector);
void task_set_gate(unsigned vector, unsigned type); /* to L_HANDLER */
uint32_t task_error_code(void);                     /* on the handler's stack */
/* The excursion ended without a trap. */
void check_no_trap(void);
/* task_seen, or what is given, has the known values. */
void check_task_registers(void);
void check_main_registers(const struct task_registers *regs);

#endif
