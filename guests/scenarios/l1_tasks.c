/* Hardware task switches of L1 in 32-bit protected mode: the CPU does them when L1 runs bare, Nestor when it does
 * not. */
#include "guests/scenarios/l1_tasks.h"

#include "guests/lib/cpu.h"
#include "guests/lib/mem.h"

#define V86_BASE 0x8000u
#define DR6_INIT 0xffff0ff0u
#define DR6_BS BIT(14)
#define DR6_BT BIT(15)

struct task_registers task_seen, task_after;
uint32_t task_action, task_skip, task_window;
struct far_pointer task_far, task_back;

struct tss32 task_tss __attribute__((aligned(128))), handler_tss __attribute__((aligned(128)));
struct tss16 task_tss16 __attribute__((aligned(64)));
uint8_t task_stack[TASK_STACK_SIZE] __attribute__((aligned(16)));
uint8_t handler_stack[TASK_STACK_SIZE] __attribute__((aligned(16)));
static uint8_t inner_stack[TASK_STACK_SIZE] __attribute__((aligned(16)));

static struct tss32 new_tss(void (*code)(void), uint8_t *stack)
{
    return (struct tss32){
        .esp0 = address_of(inner_stack + TASK_STACK_SIZE),
        .ss0 = L_DATA,
        .cr3 = legacy_control.cr3,
        .eip = (uint32_t)(uint64_t)code,
        .eflags = EFLAGS_TASK,
        .eax = 0xb0000000,
        .ecx = 0xb0000001,
        .edx = 0xb0000002,
        .ebx = 0xb0000003,
        .esp = address_of(stack + TASK_STACK_SIZE),
        .ebp = 0xb0000005,
        .esi = 0xb0000006,
        .edi = 0xb0000007,
        .es = L_DATA,
        .cs = L_CODE32,
        .ss = L_DATA,
        .ds = L_DATA,
    };
}

void task_add_tss(unsigned selector, const void *tss, uint32_t size, unsigned access)
{
    legacy_set_descriptor(selector, address_of(tss), size - 1, access, 0);
}

void tasks_make(void)
{
    task_tss = new_tss(task_entry, task_stack);
    handler_tss = new_tss(task_entry, handler_stack);
    legacy_main_tss.cr3 = legacy_control.cr3;
    task_add_tss(L_TASK, &task_tss, sizeof(task_tss), 0x89);
    task_add_tss(L_HANDLER, &handler_tss, sizeof(handler_tss), 0x89);
    task_add_tss(L_TASK16, &task_tss16, sizeof(task_tss16), 0x81);
    memset(&task_seen, 0, sizeof(task_seen));
    memset(&task_after, 0, sizeof(task_after));
    task_action = ACTION_END;
    task_skip = task_window = 0;
    task_far.selector = L_TASK;
    task_back.selector = L_MAIN_TSS;
}

void tasks_reset(void)
{
    legacy_reset();
    tasks_make();
}

void check_no_trap(void)
{
    CHECK_EQ(legacy_trap.vector, LEGACY_NO_TRAP);
}

bool task_is_busy(unsigned selector)
{
    return legacy_access(selector) & 2;
}

void check_task_registers(void)
{
    CHECK_EQ(task_seen.eax, 0xb0000000);
    CHECK_EQ(task_seen.ecx, 0xb0000001);
    CHECK_EQ(task_seen.edx, 0xb0000002);
    CHECK_EQ(task_seen.ebx, 0xb0000003);
    CHECK_EQ(task_seen.ebp, 0xb0000005);
    CHECK_EQ(task_seen.esi, 0xb0000006);
    CHECK_EQ(task_seen.edi, 0xb0000007);
    CHECK_EQ(task_seen.cs, L_CODE32);
    CHECK_EQ(task_seen.ss, L_DATA);
    CHECK_EQ(task_seen.ds, L_DATA);
    CHECK_EQ(task_seen.fs, 0);
}

