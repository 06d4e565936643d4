/* Task gates in the IDT, and switches that end in a fault. */
#include "guests/lib/cpu.h"
#include "guests/lib/irq.h"
#include "guests/scenarios/l1_tasks.h"

#define IRQ_SELF 0x41

static void check_handler(const uint8_t *eip)
{
    check_no_trap();
    CHECK_EQ(task_seen.count, 1);
    CHECK_EQ(task_seen.tr, L_HANDLER);
    CHECK_EQ(task_seen.eflags & EFLAGS_NT, EFLAGS_NT);
    CHECK_EQ(handler_tss.link, L_MAIN_TSS);
    CHECK_EQ(legacy_main_tss.eip, address_of(eip));
    CHECK(task_is_busy(L_HANDLER));
    CHECK(task_is_busy(L_MAIN_TSS));
}

/* Software interrupts and exceptions go on behind their instruction. */
static void task_gate_software(void)
{
    tasks_reset();
    task_set_gate(L_VECTOR_USER, GATE_TASK_DPL3);
    legacy_run(main_int80);
    check_handler(main_int80_back);
    CHECK_EQ(task_seen.esp, address_of(handler_stack + TASK_STACK_SIZE));
    tasks_reset();
    task_set_gate(VECTOR_BP, GATE_TASK_DPL3);
    task_action = ACTION_IRET;
    legacy_run(main_int3);
    CHECK_EQ(task_seen.tr, L_HANDLER);
    CHECK_EQ(task_after.count, 1);
    check_main_registers(&task_after);
    tasks_reset();
    task_set_gate(VECTOR_OF, GATE_TASK_DPL3);
    legacy_run(main_into);
    check_handler(main_into_back);
    tasks_reset();
    task_set_gate(VECTOR_DB, GATE_TASK);
    legacy_run(main_int1);
    check_handler(main_int1_back);
}

/* A fault returns to its instruction, with RF set. */
static void task_gate_fault(void)
{
    tasks_reset();
    task_set_gate(VECTOR_UD, GATE_TASK);
    legacy_run(main_ud);
    check_handler(main_ud_at);
    CHECK_EQ(task_seen.esp, address_of(handler_stack + TASK_STACK_SIZE));
    CHECK_EQ(legacy_main_tss.eflags & EFLAGS_RF, EFLAGS_RF);
    tasks_reset();
    task_set_gate(VECTOR_UD, GATE_TASK);
    task_action = ACTION_IRET;
    task_skip = 2;
    legacy_run(main_ud);
    check_no_trap();
    CHECK_EQ(task_after.count, 1);
    check_main_registers(&task_after);
}

static void task_gate_error_code(void)
{
    tasks_reset();
    task_set_gate(VECTOR_GP, GATE_TASK);
    legacy_run(main_gp);
    check_handler(main_gp_at);
    CHECK_EQ(task_seen.esp, address_of(handler_stack + TASK_STACK_SIZE - 4));
    CHECK_EQ(task_error_code(), 0x0ff8);
}

static void task_gate_page_fault(void)
{
    uint32_t *directory;

    tasks_reset();
    directory = legacy_tables_32bit();
    tasks_make();
    directory[0x70000000 >> 22] = 0;
    task_set_gate(VECTOR_PF, GATE_TASK);
    legacy_run(main_pf);
    check_handler(main_pf_at);
    CHECK_EQ(task_error_code(), 0);
}

/* #GP whose gate is not present: #NP while it is delivered, so #DF, whose error code is 0. */
static void task_gate_double_fault(void)
{
    tasks_reset();
    task_set_gate(VECTOR_DF, GATE_TASK);
    legacy_idt[VECTOR_GP] &= ~BIT(47);
    legacy_run(main_gp);
    check_handler(main_gp_at);
    CHECK_EQ(task_seen.esp, address_of(handler_stack + TASK_STACK_SIZE - 4));
    CHECK_EQ(task_error_code(), 0);
}

