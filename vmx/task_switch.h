/* The hardware task switch, which the CPU leaves to the hypervisor in VMX non-root operation (SDM 3C 26.4.2 "Treatment
 * of Task Switches"). Pure except for the memory behind the callbacks: from one register state to the next, through the
 * two TSSs and the descriptor tables, as SDM 3A 8.3 "Task Switching" says.
 * vmx/task_switch_exit.c acts it out. */
#ifndef VMX_TASK_SWITCH_H
#define VMX_TASK_SWITCH_H

#include "vmx/operand.h"

/* As the exit qualification numbers them. SDM 3C table "Exit Qualification for Task Switches" */
enum task_source { TASK_CALL, TASK_IRET, TASK_JMP, TASK_GATE };

/* In the order of the VMCS fields. */
enum task_segment { TASK_ES, TASK_CS, TASK_SS, TASK_DS, TASK_FS, TASK_GS, TASK_LDTR, TASK_TR, TASK_SEGMENTS };

/* The registers that a TSS holds, and the tables in which its selectors count. */
struct task_state {
    uint32_t gpr[8]; /* by register number, ESP among them */
    uint32_t eip;    /* of the old task: where it goes on */
    uint32_t eflags, cr3;
    struct segment segment[TASK_SEGMENTS];
    uint32_t gdt_base;
    uint16_t gdt_limit;
    bool paging;
};

struct task_request {
    enum task_source source;
    uint16_t selector;   /* of the new TSS */
    bool external;       /* faults get the EXT bit: an event from outside the program is being delivered */
    bool has_error_code; /* of that event, for the new task's stack */
    uint32_t error_code;
};

struct task_memory {
    /* Linear memory as the processor itself reads and writes it, or (user) as code at CPL 3 writes it. False and *fault
     * for #PF, when nothing was written. */
    bool (*read)(void *context, uint32_t gva, void *buffer, unsigned len, struct fault *fault);
    bool (*write)(void *context, uint32_t gva, const void *buffer, unsigned len, bool user, struct fault *fault);
    /* Changes CR3 for the accesses that follow. False: reserved bits in a PDPTE. */
    bool (*load_cr3)(void *context, uint32_t cr3);
    void *context;
};

enum task_outcome {
    TASK_REFUSED,    /* *fault is the old task's; *state is as it was */
    TASK_FAULTED,    /* *state is the new task's and may be entered, with *fault before its first instruction */
    TASK_DONE,       /* *state is the new task's */
    TASK_DEBUG_TRAP, /* and its TSS asks for a debug trap (T flag) before its first instruction */
};
enum task_outcome task_switch(struct task_state *state, const struct task_request *request,
                              const struct task_memory *memory, struct fault *fault);

/* The exception to deliver when `second` comes up while `first` is being delivered: `second`, #DF, or FAULT_NONE for
 * shutdown. SDM 3A 6.15 "Interrupt 8—Double Fault Exception (#DF)" */
unsigned fault_combine(unsigned first, unsigned second);

#endif