void check_main_registers(const struct task_registers *regs)
{
    CHECK_EQ(regs->eax, 0xa0000000);
    CHECK_EQ(regs->ecx, 0xa0000001);
    CHECK_EQ(regs->edx, 0xa0000002);
    CHECK_EQ(regs->ebx, 0xa0000003);
    CHECK_EQ(regs->ebp, 0xa0000005);
    CHECK_EQ(regs->esi, 0xa0000006);
    CHECK_EQ(regs->edi, 0xa0000007);
}

void task_set_gate(unsigned vector, unsigned type)
{
    legacy_idt[vector] = legacy_gate(type, L_HANDLER, 0);
}

uint32_t task_error_code(void)
{
    return *(uint32_t *)(handler_stack + TASK_STACK_SIZE - 4);
}

static void check_main_saved(const uint8_t *eip)
{
    const struct tss32 *tss = &legacy_main_tss;
    CHECK_EQ(tss->eip, address_of(eip));
    CHECK_EQ(tss->eax, 0xa0000000);
    CHECK_EQ(tss->ecx, 0xa0000001);
    CHECK_EQ(tss->edi, 0xa0000007);
    CHECK_EQ(tss->cs, L_CODE32);
    CHECK_EQ(tss->ss, L_DATA);
    CHECK_EQ(tss->ds, L_DATA);
}

/* JMP: everything is saved and loaded, the busy flags move, nothing is linked. */
static void task_jmp(void)
{
    tasks_reset();
    task_tss.link = 0x5a5a;
    task_tss.eflags |= RFLAGS_CF | RFLAGS_OF;
    legacy_run(main_jmp);
    check_no_trap();
    check_task_registers();
    CHECK_EQ(task_seen.esp, address_of(task_stack + TASK_STACK_SIZE));
    CHECK_EQ(task_seen.eflags, EFLAGS_TASK | RFLAGS_CF | RFLAGS_OF);
    CHECK_EQ(task_seen.tr, L_TASK);
    CHECK_EQ(task_seen.cr0 & CR0_TS, CR0_TS);
    CHECK_EQ(task_tss.link, 0x5a5a);
    CHECK(task_is_busy(L_TASK));
    CHECK(!task_is_busy(L_MAIN_TSS));
    check_main_saved(main_jmp_back);
}

static void task_jmp_back(void)
{
    tasks_reset();
    task_action = ACTION_JMP;
    legacy_run(main_jmp);
    check_no_trap();
    CHECK_EQ(task_seen.count, 1);
    CHECK_EQ(task_after.count, 1);
    check_main_registers(&task_after);
    CHECK_EQ(task_after.tr, L_MAIN_TSS);
    CHECK(!task_is_busy(L_TASK));
    CHECK(task_is_busy(L_MAIN_TSS));
}

/* CALL leaves the caller busy and linked; the task's IRET comes back to behind it. */
static void task_call_iret(void)
{
    tasks_reset();
    task_action = ACTION_IRET;
    legacy_run(main_call);
    check_no_trap();
    check_task_registers();
    CHECK_EQ(task_seen.eflags, EFLAGS_TASK | EFLAGS_NT);
    CHECK_EQ(task_tss.link, L_MAIN_TSS);
    CHECK_EQ(task_after.count, 1);
    check_main_registers(&task_after);
    CHECK_EQ(task_after.eflags & EFLAGS_NT, 0);
    CHECK_EQ(task_after.tr, L_MAIN_TSS);
    CHECK(task_is_busy(L_MAIN_TSS));
    CHECK(!task_is_busy(L_TASK));
    CHECK_EQ(task_tss.eflags & EFLAGS_NT, 0); /* IRET takes it out of the saved image */
}

static void task_call_gate(void)
{
    tasks_reset();
    legacy_gdt[L_GATE / 8] = legacy_gate(GATE_TASK, L_TASK, 0);
    task_far.selector = L_GATE;
    task_action = ACTION_IRET;
    legacy_run(main_call);
    check_no_trap();
    CHECK_EQ(task_seen.tr, L_TASK);
    CHECK_EQ(task_after.count, 1);
}