static void task_gate_interrupt(void)
{
    tasks_reset();
    task_set_gate(IRQ_SELF, GATE_TASK);
    task_action = ACTION_IRET;
    legacy_run(main_ipi);
    check_no_trap();
    CHECK_EQ(task_seen.count, 1);
    CHECK_EQ(task_seen.tr, L_HANDLER);
    CHECK_EQ(task_seen.eflags & RFLAGS_IF, 0);
    CHECK_EQ(task_after.count, 1);
    check_main_registers(&task_after);
}

/* An NMI during the handler task waits for its IRET. */
static void task_gate_nmi(void)
{
    tasks_reset();
    task_set_gate(VECTOR_NMI, GATE_TASK);
    task_action = ACTION_NMI_IRET;
    legacy_run(main_nmi);
    check_no_trap();
    CHECK_EQ(task_seen.count, 2);
    CHECK_EQ(task_seen.nmi_blocked, 1);
    CHECK_EQ(task_after.count, 1);
}

/* The CPU's own checks of the new TSS come before the exit: faults of the old task. */
static void task_bad_tss(void)
{
    static const struct {
        unsigned access, size, vector;
    } rows[] = {{0x8b, 104, VECTOR_GP}, {0x09, 104, VECTOR_NP}, {0x89, 103, VECTOR_TS}, {0x82, 104, VECTOR_GP}};

    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        tasks_reset();
        task_add_tss(L_TASK, &task_tss, rows[i].size, rows[i].access);
        legacy_run(main_jmp);
        CHECK_EQ(legacy_trap.vector, rows[i].vector);
        CHECK_EQ(legacy_trap.error, L_TASK);
        CHECK_EQ(legacy_trap.eip, address_of(main_jmp_at));
        CHECK_EQ(legacy_trap.tr, L_MAIN_TSS);
        CHECK(task_is_busy(L_MAIN_TSS));
    }
}

/* A bad segment of the new task is a fault in the new task. */
static void expect_new_task_fault(unsigned vector, unsigned error)
{
    legacy_run(main_jmp);
    CHECK_EQ(legacy_trap.vector, vector);
    CHECK_EQ(legacy_trap.error, error);
    CHECK_EQ(legacy_trap.eip, (uint64_t)task_entry);
    CHECK_EQ(legacy_trap.tr, L_TASK);
    CHECK_EQ(task_seen.count, 0);
    CHECK(task_is_busy(L_TASK));
    CHECK(!task_is_busy(L_MAIN_TSS));
}

static void task_bad_segments(void)
{
    tasks_reset();
    task_tss.cs = 0;
    expect_new_task_fault(VECTOR_TS, 0);
    tasks_reset();
    task_tss.cs = L_DATA;
    expect_new_task_fault(VECTOR_TS, L_DATA);
    tasks_reset();
    task_tss.ds = L_SCRATCH;
    legacy_set_descriptor(L_SCRATCH, 0, 0xfffff, 0x13, 0xc);
    expect_new_task_fault(VECTOR_NP, L_SCRATCH);
    tasks_reset();
    task_tss.fs = L_SCRATCH; /* code that cannot be read */
    legacy_set_descriptor(L_SCRATCH, 0, 0xfffff, 0x99, 0xc);
    expect_new_task_fault(VECTOR_TS, L_SCRATCH);
    tasks_reset();
    task_tss.gs = 0x0ff8;
    expect_new_task_fault(VECTOR_TS, 0x0ff8);
}

/* The same for the task of a gate: the error code tells whether the event came from outside the program, and a fault
 * upon a fault is a double fault. */