/* IRET goes where NT and the link say, whoever wrote them. */
static void task_iret_follows_link(void)
{
    tasks_reset();
    task_action = ACTION_IRET;
    task_tss.eflags |= EFLAGS_NT;
    task_tss.link = L_HANDLER;
    handler_tss.eax = 0xc0de;
    task_add_tss(L_HANDLER, &handler_tss, sizeof(handler_tss), 0x8b);
    handler_tss.eip = (uint32_t)(uint64_t)task_user; /* at CPL 0 here */
    legacy_run(main_jmp);
    CHECK_EQ(legacy_trap.vector, L_VECTOR_USER);
    CHECK_EQ(legacy_trap.tr, L_HANDLER);
    CHECK_EQ(task_seen.tr, L_TASK);
    CHECK(task_is_busy(L_HANDLER));
    CHECK(!task_is_busy(L_TASK));
}

/* 16-bit TSS: FS, GS and the upper halves are not in it. */
static void task_16_bit(void)
{
    tasks_reset();
    legacy_set_descriptor(L_SCRATCH, (uint32_t)(uint64_t)task_entry, 0xffff, 0x9b, 4);
    legacy_set_descriptor(L_DATA16, address_of(task_stack), TASK_STACK_SIZE - 1, 0x93, 0);
    task_tss16 = (struct tss16){.flags = EFLAGS_TASK,
                                .ax = 0xc000,
                                .dx = 0xc002,
                                .sp = TASK_STACK_SIZE,
                                .si = 0xc006,
                                .es = L_DATA,
                                .cs = L_SCRATCH,
                                .ss = L_DATA16,
                                .ds = L_DATA,
                                .link = 0x5a5a};
    task_far.selector = L_TASK16;
    task_action = ACTION_JMP;
    legacy_run(main_jmp);
    check_no_trap();
    CHECK_EQ(task_seen.eax & 0xffff, 0xc000);
    CHECK_EQ(task_seen.edx & 0xffff, 0xc002);
    CHECK_EQ(task_seen.esi & 0xffff, 0xc006);
    CHECK_EQ(task_seen.esp & 0xffff, TASK_STACK_SIZE);
    CHECK_EQ(task_seen.eflags, EFLAGS_TASK);
    CHECK_EQ(task_seen.cs, L_SCRATCH);
    CHECK_EQ(task_seen.fs, 0);
    CHECK_EQ(task_seen.ldt, 0);
    CHECK_EQ(task_seen.tr, L_TASK16);
    CHECK_EQ(task_after.count, 1);
    check_main_registers(&task_after);
    CHECK_EQ(task_tss16.cs, L_SCRATCH);
    CHECK_EQ(task_tss16.link, 0x5a5a);
    CHECK_EQ(task_tss16.sp, TASK_STACK_SIZE);
}

static void task_ldt(void)
{
    static uint32_t word = 0x600dda7a;

    tasks_reset();
    task_tss.ldt = L_LDT;
    task_tss.es = 8 | 4;
    task_tss.ss = 16 | 4;
    legacy_set_descriptor(8 | 4, address_of(&word), 3, 0x92, 4);
    legacy_set_descriptor(16 | 4, 0, 0xfffff, 0x92, 0xc);
    legacy_run(main_jmp);
    check_no_trap();
    CHECK_EQ(task_seen.ldt, L_LDT);
    CHECK_EQ(task_seen.es, 8 | 4);
    CHECK_EQ(task_seen.ss, 16 | 4);
    CHECK_EQ(legacy_access(8 | 4), 0x93);
    CHECK_EQ(legacy_access(16 | 4), 0x93);
}