static void task_gate_bad_segments(void)
{
    static const struct {
        unsigned gate, type;
        void (*code)(void);
        unsigned vector, error;
    } rows[] = {
        {L_VECTOR_USER, GATE_TASK_DPL3, main_int80, VECTOR_TS, L_SCRATCH},
        {VECTOR_BP, GATE_TASK_DPL3, main_int3, VECTOR_TS, L_SCRATCH},
        {VECTOR_UD, GATE_TASK, main_ud, VECTOR_TS, L_SCRATCH | 1},
        {VECTOR_DB, GATE_TASK, main_int1, VECTOR_TS, L_SCRATCH | 1},
        {IRQ_SELF, GATE_TASK, main_ipi, VECTOR_TS, L_SCRATCH | 1},
        {VECTOR_NMI, GATE_TASK, main_nmi, VECTOR_TS, L_SCRATCH | 1},
        {VECTOR_GP, GATE_TASK, main_gp, VECTOR_DF, 0},
    };

    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        tasks_reset();
        handler_tss.ds = L_SCRATCH; /* an LDT, for example */
        legacy_set_descriptor(L_SCRATCH, 0, 0xff, 0x82, 0);
        task_set_gate(rows[i].gate, rows[i].type);
        legacy_run(rows[i].code);
        CHECK_EQ(legacy_trap.vector, rows[i].vector);
        CHECK_EQ(legacy_trap.error, rows[i].error);
        CHECK_EQ(legacy_trap.tr, L_HANDLER);
        CHECK_EQ(legacy_trap.eip, (uint64_t)task_entry);
        CHECK_EQ(task_seen.count, 0);
        irq_eoi();
    }
}

/* The SDM wants the handler of #TS to be a task: it finds the new task's selectors saved as they were in its TSS. */
static void expect_handler_of_new_task(unsigned vector, unsigned error)
{
    task_set_gate(vector, GATE_TASK);
    legacy_run(main_jmp);
    check_no_trap();
    CHECK_EQ(task_seen.tr, L_HANDLER);
    CHECK_EQ(handler_tss.link, L_TASK);
    CHECK_EQ(task_error_code(), error);
    CHECK_EQ(task_tss.eip, (uint64_t)task_entry);
    CHECK_EQ(task_tss.esi, 0xb0000006);
    CHECK_EQ(task_tss.cs, L_CODE32);
    CHECK(task_is_busy(L_TASK));
}

static void task_bad_segments_by_task(void)
{
    tasks_reset();
    task_tss.ss = 0;
    expect_handler_of_new_task(VECTOR_TS, 0);
    CHECK_EQ(task_tss.ss, 0);
    tasks_reset();
    task_tss.ss = L_USER_DATA;
    expect_handler_of_new_task(VECTOR_TS, L_USER_DATA & ~3);
    CHECK_EQ(task_tss.ss, L_USER_DATA);
    tasks_reset();
    task_tss.ss = L_SCRATCH;
    legacy_set_descriptor(L_SCRATCH, 0, 0xfffff, 0x13, 0xc);
    expect_handler_of_new_task(VECTOR_SS, L_SCRATCH);
    tasks_reset();
    task_tss.ldt = L_DATA;
    expect_handler_of_new_task(VECTOR_TS, L_DATA);
    tasks_reset();
    task_tss.ldt = L_LDT | 4;
    expect_handler_of_new_task(VECTOR_TS, L_LDT | 4);
}

const struct scenario l1_task_gate_scenarios[] = {
    {"l1-task-gate-software", task_gate_software, NULL},
    {"l1-task-gate-fault", task_gate_fault, NULL},
    {"l1-task-gate-error-code", task_gate_error_code, NULL},
    {"l1-task-gate-page-fault", task_gate_page_fault, NULL},
    {"l1-task-gate-double-fault", task_gate_double_fault, NULL},
    {"l1-task-gate-interrupt", task_gate_interrupt, NULL},
    {"l1-task-gate-nmi", task_gate_nmi, NULL},
    {"l1-task-bad-tss", task_bad_tss, NULL},
    {"l1-task-bad-segments", task_bad_segments, NULL},
    {"l1-task-gate-bad-segments", task_gate_bad_segments, NULL},
    {"l1-task-bad-segments-by-task", task_bad_segments_by_task, NULL},
    {NULL, NULL, NULL},
};