static void task_user_mode(void)
{
    tasks_reset();
    task_tss.eip = (uint32_t)(uint64_t)task_user;
    task_tss.cs = L_USER_CODE;
    task_tss.ss = task_tss.ds = task_tss.es = L_USER_DATA;
    legacy_run(main_jmp);
    CHECK_EQ(legacy_trap.vector, L_VECTOR_USER);
    CHECK_EQ(legacy_trap.cs, L_USER_CODE);
    CHECK_EQ(legacy_trap.ss, L_USER_DATA);
    CHECK_EQ(legacy_trap.esp, address_of(task_stack + TASK_STACK_SIZE));
    CHECK_EQ(legacy_trap.tr, L_TASK);
}

static void task_v86_mode(void)
{
    tasks_reset();
    memcpy((void *)(uint64_t)V86_BASE, task_v86, (size_t)(task_v86_end - task_v86));
    task_tss.eip = 0;
    task_tss.eflags |= EFLAGS_VM;
    task_tss.cs = task_tss.ss = V86_BASE >> 4;
    task_tss.ds = 0x1234;
    task_tss.esp = 0x400;
    legacy_run(main_jmp);
    CHECK_EQ(legacy_trap.vector, VECTOR_GP);
    CHECK_EQ(legacy_trap.error, 0);
    CHECK_EQ(legacy_trap.eip, (uint64_t)(task_v86_end - task_v86) - 1);
    CHECK_EQ(legacy_trap.cs, V86_BASE >> 4);
    CHECK_EQ(legacy_trap.ss, V86_BASE >> 4);
    CHECK_EQ(legacy_trap.esp, 0x400);
    CHECK_EQ(legacy_trap.eflags & EFLAGS_VM, EFLAGS_VM);
    CHECK_EQ(legacy_trap.tr, L_TASK);
}

static void write_dr6(uint64_t value)
{
    asm volatile("mov %0, %%dr6" : : "r"(value));
}

/* The T flag: #DB with DR6.BT before the new task's first instruction. */
static void task_debug_trap(void)
{
    tasks_reset();
    task_tss.trap = 1;
    legacy_run(main_jmp);
    CHECK_EQ(legacy_trap.vector, VECTOR_DB);
    CHECK_EQ(legacy_trap.eip, (uint64_t)task_entry);
    CHECK_EQ(legacy_trap.dr6 & DR6_BT, DR6_BT);
    CHECK_EQ(legacy_trap.tr, L_TASK);
    CHECK_EQ(task_seen.count, 0);
    write_dr6(DR6_INIT);
}

/* The new task's TF: the trap comes behind its first instruction. */
static void task_single_step(void)
{
    tasks_reset();
    task_tss.eflags |= RFLAGS_TF;
    task_tss.eip = address_of(main_jmp_back); /* a store of 5 bytes comes first */
    legacy_run(main_jmp);
    CHECK_EQ(legacy_trap.vector, VECTOR_DB);
    CHECK_EQ(legacy_trap.dr6 & (DR6_BT | DR6_BS), DR6_BS);
    CHECK_EQ(legacy_trap.eip, address_of(main_jmp_back) + 5);
    write_dr6(DR6_INIT);
}

static void task_local_breakpoints(void)
{
    tasks_reset();
    legacy_run(main_debug);
    check_no_trap();
    CHECK_EQ(task_seen.dr7, 0x60a); /* GE, G0, G1 and the fixed bit */
}

const struct scenario l1_task_scenarios[] = {
    {"l1-task-jmp", task_jmp, NULL},
    {"l1-task-jmp-back", task_jmp_back, NULL},
    {"l1-task-call-iret", task_call_iret, NULL},
    {"l1-task-call-gate", task_call_gate, NULL},
    {"l1-task-iret-follows-link", task_iret_follows_link, NULL},
    {"l1-task-16-bit", task_16_bit, NULL},
    {"l1-task-ldt", task_ldt, NULL},
    {"l1-task-user-mode", task_user_mode, NULL},
    {"l1-task-v86-mode", task_v86_mode, NULL},
    {"l1-task-debug-trap", task_debug_trap, NULL},
    {"l1-task-single-step", task_single_step, NULL},
    {"l1-task-local-breakpoints", task_local_breakpoints, NULL},
    {NULL, NULL, NULL},
};
